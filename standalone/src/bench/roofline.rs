//! How near a measurement comes to what this core can do, measured in the same run.
//!
//! A step reads B bytes of weights and makes P multiply-adds for each of V voices. By the bandwidth
//! at which a buffer as large as all weights is read (so from the cache that they fall into), and
//! by the peak rate of multiply-adds, it takes at least
//!
//! ```text
//! max(B / bandwidth, V P / rate)   seconds
//! ```
//!
//! The larger of the two is the roof; the share is that time over the time that a step took. All three
//! times are the best of many short looks: what else the machine does interrupts a loop, and would
//! hide how good it is.

use std::time::Duration;

use serde::Serialize;
use wavenet_engine::kernels::Work;
use wavenet_engine::kernels::roof::{Roof, best_rate};
use wavenet_engine::{Dtype, Packed};

/// Larger than any first cache, smaller than any second one.
const L2_BYTES: usize = 192 << 10;
/// What all looks at the three rates may take, of the time that the steps take.
const PART_OF_TIME: f64 = 0.1;
/// And at most.
const MOST: Duration = Duration::from_millis(60);

/// What bounds a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    /// Reading the weights.
    Reads,
    /// Multiplying and adding.
    MultiplyAdds,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Reads => "reads",
            Self::MultiplyAdds => "multiply-adds",
        })
    }
}

/// The loops whose rates are the roofs of one packed model.
pub(super) struct Roofs {
    weights: Roof,
    l2: Roof,
    dtype: Dtype,
    rates: Rates,
}

/// The highest that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    /// Of a buffer as large as the weights.
    weights_bytes_per_second: f64,
    l2_bytes_per_second: f64,
    multiply_adds_per_second: f64,
}

impl Roofs {
    pub(super) fn new(packed: &Packed, dtype: Dtype) -> Self {
        let weight_bytes = packed.work().weight_bytes as usize;
        let [weights, l2] = [weight_bytes, L2_BYTES].map(|bytes| Roof::new(packed, bytes));
        Self { weights, l2, dtype, rates: Rates::default() }
    }

    /// Looks at every rate, for a part of the time that the steps are given.
    pub(super) fn look(&mut self, seconds: f64) {
        let time = Duration::from_secs_f64(seconds * PART_OF_TIME).min(MOST) / 3;
        let rates = &mut self.rates;
        raise(&mut rates.weights_bytes_per_second, time, || self.weights.read());
        raise(&mut rates.l2_bytes_per_second, time, || self.l2.read());
        raise(&mut rates.multiply_adds_per_second, time, || self.weights.multiply_add(self.dtype));
    }

    pub(super) fn rates(&self) -> Rates {
        self.rates
    }
}

/// Raises a rate to the best of several looks.
fn raise(rate: &mut f64, time: Duration, work: impl Fn() -> u64) {
    *rate = rate.max(best_rate(time, work));
}

/// A measurement beside its roof; the JSON has these names.
#[derive(Debug, Serialize)]
pub(super) struct Roofline {
    weight_bytes: u64,
    weight_bytes_read_per_step: u64,
    multiply_adds_per_step: u64,
    weight_read_bytes_per_second: f64,
    l2_read_bytes_per_second: f64,
    multiply_adds_per_second: f64,
    roof: Bound,
    roof_steps_per_second: f64,
    best_steps_per_second: f64,
    share_of_roof: f64,
}

impl Roofline {
    pub(super) fn new(work: Work, voices: usize, rates: Rates, best_steps_per_second: f64) -> Self {
        let multiply_adds = work.multiply_adds_per_voice * voices as u64;
        let read_seconds = work.bytes_per_step as f64 / rates.weights_bytes_per_second;
        let multiply_add_seconds = multiply_adds as f64 / rates.multiply_adds_per_second;
        let (roof, seconds) = if read_seconds > multiply_add_seconds {
            (Bound::Reads, read_seconds)
        } else {
            (Bound::MultiplyAdds, multiply_add_seconds)
        };
        Self {
            weight_bytes: work.weight_bytes,
            weight_bytes_read_per_step: work.bytes_per_step,
            multiply_adds_per_step: multiply_adds,
            weight_read_bytes_per_second: rates.weights_bytes_per_second,
            l2_read_bytes_per_second: rates.l2_bytes_per_second,
            multiply_adds_per_second: rates.multiply_adds_per_second,
            roof,
            roof_steps_per_second: 1.0 / seconds,
            best_steps_per_second,
            share_of_roof: seconds * best_steps_per_second,
        }
    }

    /// "62 % reads".
    pub(super) fn share(&self) -> String {
        let roof = match self.roof {
            Bound::Reads => "reads",
            Bound::MultiplyAdds => "mul-adds",
        };
        format!("{:.0} % {roof}", 100.0 * self.share_of_roof)
    }

    pub(super) fn sentence(&self) -> String {
        format!(
            "At best {:.0} % of the roof, which is {}: a step reads {:.0} KB of weights, at most {:.0} GB/s here \
             ({:.0} from L2), and makes {:.3} million multiply-adds, at most {:.0} billion a second",
            100.0 * self.share_of_roof,
            self.roof,
            self.weight_bytes_read_per_step as f64 / 1e3,
            self.weight_read_bytes_per_second / 1e9,
            self.l2_read_bytes_per_second / 1e9,
            self.multiply_adds_per_step as f64 / 1e6,
            self.multiply_adds_per_second / 1e9,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work =
        Work { weight_bytes: 2_000, bytes_per_step: 1_000, multiply_adds_per_voice: 400 };
    const RATES: Rates = Rates {
        weights_bytes_per_second: 1e6,
        l2_bytes_per_second: 2e6,
        multiply_adds_per_second: 1e6,
    };

    #[test]
    fn the_slower_of_both_is_the_roof() {
        // One voice: 1 ms of reading, 0.4 ms of arithmetic, and the step took 2 ms.
        let one = Roofline::new(WORK, 1, RATES, 500.0);
        assert_eq!((one.roof, one.roof_steps_per_second), (Bound::Reads, 1000.0));
        assert!((one.share_of_roof - 0.5).abs() < 1e-12);
        // Eight share the reading; their 3.2 ms of arithmetic are the roof of a step of 4 ms.
        let eight = Roofline::new(WORK, 8, RATES, 250.0);
        assert_eq!((eight.roof, eight.multiply_adds_per_step), (Bound::MultiplyAdds, 3_200));
        assert!((eight.share_of_roof - 0.8).abs() < 1e-12);
        assert_eq!(eight.share(), "80 % mul-adds");
        assert!(
            one.sentence()
                .starts_with("At best 50 % of the roof, which is reads: a step reads 1 KB")
        );
    }

    #[test]
    fn a_rate_only_rises() {
        let mut rate = 1e30;
        raise(&mut rate, Duration::ZERO, || 1);
        assert_eq!(rate, 1e30);
        let mut rate = 0.0;
        raise(&mut rate, Duration::ZERO, || 1);
        assert!(rate > 0.0);
    }
}
