//! How the hidden units of the head go together, for those who round the weights after them.

use anyhow::{Result, ensure};
use wavenet_engine::Weights;

use super::{CHUNK, Network, Packed, Segment};

impl Network {
    /// Longest stretch of a segment for [`Network::hidden_products`].
    pub const HEARD_AT_ONCE: usize = CHUNK;

    /// The sum of `x x^T` over the counted samples of `count` segments, where x are the hidden units
    /// after their relu: the inputs of the last product. Shape: `[A][A]`. And how many those samples are.
    ///
    /// # Errors
    /// The first error of `fill`, which makes a segment; none may count more than
    /// [`Network::HEARD_AT_ONCE`] samples: what is left of the forward pass is its last chunk.
    pub fn hidden_products(
        &mut self,
        weights: &Weights,
        count: usize,
        fill: &dyn Fn(usize, &mut Segment) -> Result<()>,
    ) -> Result<(Vec<f64>, u64)> {
        let packed = Packed::from_weights(weights);
        let config = &self.config;
        let width = config.end_channels;
        let (mut sum, mut samples) = (vec![0.0_f64; width * width], 0);
        // On one thread: in another order the sum would be another.
        let workspace = &mut self.workspaces[0];
        for index in 0..count {
            fill(index, &mut workspace.segment)?;
            let counted = workspace.segment.counted();
            ensure!(counted <= CHUNK, "a segment of {counted} samples is too long");
            samples += workspace.forward(config, &packed, None).samples;
            for x in workspace.chunk.hidden[..counted * width].chunks_exact(width) {
                // Most hidden units are silent.
                for (row, &a) in sum.chunks_exact_mut(width).zip(x).filter(|(_, a)| **a != 0.0) {
                    row.iter_mut().zip(x).for_each(|(sum, &b)| *sum += f64::from(a * b));
                }
            }
        }
        Ok((sum, samples))
    }
}
