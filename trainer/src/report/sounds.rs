//! Recordings and what the model makes of them, as pictures and players that a page can hold.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wavenet_engine::Weights;
use wavenet_picture::spectrogram_png;

use crate::clip::Clip;
use crate::listening::{examples, level_db};
use crate::prepared::Prepared;

/// Pixels of a spectrogram; the page shows it at half that size.
const PICTURE: (u32, u32) = (720, 320);

/// A recording beside what the model plays.
pub(super) struct Pair {
    pub(super) title: String,
    /// The recording's name.
    pub(super) name: String,
    pub(super) real: Sound,
    pub(super) generated: Sound,
}

/// A sound for a page.
pub(super) struct Sound {
    /// `data:` URIs of a WAV and a PNG.
    pub(super) wav: String,
    pub(super) png: String,
    pub(super) seconds: f64,
    pub(super) level_db: f64,
}

/// At most `most` pairs.
pub(super) fn pairs(prepared: &Prepared, weights: &Weights, most: usize) -> Result<Vec<Pair>> {
    let examples = examples(prepared, weights.config())?;
    let pair = |example: crate::listening::Example| -> Result<Pair> {
        let generated = Clip::play(weights, &example.wanted)?;
        Ok(Pair {
            title: example.title,
            name: example.name,
            real: sound(&example.real)?,
            generated: sound(&generated)?,
        })
    };
    examples.into_iter().take(most).map(pair).collect()
}

fn sound(clip: &Clip) -> Result<Sound> {
    let uri = |kind: &str, bytes: &[u8]| format!("data:{kind};base64,{}", STANDARD.encode(bytes));
    let png = spectrogram_png(&clip.samples, clip.rate_hz, PICTURE.0, PICTURE.1)?;
    Ok(Sound {
        wav: uri("audio/wav", &clip.wav()?),
        png: uri("image/png", &png),
        seconds: clip.samples.len() as f64 / f64::from(clip.rate_hz),
        level_db: level_db(&clip.samples),
    })
}
