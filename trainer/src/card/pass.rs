//! One pass over a batch, forward and backward by hand, in candle's tensors: the products of
//! `network.rs` on joined matrices, all rows of a layer at once.
//!
//! ```text
//! U_l = [taps of X_l | conditioning | 1]     Z_l = [tanh . sigmoid | 1]   of U_l W_l
//! X_l+1 = X_l + Z_l W_r,l                    S = [Z_1 | ... | Z_L] W_s
//! ```
//!
//! Each layer computes only the rows that the layers above hear. candle's own `backward` would ask for
//! twice as many kernels, and a card waits for those more than for the numbers.

use candle_core::{Result, Tensor};
use wavenet_engine::Config;

use super::batch::Batch;
use super::joined::{Matrices, ONES};
use super::parts;
use super::values::{CrossEntropy, Taps};

/// What the forward pass leaves for the backward pass.
pub(super) struct Forward<'a> {
    config: &'a Config,
    batch: &'a Batch,
    weights: &'a Matrices<Tensor>,
    layers: Vec<LayerKept>,
    /// Gated units of all layers side by side. Shape: `[counted, L (G + 8)]`.
    gated: Tensor,
    /// After the ReLU. Shape: `[counted, S]`.
    skips: Tensor,
    /// After the ReLU. Shape: `[counted, A]`.
    hidden: Tensor,
    /// Shape: `[counted, levels]`.
    logits: Tensor,
}

struct LayerKept {
    /// The frame of the first row.
    start: usize,
    /// What the gates hear.
    heard: Tensor,
    /// Filters beside gates, before tanh and sigmoid.
    sums: Tensor,
    /// Gated units and ones.
    gated: Tensor,
}

/// The first frame that each layer has to compute, given the first that counts.
fn starts(config: &Config, first_counted: usize) -> Vec<usize> {
    let mut starts = vec![first_counted; config.layers()];
    for layer in (1..config.layers()).rev() {
        starts[layer - 1] = starts[layer].saturating_sub(reach(config, layer));
    }
    starts
}

/// Frames that a layer's oldest tap reaches back.
fn reach(config: &Config, layer: usize) -> usize {
    (config.kernel_size - 1) * config.dilations[layer]
}

impl<'a> Forward<'a> {
    /// Computes a batch.
    pub(super) fn new(
        config: &'a Config,
        weights: &'a Matrices<Tensor>,
        batch: &'a Batch,
    ) -> Result<Self> {
        let starts = starts(config, batch.first_counted);
        let counted = batch.counted_rows();
        let constant = match (&weights.class_embedding, &batch.classes) {
            (Some(embedding), Some(classes)) => {
                Tensor::cat(&[&classes.matmul(embedding)?, &batch.constant], 1)?
            }
            _ => batch.constant.clone(),
        };
        let rows_from = |frame: usize| (batch.frames - frame) * batch.width;

        let first = starts[0].saturating_sub(reach(config, 0));
        let codes = batch.codes.narrow(0, first * batch.width, rows_from(first))?;
        let mut x = weights.embedding.index_select(&codes, 0)?;
        let mut layers = Vec::with_capacity(config.layers());
        for (index, &start) in starts.iter().enumerate() {
            let rows = rows_from(start);
            let constant = constant.narrow(0, start * batch.width, rows)?;
            let heard = parts::heard(&x, &constant, &taps(config, batch, index, start))?;
            let sums = heard.matmul(&weights.gates[index])?;
            let gated = parts::gate(&sums)?;
            if let Some(weight) = weights.residuals.get(index) {
                x = (last_rows(&x, rows)? + gated.matmul(weight)?)?;
            }
            layers.push(LayerKept { start, heard, sums, gated });
        }
        let gated: Vec<Tensor> =
            (layers.iter()).map(|layer| last_rows(&layer.gated, counted)).collect::<Result<_>>()?;
        let gated = Tensor::cat(&gated, 1)?;
        let skips = parts::affine_end(&gated.matmul(&weights.skip)?, None, true)?;
        let hidden = skips.matmul(&weights.end1)?;
        let hidden = parts::affine_end(&hidden, Some(&weights.end1_bias), true)?;
        let logits = hidden.matmul(&weights.end2)?;
        let logits = parts::affine_end(&logits, Some(&weights.end2_bias), false)?;
        Ok(Self { config, batch, weights, layers, gated, skips, hidden, logits })
    }

