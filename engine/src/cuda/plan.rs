//! How orders are shared out among the blocks of a launch, and what of its memory a block has close by.

use super::choice::Chosen;
use super::driver::{Card, Entry, Launch, More};
use super::params::{Params, Unit};
use super::shapes::{BATCH_SHAPES, BatchShape};
use super::tuning::Tuning;
use super::{pipeline_bf16, pipeline_int8, single};

/// Vectors of a voice that the kernel fetches at once: powers of two.
const TOLD_SINGLE: u32 = 32;
const TOLD_BATCH: u32 = 4;
/// Voices of a block where several play together: a multiple of those that a thread has, or a tile of bytes; and the
/// most.
const VOICES_OF_THREAD: u32 = 4;
const MOST_VOICES_OF_THREADS: u32 = 16;
const VOICES_OF_TILE: u32 = 8;
const MOST_VOICES_OF_TILES: u32 = 32;

/// Among numbers of voices a block: no batch.
const ALONE: u32 = 1;
/// Shared memory that a multiprocessor keeps for itself for each block.
const BLOCK_BYTES: u32 = 1024;
/// A wave of blocks waits as long for its weights and barriers as it takes to play so many voices more.
const WAITING_VOICES: u32 = 16;
/// What costs less than so many halves of the least is tried too.
const PROMISING: u32 = 3;

/// Threads of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads {
    pub(super) single: u32,
    pub(super) batch: u32,
    /// Of several voices where products are tiles, whose warps wait longer for their weights.
    pub(super) tiles: u32,
}

impl Default for Threads {
    fn default() -> Self {
        Self { single: 512, batch: 256, tiles: 512 }
    }
}

/// What decides it beside the card and the orders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planner {
    pub(super) threads: Threads,
    /// Bytes go through the matrix units where voices play together.
    pub(super) has_tiles: bool,
    /// Of the model.
    pub(super) image_units: u32,
    pub(super) chosen: Chosen,
    /// Clusters of a pipeline that run side by side.
    pub(super) clusters: u32,
}

impl Planner {
    /// Lays out the memory of blocks that make so many orders, in `params`, and says how they are started.
    /// Where `params.work_is_shared` is 0 each block needs its working memory in `params.scratch`.
    pub(super) fn plan(
        &self,
        params: &mut Params,
        card: &Card,
        orders: u32,
        tuning: &mut Tuning,
    ) -> (Launch, More) {
        if let Some((index, mut args)) = self.chosen.pipeline_bf16 {
            let (shape, entry) = (pipeline_bf16::SHAPES[index], Entry::PipelineBf16(index));
            let launch = pipeline_bf16::plan(shape, entry, &mut args, params, card, orders);
            return (launch, More::PipelineBf16(args));
        }
        if let Some((index, mut args)) =
            self.chosen.pipeline_int8.filter(|_| orders <= self.clusters)
        {
            let (shape, entry) = (pipeline_int8::SHAPES[index], Entry::PipelineInt8(index));
            let launch = pipeline_int8::plan(shape, entry, &mut args, params, card, orders);
            return (launch, More::PipelineInt8(args));
        }
        let unit = size_of::<Unit>() as u32;
        let is_single = orders <= card.multiprocessors;
        params.orders_count = orders;
        if let Some((index, args)) = self.chosen.single.filter(|_| is_single) {
            let shape = single::SHAPES[index];
            if let Some((args, shared_bytes)) = shape.lay_out(args, params, card.shared_bytes) {
                params.set_voices(1);
                params.work_is_shared = 1;
                let entry = Entry::Single(index);
                let threads = shape.threads();
                let launch = Launch { entry, blocks: orders, of_cluster: 1, threads, shared_bytes };
                return (launch, More::Single(args));
            }
        }
        if let Some(index) = self.chosen.batch
            && let Some(launch) = plan_batch(params, card, orders, BATCH_SHAPES[index], tuning)
        {
            return (launch, More::Nothing);
        }
        let told_rows = if is_single { TOLD_SINGLE } else { TOLD_BATCH };
        params.told_rows = told_rows.min(params.conditioning_mask + 1);
        let (entry, threads) = if is_single {
            params.set_voices(1);
            (Entry::GeneralSingle, self.threads.single)
        } else {
            let (together, mut most, threads) = if self.has_tiles {
                (VOICES_OF_TILE, MOST_VOICES_OF_TILES, self.threads.tiles)
            } else {
                (VOICES_OF_THREAD, MOST_VOICES_OF_THREADS, self.threads.batch)
            };
            params.set_voices(most);
            while most > together && params.work_units * unit > card.shared_bytes {
                most -= together;
                params.set_voices(most);
            }
            params.set_voices(share_out(orders, card.multiprocessors, together, most));
            (Entry::GeneralBatch, threads)
        };
        let blocks = orders.div_ceil(params.voices);
        let work_bytes = params.work_units * unit;
        params.work_is_shared = (work_bytes <= card.shared_bytes).into();
        let mut shared_bytes = if params.work_is_shared == 0 { 0 } else { work_bytes };
        // One voice waits for its weights; several read them from the second cache, and leave room for
        // other blocks.
        let room = (card.shared_bytes - shared_bytes) / unit;
        params.resident_units =
            if entry == Entry::GeneralSingle { room.min(self.image_units) } else { 0 };
        shared_bytes += params.resident_units * unit;
        (Launch { entry, blocks, of_cluster: 1, threads, shared_bytes }, More::Nothing)
    }
}

