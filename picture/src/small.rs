//! A spectrogram alone: no axes, no letters, a few kilobytes. It stands where something else names it.

use anyhow::{Result, ensure};

use crate::colour::magma;
use crate::spectrogram::{FrequencyAxis, spectrogram};

/// How far below the loudest part it reaches.
const RANGE_DB: f32 = 80.0;
/// A sound that never rises above this is drawn as silence.
const SILENCE_DB: f32 = -120.0;
/// The most that each side may be.
const MAX_SIDE: u32 = 4096;

/// The spectrogram of `samples` (mono, full scale ±1) as the bytes of a PNG of `width` x `height`
/// pixels: time to the right, frequency upwards on a logarithmic axis, the loudest part brightest.
///
/// # Errors
/// A side of no pixels, or of more than 4096.
pub fn spectrogram_png(samples: &[f32], rate_hz: u32, width: u32, height: u32) -> Result<Vec<u8>> {
    let allowed = 1..=MAX_SIDE;
    ensure!(
        allowed.contains(&width) && allowed.contains(&height),
        "a picture of {width} x {height}"
    );
    let axis = FrequencyAxis::audible(rate_hz);
    let picture = spectrogram(samples, rate_hz, width as usize, height as usize, axis);
    let top_db = if picture.peak_db() < SILENCE_DB { 0.0 } else { picture.peak_db() };
    let shade = |column, row| {
        let level = 1.0 + (picture.at(column, row) - top_db) / RANGE_DB;
        // A number becomes a byte by saturating.
        (level * f32::from(u8::MAX)).round() as u8
    };
    let rows = (0..picture.rows).rev();
    let pixels: Vec<u8> =
        rows.flat_map(|row| (0..picture.columns).map(move |column| shade(column, row))).collect();
    let palette = (0..=u8::MAX).flat_map(|shade| magma(f32::from(shade) / f32::from(u8::MAX)));

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.collect::<Vec<u8>>());
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(bytes);
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn a_high_sine_is_bright_at_the_top_and_a_low_one_at_the_bottom() {
        for (hz, row) in [(6_000.0, 2), (60.0, 35)] {
            let step = std::f64::consts::TAU * hz / 16_000.0;
            let sine: Vec<f32> =
                (0..16_000).map(|at| libm::sin(step * f64::from(at)) as f32).collect();
            let (width, height, pixels) = decoded(&spectrogram_png(&sine, 16_000, 30, 40).unwrap());
            assert_eq!((width, height), (30, 40));
            let brightness = |row: usize| u32::from(pixels[(row * 30 + 15) * 3 + 1]);
            let brightest = (0..40).max_by_key(|&row| brightness(row)).unwrap();
            assert!(brightest.abs_diff(row) <= 3, "{hz} Hz in row {brightest}");
            assert_eq!(brightness(if row > 20 { 2 } else { 35 }), 0);
        }
    }

    #[test]
    fn nothing_is_black_and_no_size_an_error() {
        let (_, _, pixels) = decoded(&spectrogram_png(&[], 16_000, 3, 2).unwrap());
        assert_eq!(pixels, magma(0.0).repeat(6));
        assert!(spectrogram_png(&[0.0], 16_000, 0, 9).is_err());
        assert!(spectrogram_png(&[0.0], 16_000, 9, 5000).is_err());
    }
}
