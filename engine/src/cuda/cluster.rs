//! How a model's layers are shared out among the thread blocks of a cluster, which play one voice as a pipeline: what
//! `pipeline_int8.rs` and `pipeline_bf16.rs` have in common.

use super::driver::{Entry, Launch};
use super::image::{LANES, MOST_CHANNELS};
use super::params::{Blocks, Unit};
use super::shapes::Channels;
use crate::config::Config;

/// As many blocks as a cluster can have; and of them those that only sum skips.
const MOST_BLOCKS: usize = 16;
const MOST_SKIP_BLOCKS: usize = 4;
/// Warps of a block.
const THREADS: u32 = 16 * LANES as u32;

/// A shape that a pipeline is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PipelineShape {
    /// The kernel's.
    pub(super) entry: &'static str,
    pub(super) channels: Channels,
    /// Of a block of the chain, and of one that sums skips.
    pub(super) layers: usize,
    pub(super) skips: usize,
    /// Blocks beside those: of the head, and the host link.
    pub(super) others: usize,
}

impl PipelineShape {
    /// Whether it is a model's, and a cluster has blocks enough for its layers.
    pub(super) fn fits(&self, config: &Config) -> bool {
        self.channels.are_of(config)
            && config.conditioning_channels() <= MOST_CHANNELS
            && self.share_out(config.layers()).is_some()
    }

    /// Which blocks have so many layers; `None` where one cluster has too few.
    pub(super) fn share_out(&self, layers: usize) -> Option<Blocks> {
        let early = layers.saturating_sub(self.skips);
        let chains = layers.checked_sub(1)?.div_ceil(self.layers);
        let skip_blocks = early.div_ceil(self.skips);
        // A card places powers of two best: the blocks left over have nothing to do.
        let all = (chains + skip_blocks + self.others).next_power_of_two();
        let is_possible = chains > 0 && skip_blocks <= MOST_SKIP_BLOCKS && all <= MOST_BLOCKS;
        is_possible.then_some(Blocks {
            all: all as u32,
            chains: chains as u32,
            skip_blocks: skip_blocks as u32,
            early: early as u32,
        })
    }
}

/// How so many orders are started, a cluster of these blocks each, which have so much memory to talk, and for weights.
pub(super) fn launch(
    blocks: Blocks,
    entry: Entry,
    orders: u32,
    working_bytes: u32,
    weight_units: u32,
) -> Launch {
    Launch {
        entry,
        blocks: orders * blocks.all,
        of_cluster: blocks.all,
        threads: THREADS,
        shared_bytes: working_bytes + weight_units * size_of::<Unit>() as u32,
    }
}

/// The channels of some shapes, for who asks for another.
pub(super) fn list(shapes: &[PipelineShape]) -> String {
    let channels: Vec<String> = shapes.iter().map(|shape| shape.channels.to_string()).collect();
    channels.join(" or ")
}
