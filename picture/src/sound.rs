//! A picture of a sound: its waveform, and below it its spectrogram over the same seconds.
//!
//! Each column of the waveform spans its lowest to its highest sample, its root mean square brighter
//! inside. The spectrogram shows the 80 dB below the loudest of its parts (rounded up to 10 dB) on
//! a logarithmic axis of frequency, on which every octave is as high as every other.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;
use wavenet_engine::files;

use crate::canvas::{self, Canvas, Drawn, FINENESS};
use crate::colour::{self, magma};
use crate::envelope::envelope;
use crate::spectrogram::{FrequencyAxis, Spectrogram, spectrogram};
use crate::ticks;

/// The picture's size in pixels.
const SIZE: (u32, u32) = (1600, 900);
/// The columns of both panels, from the first to the one past the last.
const LEFT: f32 = 124.0;
const RIGHT: f32 = 1490.0;
/// The rows of the waveform, and of the spectrogram.
const WAVEFORM: (f32, f32) = (92.0, 292.0);
const SPECTRUM: (f32, f32) = (324.0, 820.0);
/// The columns of the colour bar.
const BAR: (f32, f32) = (1512.0, 1532.0);
const TICK: f32 = 6.0;

/// A dot, the finest step, and the panels counted in it.
const DOT: f32 = 1.0 / FINENESS as f32;
const COLUMNS: usize = ((RIGHT - LEFT) / DOT) as usize;
const ROWS: usize = ((SPECTRUM.1 - SPECTRUM.0) / DOT) as usize;

const TITLE_SIZE: f32 = 32.0;
const LABEL_SIZE: f32 = 20.0;

/// How far below the loudest part the spectrogram reaches.
const RANGE_DB: f32 = 80.0;
/// A sound that never rises above this is drawn as silence.
const SILENCE_DB: f32 = -120.0;

/// Draws `samples` (mono, full scale ±1) at `rate_hz` into a PNG file of 1600 x 900 pixels.
///
/// The file is written beside and renamed: `path` holds a whole picture or what it held before.
///
/// # Errors
/// If there are no samples, the rate is 0, or the file cannot be written.
pub fn write_png(path: &Path, samples: &[f32], rate_hz: u32, title: &str) -> Result<()> {
    ensure!(!samples.is_empty() && rate_hz > 0, "there is no sound to draw");
    // The encoder reads the format from the name's end.
    let file = files::beside(&path.with_extension("png"))?;
    canvas::paint(file.path(), SIZE, |canvas| draw(canvas, samples, rate_hz, title))
        .map_err(|why| anyhow!("cannot write {}: {why}", path.display()))?;
    Ok(files::finish(file, path)?)
}

fn draw(canvas: &Canvas, samples: &[f32], rate_hz: u32, title: &str) -> Drawn {
    let duration_s = samples.len() as f64 / f64::from(rate_hz);
    let axis = FrequencyAxis::audible(rate_hz);
    let picture = spectrogram(samples, rate_hz, COLUMNS, ROWS, axis);
    let top_db = match picture.peak_db() {
        peak_db if peak_db < SILENCE_DB => 0.0,
        peak_db => (peak_db / 10.0).ceil() * 10.0,
    };

    canvas.fill((0.0, 0.0), (SIZE.0 as f32, SIZE.1 as f32), colour::BACKGROUND)?;
    draw_heading(canvas, title, &summary(samples, rate_hz, duration_s))?;
    draw_waveform(canvas, samples)?;
    draw_spectrum(canvas, &picture, top_db)?;
    draw_seconds(canvas, duration_s)?;
    draw_bar(canvas, top_db)
}

/// Length, rate and peak in words.
fn summary(samples: &[f32], rate_hz: u32, duration_s: f64) -> String {
    let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    let peak = match 20.0 * libm::log10f(peak) {
        peak_db if peak_db < SILENCE_DB => "silence".to_owned(),
        peak_db => format!("peak {} dBFS", ticks::signed(peak_db, 1)),
    };
    let decimals = if duration_s < 10.0 { 3 } else { 1 };
    let rate_khz = f64::from(rate_hz) / 1e3;
    format!("{duration_s:.decimals$} s   \u{b7}   {rate_khz} kHz   \u{b7}   {peak}")
}

