//! The outline of a waveform, one column of pixels at a time.

/// What the samples of one column reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) low: f32,
    pub(crate) high: f32,
    /// Root mean square.
    pub(crate) rms: f32,
}

/// The envelope of `samples` in `columns` columns, the samples joined by straight lines.
///
/// Neighbouring columns share the value at their border, so the outline has no gaps, also where
/// there are fewer samples than columns. Samples that are not finite count as silence.
pub(crate) fn envelope(samples: &[f32], columns: usize) -> Vec<Envelope> {
    let last = samples.len().saturating_sub(1);
    let sample = |at: usize| samples.get(at).copied().filter(|sample| sample.is_finite());
    let sample = |at: usize| sample(at).unwrap_or(0.0).clamp(-1e3, 1e3);
    let border = |column: usize| {
        let place = column as f64 / columns as f64 * last as f64;
        let (below, fraction) = (place as usize, place.fract() as f32);
        let value = sample(below) * (1.0 - fraction) + sample((below + 1).min(last)) * fraction;
        (place, value)
    };
    let column = |column: usize| {
        let ((from, left), (to, right)) = (border(column), border(column + 1));
        let inside = (from as usize + 1..=to as usize).map(sample);
        let mut found = Envelope { low: left.min(right), high: left.max(right), rms: 0.0 };
        let (mut power, mut count) = (left * left + right * right, 2.0);
        for value in inside {
            found.low = found.low.min(value);
            found.high = found.high.max(value);
            power += value * value;
            count += 1.0;
        }
        found.rms = (power / count).sqrt();
        found
    };
    (0..columns).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_seen_once_there_are_many() {
        let mut samples = vec![0.0; 10_000];
        samples[4_321] = 0.9;
        samples[9_999] = -0.7;
        let columns = envelope(&samples, 100);
        assert_eq!(columns.len(), 100);
        let reached: Vec<_> = (0..100).filter(|&at| columns[at].high > 0.0).collect();
        assert_eq!(reached, [43]);
        assert_eq!((columns[43].high, columns[43].low), (0.9, 0.0));
        assert_eq!(columns[99].low, -0.7);
        assert!(columns[43].rms > 0.0 && columns[43].rms < 0.9);
    }

    #[test]
    fn few_samples_become_a_line_without_gaps() {
        let columns = envelope(&[0.0, 1.0, -1.0], 50);
        assert!(
            columns
                .windows(2)
                .all(|pair| pair[0].high >= pair[1].low && pair[1].high >= pair[0].low)
        );
        assert!(columns.iter().any(|column| column.high > 0.99));
        assert_eq!(columns[49].low, -1.0);
    }

    #[test]
    fn nothing_and_the_infinite_are_silence() {
        let flat = Envelope { low: 0.0, high: 0.0, rms: 0.0 };
        assert_eq!(envelope(&[], 3), [flat; 3]);
        assert_eq!(envelope(&[f32::NAN, f32::INFINITY], 3), [flat; 3]);
        assert_eq!(envelope(&[0.0], 0), []);
    }
}