/// The batch kernel of a shape. `None` where not even the smallest fits, or where each voice may have a multiprocessor
/// and the text for any shape is faster so: which of both is, is tried too.
fn plan_batch(
    params: &mut Params,
    card: &Card,
    orders: u32,
    shape: BatchShape,
    tuning: &mut Tuning,
) -> Option<Launch> {
    let unit = size_of::<Unit>() as u32;
    params.told_rows = TOLD_BATCH.min(params.conditioning_mask + 1);
    let mut promising = promising_voices(params, card, orders, shape);
    let mut share = orders.div_ceil(card.multiprocessors * VOICES_OF_TILE);
    if orders <= card.multiprocessors {
        promising.insert(0, ALONE);
        share = 0;
    }
    let voices = tuning.choose(share, &promising).filter(|&voices| voices != ALONE)?;
    params.set_batch_voices(voices);
    params.work_is_shared = 1;
    params.resident_units = 0;
    let (blocks, shared_bytes) = (orders.div_ceil(voices), params.work_units * unit);
    let threads = shape.threads();
    Some(Launch { entry: Entry::Batch, blocks, of_cluster: 1, threads, shared_bytes })
}

/// Voices a block that may play so many orders in the least time, the likeliest first.
fn promising_voices(params: &mut Params, card: &Card, orders: u32, shape: BatchShape) -> Vec<u32> {
    let unit = size_of::<Unit>() as u32;
    let mut costs = Vec::new();
    for voices in (VOICES_OF_TILE..=MOST_VOICES_OF_TILES).step_by(VOICES_OF_TILE as usize) {
        params.set_batch_voices(voices);
        // A multiprocessor has room for what one block may have, and takes 1 KiB for each.
        let by_memory =
            (card.shared_bytes + BLOCK_BYTES) / (params.work_units * unit + BLOCK_BYTES);
        let fitting = by_memory.min(shape.side_by_side());
        if fitting == 0 {
            break;
        }
        // Waves of blocks one after another; a wave's time hardly depends on how full it is, and then on the voices
        // that a multiprocessor has.
        let blocks = orders.div_ceil(voices).div_ceil(card.multiprocessors);
        let waves = blocks.div_ceil(fitting);
        costs.push((waves * (blocks.min(fitting) * voices + WAITING_VOICES), voices));
    }
    costs.sort_by_key(|&(cost, _)| cost);
    let least = costs.first().map_or(0, |&(least, _)| least);
    costs.retain(|&(cost, _)| 2 * cost < PROMISING * least);
    costs.into_iter().map(|(_, voices)| voices).collect()
}