fn draw_heading(canvas: &Canvas, title: &str, summary: &str) -> Drawn {
    let room = RIGHT - LEFT - canvas.text_width(summary, LABEL_SIZE)? - 40.0;
    let title = fit(canvas, title, room)?;
    canvas.text(&title, (LEFT, 52.0), HPos::Left, TITLE_SIZE, colour::TITLE)?;
    canvas.text(summary, (RIGHT, 56.0), HPos::Right, LABEL_SIZE, colour::LABEL)
}

/// As much of `title`'s first line as fits into `room` pixels.
fn fit(canvas: &Canvas, title: &str, room: f32) -> Drawn<String> {
    let mut kept: String = title.lines().next().unwrap_or("").trim().chars().take(300).collect();
    let mut shown = kept.clone();
    while !kept.is_empty() && canvas.text_width(&shown, TITLE_SIZE)? > room {
        kept.pop();
        shown = format!("{}\u{2026}", kept.trim_end());
    }
    Ok(shown)
}

fn draw_waveform(canvas: &Canvas, samples: &[f32]) -> Drawn {
    let (top, bottom) = WAVEFORM;
    let row = |sample: f32| top + (1.0 - sample.clamp(-1.0, 1.0)) / 2.0 * (bottom - top);
    frame(canvas, WAVEFORM)?;
    canvas.fill((LEFT, top), (RIGHT, bottom), colour::PANEL)?;
    for sample in [-0.5, 0.0, 0.5] {
        let y = row(sample);
        canvas.fill((LEFT, y - DOT), (RIGHT, y + DOT), colour::GRID)?;
    }
    if samples.len() < 2 * COLUMNS {
        for (at, column) in envelope(samples, COLUMNS).iter().enumerate() {
            let x = LEFT + at as f32 * DOT;
            let (high, low) = (row(column.high) - 1.0, row(column.low) + 1.0);
            let (left, right) = ((x - DOT).max(LEFT), (x + 2.0 * DOT).min(RIGHT));
            canvas.fill((left, high.max(top)), (right, low.min(bottom)), colour::RMS)?;
        }
    } else {
        for (at, column) in envelope(samples, COLUMNS / FINENESS as usize).iter().enumerate() {
            let x = LEFT + at as f32;
            // A dot more at either end, so that silence shows.
            let (high, low) = (row(column.high) - DOT, row(column.low) + DOT);
            canvas.fill((x, high.max(top)), (x + 1.0, low.min(bottom)), colour::PEAK)?;
            let (high, low) = (row(column.rms).max(high), row(-column.rms).min(low));
            canvas.fill((x, high), (x + 1.0, low.max(high)), colour::RMS)?;
        }
    }
    for (sample, decimals) in [(1.0, 0), (0.5, 1), (0.0, 0), (-0.5, 1), (-1.0, 0)] {
        tick_left(canvas, row(sample), &ticks::signed(sample, decimals))?;
    }
    name_left(canvas, WAVEFORM, "amplitude")
}

fn draw_spectrum(canvas: &Canvas, picture: &Spectrogram, top_db: f32) -> Drawn {
    let (_, bottom) = SPECTRUM;
    frame(canvas, SPECTRUM)?;
    for column in 0..picture.columns {
        let x = LEFT + column as f32 * DOT;
        for row in 0..picture.rows {
            let y = bottom - row as f32 * DOT;
            let level = 1.0 + (picture.at(column, row) - top_db) / RANGE_DB;
            canvas.fill((x, y - DOT), (x + DOT, y), rgb(magma(level)))?;
        }
    }
    for (frequency_hz, label) in ticks::hertz(picture.axis.low_hz, picture.axis.high_hz) {
        let place = picture.axis.position(frequency_hz) as f32;
        tick_left(canvas, bottom - place * (SPECTRUM.1 - SPECTRUM.0), &label)?;
    }
    name_left(canvas, SPECTRUM, "frequency")
}

fn draw_seconds(canvas: &Canvas, duration_s: f64) -> Drawn {
    for (second, label) in ticks::seconds(duration_s) {
        let x = LEFT + (second / duration_s) as f32 * (RIGHT - LEFT);
        for (_, bottom) in [WAVEFORM, SPECTRUM] {
            canvas.fill((x - DOT, bottom + 1.0), (x + DOT, bottom + 1.0 + TICK), colour::FRAME)?;
        }
        canvas.text(&label, (x, SPECTRUM.1 + 20.0), HPos::Center, LABEL_SIZE, colour::LABEL)?;
    }
    let middle = ((LEFT + RIGHT) / 2.0, SPECTRUM.1 + 50.0);
    canvas.text("seconds", middle, HPos::Center, LABEL_SIZE, colour::LABEL)
}

