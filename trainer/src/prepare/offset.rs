//! Takes away the constant that some recorders add to every sample.
//!
//! It is not heard in the recording, but a model learns it, and plays it: then it is a click at each beginning
//! and end, and mu-law's fine codes, which lie around 0, go unused.

/// A mean of less (of full scale) stays: it does no harm, and short sounds have one of their own.
const LARGEST_MEAN: f64 = 1.0 / 200.0;

/// Takes the mean of a recording away where it is large, and gives what was taken, else 0. What would then exceed
/// full scale is made softer as a whole: clipping is heard.
pub(super) fn take_away_offset(samples: &mut [f32]) -> f32 {
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample)).sum();
    let mean = sum / samples.len().max(1) as f64;
    if mean.abs() <= LARGEST_MEAN {
        return 0.0;
    }
    let centred = |sample: f32| f64::from(sample) - mean;
    let peak = samples.iter().fold(1.0, |peak: f64, &sample| peak.max(centred(sample).abs()));
    for sample in samples {
        *sample = (centred(*sample) / peak) as f32;
    }
    mean as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole periods of a sine on a constant.
    fn sine(level: f32, mean: f32) -> Vec<f32> {
        let turn = |n: u16| f32::from(n % 100) / 100.0 * std::f32::consts::TAU;
        (0..2_000).map(|n| mean + level * libm::sinf(turn(n))).collect()
    }

    #[test]
    fn a_large_mean_goes_and_a_small_one_stays_to_the_bit() {
        for mean in [0.0, 0.0049, -0.0049] {
            let mut samples = sine(0.5, mean);
            assert_eq!(take_away_offset(&mut samples), 0.0);
            assert_eq!(samples, sine(0.5, mean));
        }
        for mean in [0.36, -0.36, 0.0051] {
            let mut samples = sine(0.5, mean);
            assert!((take_away_offset(&mut samples) - mean).abs() < 1e-6);
            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(samples.iter().zip(&sine(0.5, 0.0)).all(is_near));
            assert_eq!(take_away_offset(&mut samples), 0.0);
        }
        assert_eq!(take_away_offset(&mut []), 0.0);
    }

    #[test]
    fn nothing_is_clipped() {
        // Full scale below, and most of the time above.
        let mut samples = [vec![0.6; 900], vec![-1.0; 100]].concat();
        let mean = take_away_offset(&mut samples);
        assert!((mean - 0.44).abs() < 1e-6);
        assert_eq!(samples[999], -1.0);
        assert!((samples[0] - 0.16 / 1.44).abs() < 1e-6);
    }
}