/// How many voices a block plays, a multiple of `together` and not above `most`: as few as keep every
/// multiprocessor's share the same.
fn share_out(orders: u32, multiprocessors: u32, together: u32, most: u32) -> u32 {
    let blocks_of_each = orders.div_ceil(multiprocessors * most);
    orders.div_ceil(multiprocessors * blocks_of_each).next_multiple_of(together)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::driver::{Card, WIDE};
    use super::super::params::Params;
    use super::super::shapes::BATCH_SHAPES;
    use super::super::tuning::Tuning;
    use super::{plan_batch, promising_voices, share_out};

    fn card() -> Card {
        Card {
            name: "H200".into(),
            capability: WIDE,
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            memory_bytes: 0,
            clock_khz: 0,
            driver_version: 0,
        }
    }

    /// As of a model of one of the batch kernel's shapes.
    fn params(shape: usize, layers: u32) -> Params {
        let units = |channels: u32| channels.div_ceil(64) * 4;
        let mut params = Params { layers, kernel_size: 2, levels: 256, ..Params::default() };
        let residual = BATCH_SHAPES[shape].0.residual as u32;
        params.residual.channels = residual;
        params.residual.units = units(residual) + 1;
        params.gate.units = units(residual);
        params.skip.units = units(256) + 1;
        params.end.units = units(256) + 1;
        params
    }

    /// First as many voices a block as one wave of blocks needs, and then what may be as good.
    #[test]
    fn a_batch_fills_the_card() {
        for (shape, layers, orders, expected) in [
            (1, 10, 2_000, &[8, 16, 24][..]),
            (1, 10, 4_000, &[16, 32, 8, 24]),
            (1, 30, 2_000, &[8, 16, 24]),
            (2, 30, 750, &[8, 16]),
        ] {
            let mut params = params(shape, layers);
            let found = promising_voices(&mut params, &card(), orders, BATCH_SHAPES[shape]);
            assert_eq!(found, expected, "{orders} orders, {layers} layers");
            let mut tuning = Tuning::default();
            let launch = plan_batch(&mut params, &card(), orders, BATCH_SHAPES[shape], &mut tuning);
            assert_eq!(launch.unwrap().blocks, orders.div_ceil(found[0]));
        }
    }

    /// Whatever was played before, and however much is told: no block has more memory than the card.
    #[test]
    fn a_batch_fits_the_card() {
        for (kib, shape, layers) in [(99, 1, 30), (99, 0, 30), (99, 2, 10), (163, 2, 30)] {
            let card = Card { shared_bytes: kib << 10, ..card() };
            for told_rows in [0, 32] {
                let (mut params, mut tuning) = (params(shape, layers), Tuning::default());
                params.conditioning_vector.channels = 39;
                params.conditioning_vector.units = 4;
                params.conditioning_mask = 1023;
                params.told_rows = told_rows;
                let mut sizes = Vec::new();
                for _ in 0..8 {
                    let shape = BATCH_SHAPES[shape];
                    let launch = plan_batch(&mut params, &card, 3_000, shape, &mut tuning);
                    sizes.push(launch.unwrap().shared_bytes);
                    tuning.record(1, Duration::from_millis(10));
                }
                assert!(sizes.iter().all(|&bytes| bytes <= card.shared_bytes), "{sizes:?}");
            }
        }
    }

    /// As many voices as there are multiprocessors are tried in batches, and each alone.
    #[test]
    fn few_play_together_or_alone_as_is_faster() {
        for (alone, expected) in [(9, None), (3, Some(8))] {
            let (mut params, mut tuning) = (params(2, 30), Tuning::default());
            let mut tried = Vec::new();
            for _ in 0..8 {
                let launch = plan_batch(&mut params, &card(), 20, BATCH_SHAPES[2], &mut tuning);
                tried.push(launch.map(|_| params.voices));
                let steps = match tried.last().unwrap() {
                    Some(8) => 5,
                    Some(_) => 4,
                    None => alone,
                };
                tuning.record(steps, Duration::from_millis(10));
            }
            let [first, second, third] = [Some(8), Some(16), None];
            assert_eq!(tried[..6], [third, first, second, third, first, second]);
            assert_eq!(tried[6..], [expected; 2]);
        }
    }

    #[test]
    fn every_multiprocessor_has_the_same_share() {
        for (orders, together, most, voices) in [
            (133, 8, 32, 8),
            (133 * 8, 8, 32, 16),
            (132 * 32, 8, 32, 32),
            // Two blocks each of 23, not one of 32 and some of 14.
            (6_000, 8, 32, 24),
            (133, 4, 16, 4),
            (132 * 16 + 1, 4, 16, 12),
            (100_000, 4, 4, 4),
        ] {
            assert_eq!(share_out(orders, 132, together, most), voices, "{orders} orders");
        }
    }
}