fn draw_bar(canvas: &Canvas, top_db: f32) -> Drawn {
    let (top, bottom) = SPECTRUM;
    for row in 0..ROWS {
        let y = bottom - row as f32 * DOT;
        let colour = rgb(magma(row as f32 / (ROWS - 1) as f32));
        canvas.fill((BAR.0, y - DOT), (BAR.1, y), colour)?;
    }
    for (level_db, label) in ticks::decibels(top_db - RANGE_DB, top_db) {
        let y = top + (top_db - level_db) / RANGE_DB * (bottom - top);
        canvas.fill((BAR.1, y - DOT), (BAR.1 + TICK, y + DOT), colour::FRAME)?;
        canvas.text(&label, (BAR.1 + 12.0, y), HPos::Left, LABEL_SIZE, colour::LABEL)?;
    }
    canvas.text("dBFS", (BAR.0, top - 32.0), HPos::Left, LABEL_SIZE, colour::LABEL)
}

/// A tick and its label at the left of a panel.
fn tick_left(canvas: &Canvas, y: f32, label: &str) -> Drawn {
    canvas.fill((LEFT - 1.0 - TICK, y - DOT), (LEFT - 1.0, y + DOT), colour::FRAME)?;
    canvas.text(label, (LEFT - 14.0, y), HPos::Right, LABEL_SIZE, colour::LABEL)
}

/// The name of a panel's upright axis.
fn name_left(canvas: &Canvas, (top, bottom): (f32, f32), name: &str) -> Drawn {
    canvas.text_upwards(name, (30.0, (top + bottom) / 2.0), LABEL_SIZE, colour::LABEL)
}

/// Fills a panel with what shows as a frame of one pixel once the panel itself is drawn.
fn frame(canvas: &Canvas, (top, bottom): (f32, f32)) -> Drawn {
    canvas.fill((LEFT - 1.0, top - 1.0), (RIGHT + 1.0, bottom + 1.0), colour::FRAME)
}

fn rgb([red, green, blue]: [u8; 3]) -> RGBColor {
    RGBColor(red, green, blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the picture and gives its bytes.
    fn written(samples: &[f32], rate_hz: u32, title: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.picture");
        write_png(&path, samples, rate_hz, title).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something left beside");
        std::fs::read(path).unwrap()
    }

    fn click(frames: usize) -> Vec<f32> {
        let mut samples = vec![0.0; frames];
        samples[frames / 3] = 1.0;
        samples
    }

    #[test]
    fn a_png_of_the_promised_size_whatever_the_sound() {
        let long_title = "\u{1f3b9} glyphs \u{4e00} unknown ".repeat(40) + "\nand lines";
        for (samples, rate_hz) in [
            (click(800), 16_000),
            (click(1), 1),
            (vec![f32::MAX, f32::MIN, 1e-40, f32::INFINITY, f32::NAN], u32::MAX),
        ] {
            let png = written(&samples, rate_hz, &long_title);
            assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
            assert_eq!(png[16..24], [0, 0, 0x06, 0x40, 0, 0, 0x03, 0x84]);
        }
    }

    #[test]
    fn different_sounds_give_different_pictures() {
        let silence = written(&[0.0; 800], 16_000, "a");
        assert!(silence == written(&[0.0; 800], 16_000, "a"));
        assert!(silence != written(&[0.0; 800], 16_000, "b"));
        assert!(silence != written(&click(800), 16_000, "a"));
    }

    #[test]
    fn no_sound_and_no_folder_are_errors_of_one_line() {
        let nowhere = Path::new("/nonexistent/folder/a.png");
        for (samples, rate_hz) in [(&[][..], 16_000), (&[0.0][..], 0), (&[0.0][..], 8_000)] {
            let error = write_png(nowhere, samples, rate_hz, "").unwrap_err();
            assert!(!format!("{error:#}").contains('\n'), "{error:#}");
        }
    }
}
