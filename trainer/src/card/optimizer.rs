//! `optimizer.rs` on the card: the same AdamW, on flat vectors that stay there.

use candle_core::{Result, Tensor};

use crate::optimizer::AdamW;

/// What learns and what the optimizer remembers, each a flat f32 vector.
pub(super) struct Learning {
    pub(super) weights: Tensor,
    pub(super) mean: Tensor,
    pub(super) square: Tensor,
    pub(super) average: Tensor,
}

/// How far a step goes.
pub(super) struct Stride {
    pub(super) learning_rate: f64,
    /// What is left of the gradient after clipping.
    pub(super) share: f64,
    /// The step that this is, from 1.
    pub(super) step: u64,
}

impl Learning {
    /// Moves the weights one step against a gradient that has not been clipped yet.
    pub(super) fn step(&mut self, adam: &AdamW, gradient: &Tensor, stride: &Stride) -> Result<()> {
        let corrections = adam.corrections(stride.step);
        let [mean, square] = corrections.map(f64::from);
        let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
        let (share, rate) = (stride.share, stride.learning_rate);
        let keep = f64::from(adam.average_decay_at(stride.step));
        self.mean = ((&self.mean * beta1)? + (gradient * ((1.0 - beta1) * share))?)?;
        let squares = (gradient.sqr()? * ((1.0 - beta2) * share * share))?;
        self.square = ((&self.square * beta2)? + squares)?;
        let length = (&self.square / square)?.sqrt()?.affine(1.0, f64::from(adam.epsilon))?;
        let ahead = ((&self.mean * (rate / mean))? / length)?;
        let left = 1.0 - rate * f64::from(adam.weight_decay);
        self.weights = ((&self.weights * left)? - ahead)?;
        self.average = ((&self.average * keep)? + (&self.weights * (1.0 - keep))?)?;
        Ok(())
    }
}
