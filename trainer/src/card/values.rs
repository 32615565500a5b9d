//! What the parts between the products are told, and what they give: on a card and elsewhere.

use candle_core::Tensor;

/// How the taps of a layer lie.
pub(super) struct Taps {
    /// How many.
    pub(super) count: usize,
    /// Channels of each.
    pub(super) channels: usize,
    /// Rows from one to the next; the last is the row itself.
    pub(super) step_rows: usize,
    /// Rows that the layer hears before the first that it computes: as many as the oldest tap reaches back, or
    /// fewer where there is nothing before.
    pub(super) missing_rows: usize,
}

impl Taps {
    /// Rows that the oldest reaches back.
    pub(super) fn reach_rows(&self) -> usize {
        (self.count - 1) * self.step_rows
    }
}

/// Loss of a batch.
pub(super) struct CrossEntropy {
    /// Sum over the counted rows in nats, and rows whose likeliest code was the true one; f32. Shape: `[2]`.
    pub(super) nats_and_hits: Tensor,
    /// The gradient of the mean loss by the logits; only where it was asked for.
    pub(super) dlogits: Option<Tensor>,
}