    /// The loss, in f32.
    pub(super) fn measure(&self, with_gradient: bool) -> Result<CrossEntropy> {
        let Batch { targets, counts, samples, .. } = self.batch;
        parts::cross_entropy(&self.logits, targets, counts.as_ref(), *samples, with_gradient)
    }

    /// The gradient by every matrix, of the type of the activations.
    pub(super) fn backward(&self, dlogits: &Tensor) -> Result<Matrices<Tensor>> {
        let (config, weights, batch) = (self.config, self.weights, self.batch);
        let (g, r, k) = (config.gate_channels, config.residual_channels, config.kernel_size);
        let dtype = self.logits.dtype();
        let one = Tensor::ones((1, batch.counted_rows()), dtype, dlogits.device())?;

        let end2 = self.hidden.t()?.matmul(dlogits)?;
        let end2_bias = one.matmul(dlogits)?;
        let dhidden = parts::relu_backward(&dlogits.matmul(&weights.end2.t()?)?, &self.hidden)?;
        let end1 = self.skips.t()?.matmul(&dhidden)?;
        let end1_bias = one.matmul(&dhidden)?;
        let dskips = parts::relu_backward(&dhidden.matmul(&weights.end1.t()?)?, &self.skips)?;
        let skip = self.gated.t()?.matmul(&dskips)?;
        let from_skips = dskips.matmul(&weights.skip.t()?)?;

        let (mut gates, mut residuals) = (Vec::new(), Vec::new());
        let mut dclasses: Option<Tensor> = None;
        // The gradient of what the layer above hears, from the first row that this one computes.
        let mut dx: Option<Tensor> = None;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let from_residual = match (&dx, weights.residuals.get(index)) {
                (Some(dx), Some(weight)) => {
                    residuals.push(layer.gated.t()?.matmul(dx)?);
                    Some(dx.matmul(&weight.narrow(0, 0, g)?.t()?)?)
                }
                _ => None,
            };
            let skipped = from_skips.narrow(1, index * (g + ONES), g)?;
            let dsums = parts::gate_backward(&layer.sums, from_residual.as_ref(), &skipped)?;
            gates.push(layer.heard.t()?.matmul(&dsums)?);
            let weight = &weights.gates[index];
            let dtaps = dsums.matmul(&weight.narrow(0, 0, k * r)?.t()?)?;
            if let Some(classes) = &batch.classes {
                let weight = weight.narrow(0, k * r, config.class_width())?;
                let hears = last_rows(classes, dsums.dim(0)?)?;
                // What a class adds to the sums goes to its embedding by the weights that it passed.
                let heard = hears.t()?.matmul(&dsums)?.matmul(&weight.t()?)?;
                dclasses = Some(match dclasses {
                    Some(sum) => (sum + heard)?,
                    None => heard,
                });
            }
            let taps = taps(config, batch, index, layer.start);
            dx = Some(parts::input_gradient(dx.as_ref(), &dtaps, &taps)?);
        }
        gates.reverse();
        residuals.reverse();
        let embedding = match &dx {
            Some(dx) => {
                let codes = last_rows(&batch.codes, dx.dim(0)?)?;
                parts::one_hot(&codes, config.levels, dtype)?.t()?.matmul(dx)?
            }
            None => weights.embedding.zeros_like()?,
        };
        Ok(Matrices {
            embedding,
            gates,
            residuals,
            skip,
            end1,
            end1_bias,
            end2,
            end2_bias,
            class_embedding: dclasses,
        })
    }
}

/// The taps of a layer that computes from a frame on.
fn taps(config: &Config, batch: &Batch, layer: usize, start: usize) -> Taps {
    Taps {
        count: config.kernel_size,
        channels: config.residual_channels,
        step_rows: config.dilations[layer] * batch.width,
        missing_rows: start.min(reach(config, layer)) * batch.width,
    }
}

fn last_rows(rows: &Tensor, count: usize) -> Result<Tensor> {
    rows.narrow(0, rows.dim(0)? - count, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_computes_what_those_above_hear() {
        let config = Config { kernel_size: 3, dilations: vec![1, 2, 4], ..Config::default() };
        assert_eq!(starts(&config, 20), [8, 12, 20]);
        assert_eq!(starts(&config, 9), [0, 1, 9]);
    }
}
