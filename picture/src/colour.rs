//! Colours: magma, a map whose steps look equal to the eye, and the picture's few others.
//!
//! Magma by Nathaniel Smith and Stéfan van der Walt (CC0), here at 17 points with straight lines
//! between them.

use plotters::style::RGBColor;

/// Behind everything.
pub(crate) const BACKGROUND: RGBColor = RGBColor(13, 12, 20);
/// Behind the waveform.
pub(crate) const PANEL: RGBColor = RGBColor(20, 18, 30);
/// Lines that help the eye.
pub(crate) const GRID: RGBColor = RGBColor(44, 41, 58);
/// Frames and ticks.
pub(crate) const FRAME: RGBColor = RGBColor(92, 88, 110);
/// Labels.
pub(crate) const LABEL: RGBColor = RGBColor(190, 186, 204);
/// The title.
pub(crate) const TITLE: RGBColor = RGBColor(246, 243, 250);
/// The waveform from its lowest to its highest sample.
pub(crate) const PEAK: RGBColor = RGBColor(150, 48, 126);
/// The waveform's root mean square.
pub(crate) const RMS: RGBColor = RGBColor(252, 137, 97);

const MAGMA: [[u8; 3]; 17] = [
    [0, 0, 4],
    [10, 8, 34],
    [29, 17, 71],
    [54, 16, 107],
    [81, 18, 124],
    [106, 28, 129],
    [131, 38, 129],
    [156, 46, 127],
    [183, 55, 121],
    [208, 65, 111],
    [231, 82, 99],
    [245, 107, 92],
    [252, 137, 97],
    [254, 167, 114],
    [254, 196, 136],
    [253, 226, 163],
    [252, 253, 191],
];

/// Magma at `level`: 0 is black, 1 nearly white; beyond them the ends.
pub(crate) fn magma(level: f32) -> [u8; 3] {
    let steps = MAGMA.len() - 1;
    let place = level.clamp(0.0, 1.0) * steps as f32;
    let below = (place as usize).min(steps - 1);
    let fraction = place - below as f32;
    std::array::from_fn(|channel| {
        let from = f32::from(MAGMA[below][channel]);
        let to = f32::from(MAGMA[below + 1][channel]);
        (from + (to - from) * fraction).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magma_grows_lighter_all_the_way() {
        let luma = |level: f32| {
            let [red, green, blue] = magma(level).map(f32::from);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        assert!((0..100).all(|at| luma(at as f32 / 100.0) < luma((at + 1) as f32 / 100.0)));
        assert_eq!(magma(-3.0), MAGMA[0]);
        assert_eq!(magma(f32::INFINITY), MAGMA[16]);
    }
}
