//! AdamW (Loshchilov & Hutter 2019) on the flat parameter vector, with clipping by the global norm
//! (Pascanu et al. 2013) and an exponential moving average of the weights, which is what gets
//! validated and saved.

use crate::settings::Curve;

/// Settings that stay the same over a run.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Keeps the division finite.
    pub epsilon: f32,
    /// Pull of every parameter towards zero, times the learning rate.
    pub weight_decay: f32,
    /// Gradients longer than this are shortened to it.
    pub clip_norm: f32,
    /// Decay of the average of the weights, once there are enough steps to average.
    pub average_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            average_decay: 0.999,
        }
    }
}

/// What the optimizer remembers. All vectors have the length of the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Steps taken.
    pub step: u64,
    /// Mean of gradients.
    pub mean: Vec<f32>,
    /// Mean of squared gradients.
    pub square: Vec<f32>,
    /// Average of the weights.
    pub average: Vec<f32>,
}

impl Moments {
    /// Before the first step.
    pub fn new(weights: &[f32]) -> Self {
        let zeros = vec![0.0; weights.len()];
        Self { step: 0, mean: zeros.clone(), square: zeros, average: weights.to_vec() }
    }
}

impl AdamW {
    /// Shortens a gradient to the longest that is allowed and returns its norm before that, which is
    /// infinite or NaN where a number of it is.
    pub fn clip(&self, gradient: &mut [f32]) -> f64 {
        let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        if norm > f64::from(self.clip_norm) {
            let factor = self.share_left(norm);
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        norm
    }

    /// What makes up for means that began at zero, at a step (from 1): of gradients, of their squares.
    pub(crate) fn corrections(&self, step: u64) -> [f32; 2] {
        let correction = |beta: f32| (1.0 - libm::pow(f64::from(beta), step as f64)) as f32;
        [correction(self.beta1), correction(self.beta2)]
    }

    /// Decay of the average at a step (from 1): a young one would remember the random start, so it follows
    /// faster at first.
    pub(crate) fn average_decay_at(&self, step: u64) -> f32 {
        let t = step as f64;
        self.average_decay.min((1.0 + t as f32) / (10.0 + t as f32))
    }

    /// What is left of a gradient of a norm once it is shortened to the longest that is allowed.
    pub(crate) fn share_left(&self, norm: f64) -> f32 {
        if norm > f64::from(self.clip_norm) {
            (f64::from(self.clip_norm) / norm) as f32
        } else {
            1.0
        }
    }

    /// Moves the weights one step against a gradient (clipped beforehand).
    pub fn step(
        &self,
        moments: &mut Moments,
        learning_rate: f32,
        gradient: &[f32],
        weights: &mut [f32],
    ) {
        moments.step += 1;
        let [correct1, correct2] = self.corrections(moments.step);
        let average_decay = self.average_decay_at(moments.step);
        let state = moments.mean.iter_mut().zip(&mut moments.square).zip(&mut moments.average);
        for (((mean, square), average), (&g, weight)) in state.zip(gradient.iter().zip(weights)) {
            *mean = self.beta1 * *mean + (1.0 - self.beta1) * g;
            *square = self.beta2 * *square + (1.0 - self.beta2) * g * g;
            let step = (*mean / correct1) / ((*square / correct2).sqrt() + self.epsilon);
            *weight -= learning_rate * (step + self.weight_decay * *weight);
            *average += (1.0 - average_decay) * (*weight - *average);
        }
    }
}

/// Learning rate over a run: a linear warm-up, times a way down from the peak to a share of it: half a
/// cosine (Loshchilov & Hutter 2017), or exponential, `final_share ^ progress`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f32,
    /// The way down.
    pub curve: Curve,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// What is left of the peak at the end.
    pub final_share: f32,
}

impl Schedule {
    /// The rate at a step, when `progress` (0 to 1) of the run is done.
    pub fn at(&self, step: u64, progress: f64) -> f32 {
        let warm = ((step + 1) as f32 / self.warmup_steps.max(1) as f32).min(1.0);
        let progress = progress.clamp(0.0, 1.0);
        let left = match self.curve {
            Curve::Cosine => {
                let cosine = 0.5 + 0.5 * libm::cos(core::f64::consts::PI * progress);
                self.final_share + (1.0 - self.final_share) * cosine as f32
            }
            Curve::Exponential => libm::pow(f64::from(self.final_share), progress) as f32,
        };
        self.peak * warm * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_size_of_the_learning_rate() {
        // After bias correction the first step is the sign of the gradient.
        let adam = AdamW { weight_decay: 0.0, ..AdamW::default() };
        let mut weights = vec![1.0, -2.0, 3.0];
        let mut moments = Moments::new(&weights);
        adam.step(&mut moments, 0.1, &[0.3, -0.001, 0.0], &mut weights);
        for (weight, expected) in weights.iter().zip([0.9, -1.9, 3.0]) {
            assert!((weight - expected).abs() < 1e-4, "{weights:?}");
        }
    }

    #[test]
    fn it_finds_the_bottom_of_a_bowl() {
        let adam = AdamW { weight_decay: 0.0, ..AdamW::default() };
        let mut weights = vec![5.0, -3.0];
        let mut moments = Moments::new(&weights);
        for _ in 0..2_000 {
            let mut gradient: Vec<f32> = weights.iter().map(|w| 2.0 * (w - 1.0)).collect();
            adam.clip(&mut gradient);
            adam.step(&mut moments, 0.02, &gradient, &mut weights);
        }
        assert!(weights.iter().all(|w| (w - 1.0).abs() < 1e-2), "{weights:?}");
        assert!(moments.average.iter().all(|w| (w - 1.0).abs() < 1e-1), "{moments:?}");
    }

    #[test]
    fn long_gradients_are_clipped() {
        let mut gradient = [30.0, 40.0];
        assert_eq!(AdamW::default().clip(&mut gradient), 50.0);
        assert!((gradient[0] - 0.6).abs() < 1e-6 && (gradient[1] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn the_schedule_warms_up_and_comes_down() {
        for (curve, middle) in [(Curve::Cosine, 0.505), (Curve::Exponential, 0.1)] {
            let schedule = Schedule { peak: 1.0, curve, warmup_steps: 10, final_share: 0.01 };
            for (step, progress, expected) in
                [(0, 0.0, 0.1), (9, 0.0, 1.0), (500, 0.5, middle), (1000, 1.0, 0.01)]
            {
                let rate = schedule.at(step, progress);
                assert!((rate - expected).abs() < 1e-6, "{curve:?} at {step}: {rate}");
            }
        }
    }
}
