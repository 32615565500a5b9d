//! Reads a sound file into mono samples at the model's rate.
//!
//! Decode (symphonia) -> mean of the channels -> resample (rubato) -> clamp to [-1, 1], packet by
//! packet, so that a long recording is held in memory once only, and at the model's rate.
//!
//! A recording is taken whole or not at all: a file that ends early is refused with the second
//! after which it is damaged. Only MP3 and Ogg Vorbis may lose a few packets, which are counted.

mod resample;

use std::fs::File;
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use resample::MonoResampler;

/// Extensions (lower case) of the sound files that [`read_recording`] reads.
pub const READABLE_EXTENSIONS: [&str; 9] =
    ["wav", "wave", "flac", "mp3", "ogg", "oga", "aif", "aiff", "aifc"];

/// Extensions (lower case) of sound files that it does not read: known only to be named as such.
pub const UNREADABLE_EXTENSIONS: [&str; 11] =
    ["opus", "m4a", "aac", "mp4", "wma", "caf", "ape", "wv", "webm", "mka", "mp2"];

const SUPPORTED: &str = "convert it to WAV, FLAC, MP3, Ogg Vorbis or AIFF";

/// Source rates outside of this are taken for damage: 1 kHz to 768 kHz.
const SOURCE_RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// A source sample of at least this magnitude counts as clipped.
const CLIPPED: f32 = 0.999;

/// One sound file, decoded, mixed down and resampled.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Mono samples in [-1, 1]: round(source frames * `rate_hz` / `source_rate_hz`) of them.
    pub samples: Vec<f32>,
    /// The rate of `samples`.
    pub rate_hz: u32,
    /// The rate of the file.
    pub source_rate_hz: u32,
    /// How many channels the file has.
    pub source_channels: usize,
    /// Samples of the file, over all of its channels, with |x| >= 0.999.
    pub clipped_samples: usize,
    /// Packets of a lossy file (MP3, Vorbis) that could not be decoded and were left out.
    pub damaged_packets: usize,
}

/// Reads the sound file at `path` as mono at `rate_hz` (1 kHz to 192 kHz).
///
/// The resampler's delay is compensated: what sounds at second 0.5 of the file sounds at second
/// 0.5 of the result.
///
/// # Errors
///
/// One line that begins with the path: the file cannot be opened, is of a kind that is not read
/// here, is cut short or damaged, holds no samples, or holds samples that are not finite numbers.
pub fn read_recording(path: &Path, rate_hz: u32) -> Result<Recording> {
    check_rate(rate_hz)?;
    decode_file(path, rate_hz).map_err(|reason| anyhow!("{} {reason:#}", path.display()))
}

/// # Errors
///
/// `rate_hz` is none that a model can have.
pub(crate) fn check_rate(rate_hz: u32) -> Result<()> {
    let rates_hz = 1_000..=192_000;
    ensure!(
        rates_hz.contains(&rate_hz),
        "a rate of {rate_hz} Hz is not between 1000 and 192000 Hz"
    );
    Ok(())
}

/// [`read_recording`] at a checked rate, its error without the path: a sentence that wants the
/// file's name in front.
pub(crate) fn decode_file(path: &Path, rate_hz: u32) -> Result<Recording> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    if let Some(other) = extension.as_deref().filter(|e| UNREADABLE_EXTENSIONS.contains(e)) {
        bail!("is an .{other} file, which is not read here: {SUPPORTED}");
    }
    // The decoders are other people's code, fed with other people's bytes: if one panics, that
    // costs this file, not the corpus.
    catch_unwind(|| decode(path, extension.as_deref().unwrap_or_default(), rate_hz))
        .unwrap_or_else(|_| Err(anyhow!("makes its decoder fail: re-export it or remove it")))
}

/// An opened file: its container, the decoder of its first sound track, and what it promises.
struct Source {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    /// Frames that the header promises; MP3 headers are estimates and promise nothing.
    promised_frames: Option<u64>,
    /// MP3 and Vorbis: a bad packet may be left out.
    lossy: bool,
    /// Ogg marks its last page, so that an end without one is a cut.
    end_is_marked: bool,
}

fn open(path: &Path, extension: &str) -> Result<Source> {
    let file = File::open(path).context("cannot be opened")?;
    let metadata = file.metadata().context("cannot be read")?;
    ensure!(metadata.is_file(), "is not a file");
    ensure!(metadata.len() > 0, "is an empty file: re-export it or remove it");
    let mut hint = Hint::new();
    hint.with_extension(extension);
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| match error {
            SymphoniaError::Unsupported(_) => {
                anyhow!("is in a format that is not read here: {SUPPORTED}")
            }
            SymphoniaError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                anyhow!("cannot be read: {error}")
            }
            other => damaged(&other.to_string(), 0.0),
        })?;

    let track = format.default_track(TrackType::Audio).context("holds no sound")?;
    let parameters =
        track.codec_params.as_ref().and_then(|p| p.audio()).context("holds no sound")?;
    if parameters.codec == CODEC_ID_OPUS {
        bail!("holds Opus, which is not read here: {SUPPORTED}");
    }
    let lossy = parameters.codec == CODEC_ID_MP3 || parameters.codec == CODEC_ID_VORBIS;
    Ok(Source {
        decoder: make_decoder(parameters)?,
        track_id: track.id,
        promised_frames: track.num_frames.filter(|_| !lossy),
        lossy,
        end_is_marked: parameters.codec == CODEC_ID_VORBIS,
        format,
    })
}

fn make_decoder(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| match error {
            SymphoniaError::Unsupported(_) => {
                anyhow!("is coded in a way that is not read here: {SUPPORTED}")
            }
            other => damaged(&other.to_string(), 0.0),
        })
}

fn damaged(why: &str, after_seconds: f64) -> anyhow::Error {
    let place =
        if after_seconds > 0.0 { format!(" after {after_seconds:.1} s") } else { String::new() };
    anyhow!("is cut short or damaged{place} ({why}): re-export it or remove it")
}

fn decode(path: &Path, extension: &str, rate_hz: u32) -> Result<Recording> {
    let mut source = open(path, extension)?;
    let mut mixer = Mixer::new(rate_hz);
    let (mut packets, mut damaged_packets) = (0_usize, 0_usize);
    let mut interleaved = Vec::new();
    loop {
        let packet = match source.format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(SymphoniaError::IoError(error))
                if error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                if source.end_is_marked {
                    return Err(damaged("its end is missing", mixer.seconds()));
                }
                break;
            }
            Err(SymphoniaError::ResetRequired) => {
                bail!("holds several streams one after the other: split it or re-export it")
            }
            Err(error) => return Err(damaged(&error.to_string(), mixer.seconds())),
        };
        if packet.track_id != source.track_id {
            continue;
        }
        packets += 1;
        if !source.lossy && packet.pts.get() != mixer.frames as i64 {
            return Err(damaged("a part is missing", mixer.seconds()));
        }
        match source.decoder.decode(&packet) {
            Ok(buffer) => {
                let spec = buffer.spec();
                let (source_rate_hz, channels) = (spec.rate(), spec.channels().count());
                buffer.copy_to_vec_interleaved(&mut interleaved);
                mixer.push(&interleaved, source_rate_hz, channels)?;
            }
            Err(SymphoniaError::DecodeError(_)) if source.lossy => damaged_packets += 1,
            Err(error) => return Err(damaged(&error.to_string(), mixer.seconds())),
        }
    }
    if source.promised_frames.is_some_and(|promised| mixer.frames < promised) {
        return Err(damaged("its end is missing", mixer.seconds()));
    }
    // A cut MP3 may begin with a packet or two that lean on lost ones; more is damage.
    if damaged_packets > 2 && damaged_packets * 20 > packets {
        bail!("has {damaged_packets} damaged packets of {packets}: re-export it or remove it");
    }
    mixer.finish(damaged_packets)
}

/// Mixes interleaved packets down to mono and feeds the resampler.
struct Mixer {
    rate_hz: u32,
    source_rate_hz: u32,
    source_channels: usize,
    resampler: Option<MonoResampler>,
    frames: u64,
    clipped_samples: usize,
}

impl Mixer {
    fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            source_rate_hz: 0,
            source_channels: 0,
            resampler: None,
            frames: 0,
            clipped_samples: 0,
        }
    }

    /// Seconds of the source taken so far.
    fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.source_rate_hz.max(1))
    }

    /// `interleaved`: `[frames][channels]`.
    fn push(&mut self, interleaved: &[f32], source_rate_hz: u32, channels: usize) -> Result<()> {
        let resampler = match &mut self.resampler {
            Some(resampler) => {
                ensure!(
                    source_rate_hz == self.source_rate_hz,
                    "changes its sample rate on the way: re-export it or remove it"
                );
                resampler
            }
            none => {
                ensure!(
                    SOURCE_RATES_HZ.contains(&source_rate_hz),
                    "claims a sample rate of {source_rate_hz} Hz: re-export it or remove it"
                );
                self.source_rate_hz = source_rate_hz;
                none.insert(MonoResampler::new(source_rate_hz, self.rate_hz)?)
            }
        };
        self.source_channels = self.source_channels.max(channels);
        let scale = 1.0 / channels.max(1) as f32;
        for frame in interleaved.chunks_exact(channels.max(1)) {
            let mut sum = 0.0;
            for &sample in frame {
                ensure!(
                    sample.is_finite(),
                    "holds a sample that is no number (NaN or infinite) at {:.1} s: re-export it \
                     or remove it",
                    self.frames as f64 / f64::from(source_rate_hz)
                );
                self.clipped_samples += usize::from(sample.abs() >= CLIPPED);
                sum += sample;
            }
            resampler.push(sum * scale)?;
            self.frames += 1;
        }
        Ok(())
    }

    fn finish(self, damaged_packets: usize) -> Result<Recording> {
        let mut samples = match self.resampler {
            Some(resampler) => resampler.finish()?,
            None => Vec::new(),
        };
        ensure!(!samples.is_empty(), "holds no samples");
        for sample in &mut samples {
            *sample = sample.clamp(-1.0, 1.0);
        }
        Ok(Recording {
            samples,
            rate_hz: self.rate_hz,
            source_rate_hz: self.source_rate_hz,
            source_channels: self.source_channels,
            clipped_samples: self.clipped_samples,
            damaged_packets,
        })
    }
}

#[cfg(test)]
mod tests;
