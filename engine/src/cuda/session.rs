//! Lanes on a device: feeds the kernel through rings that both sides see, and relaunches it slice by
//! slice.
//!
//! While the kernel runs, the host writes conditioning vectors ahead and raises each voice's goal, and
//! reads the codes that are done. A slice ends when every goal is reached, when the host was too slow for
//! a while, or when its time is over; what the voices remember stays on the device, so the next slice
//! goes on where it ended.

use std::time::{Duration, Instant};

use super::choice::{self, choose};
use super::driver::{Driver, Launch, Mapped, as_bytes};
use super::params::{LAST, MAIL, Params, Unit, Voice};
use super::plan::{Planner, Threads};
use super::tuning::Tuning;
use super::{Mode, Order};
use crate::config::Dtype;
use crate::crew::{in_shares, share_of};
use crate::error::{Error, Result};
use crate::kernels::Packed;
use crate::weights::Weights;

/// The longest that a slice may take by the highest clock. A clock half as fast makes it 50 ms.
const SLICE_MS: u64 = 25;
/// Looks of the kernel for a goal to rise, each over the bus, before it gives up: some milliseconds.
const MOST_TURNS: u32 = 4096;
/// Between two looks of the host at what is done.
const LOOK: Duration = Duration::from_micros(100);
/// A kernel that has not ended so long after it was started never will: it was to end after [`SLICE_MS`].
const HUNG: Duration = Duration::from_secs(10);
/// Slices in a row that make nothing at all before the device counts as lost.
const MOST_IDLE_SLICES: u32 = 8;
/// Samples of one lane that may be under way: a power of two.
const RING: usize = 1024;
/// What all conditioning under way may take.
const MOST_RING_BYTES: usize = 512 << 20;
/// Floats that are worth several threads, and orders that one feeds at least.
const MANY_FLOATS: usize = 1 << 18;
const FEWEST_FED: usize = 64;

/// A model on a device, and the lanes that play it.
#[derive(Debug)]
pub(super) struct Session {
    driver: Box<dyn Driver>,
    planner: Planner,
    params: Params,
    /// Of a slice.
    most_cycles: u64,
    scratch_bytes: usize,
    pub(super) tuning: Tuning,
    feeder: Feeder,
    /// Shape: `[lanes][RING]`.
    codes: Mapped,
    lanes: usize,
    /// [`HUNG`], but for tests.
    pub(super) hung: Duration,
}

/// What goes to the kernel while it runs.
#[derive(Debug, Clone, Copy)]
struct Feeder {
    /// H, and how many vectors a lane has under way; 1 where they never change.
    channels: usize,
    vectors: usize,
    /// `[lanes]` of goal and done.
    mail: Mapped,
    /// Shape: `[lanes][vectors][H]`.
    conditioning: Option<Mapped>,
}

/// How far one order is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Samples that are done, and were collected.
    done: usize,
    /// Samples whose vectors the device may read.
    fed: usize,
    /// Done when the slice began.
    base: usize,
    /// Where its conditioning and its codes begin in those of the run.
    first_row: usize,
    first_code: usize,
}

impl Session {
    /// Brings a model to a device, with memory for some lanes.
    pub(super) fn new(
        mut driver: Box<dyn Driver>,
        weights: &Weights,
        packed: &Packed,
        lanes: usize,
        threads: Threads,
        mode: Mode,
    ) -> Result<Self> {
        let (config, dtype) = (packed.config(), packed.dtype());
        let of_shape = choose(config, dtype, driver.card(), lanes, mode)?;
        driver.load(dtype, of_shape)?;
        let (image, chosen) = choice::image(weights, packed, of_shape);
        let mut params = image.params;
        let upload = |driver: &mut Box<dyn Driver>, bytes: &[u8]| {
            let address = driver.allocate(bytes.len().max(16))?;
            driver.write(address, bytes)?;
            Ok::<u64, Error>(address)
        };
        params.weights = upload(&mut driver, as_bytes(&image.weights))?;
        params.floats = upload(&mut driver, as_bytes(&image.floats))?;
        params.silence = upload(&mut driver, as_bytes(&image.silence))?;
        params.rings = upload(&mut driver, as_bytes(&image.rings))?;
        let lane_bytes = params.lane_units as usize * size_of::<Unit>();
        params.lanes = driver.allocate(lanes * lane_bytes)?;
        params.orders = driver.allocate(lanes * size_of::<Voice>())?;
        let channels = config.conditioning_channels();
        let row_bytes = (channels * size_of::<f32>()).max(1);
        let fitting = (MOST_RING_BYTES / (lanes * row_bytes)).clamp(1, RING);
        let vectors = if config.local_channels() == 0 { 1 } else { 1 << fitting.ilog2() };
        let mail = driver.map(lanes * MAIL)?;
        let conditioning = match channels {
            0 => None,
            _ => Some(driver.map(lanes * vectors * row_bytes)?),
        };
        let codes = driver.map(lanes * RING)?;
        params.mail = mail.device;
        params.conditioning = conditioning.map_or(0, |rows| rows.device);
        params.codes = codes.device;
        params.conditioning_mask = vectors as u32 - 1;
        params.codes_mask = RING as u32 - 1;
        params.most_turns = MOST_TURNS;
        let mut planner = Planner {
            threads,
            has_tiles: dtype == Dtype::Int8,
            image_units: image.weights.len() as u32,
            chosen,
            clusters: u32::MAX,
        };
        planner.clusters = clusters_of(&planner, &mut params, driver.as_mut())?;
        Ok(Self {
            planner,
            params,
            most_cycles: SLICE_MS * u64::from(driver.card().clock_khz),
            hung: HUNG,
            driver,
            scratch_bytes: 0,
            tuning: Tuning::default(),
            feeder: Feeder { channels, vectors, mail, conditioning },
            codes,
            lanes,
        })
    }

    /// Clusters that run side by side.
    pub(super) fn clusters(&self) -> usize {
        self.planner.clusters as usize
    }

    /// Makes what the orders ask, as [`super::Lanes::run`] does.
    pub(super) fn run(
        &mut self,
        orders: &[Order],
        conditioning: &[f32],
        codes: &mut [u8],
    ) -> Result<()> {
        assert!(orders.len() <= self.lanes, "an order a lane");
        let mut progress = Vec::with_capacity(orders.len());
        let (mut first_row, mut first_code) = (0, 0);
        for order in orders {
            progress.push(Progress { first_row, first_code, ..Progress::default() });
            first_row += if self.feeder.vectors > 1 { order.count } else { 1 };
            first_code += order.count;
        }
        let mut idle_slices = 0;
        let is_done = |progress: &[Progress]| {
            progress.iter().zip(orders).all(|(progress, order)| progress.done == order.count)
        };
        while !is_done(&progress) {
            self.begin_slice(orders, &mut progress, conditioning, codes)?;
            let began = Instant::now();
            loop {
                let has_ended = self.driver.has_ended()?;
                self.collect(orders, &mut progress, codes);
                if has_ended {
                    break;
                }
                if began.elapsed() > self.hung {
                    self.driver.abandon();
                    return Err(Error::Device("the kernel does not end".into()));
                }
                self.feeder.feed(orders, &mut progress, conditioning);
                let is_all_fed = progress.iter().zip(orders).all(|(p, order)| p.fed == order.count);
                if is_all_fed {
                    // It ends soon, and a short order should not wait for a sleeper.
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(LOOK);
                }
            }
            // Samples one after another: as many voices as there are make them side by side.
            let steps = progress.iter().map(|progress| progress.done - progress.base).max();
            let steps = steps.unwrap_or(0);
            self.tuning.record(steps, began.elapsed());
            let is_idle = steps == 0;
            idle_slices = if is_idle { idle_slices + 1 } else { 0 };
            if idle_slices == MOST_IDLE_SLICES {
                return Err(Error::Device("the kernel makes no sample".into()));
            }
        }
        Ok(())
    }

    /// Starts the kernel where the voices are.
    fn begin_slice(
        &mut self,
        orders: &[Order],
        progress: &mut [Progress],
        conditioning: &[f32],
        codes: &[u8],
    ) -> Result<()> {
        let mut voices = Vec::with_capacity(orders.len());
        for (index, (order, progress)) in orders.iter().zip(progress.iter_mut()).enumerate() {
            progress.base = progress.done;
            self.feeder.mail.store(index * MAIL, 0);
            self.feeder.mail.store(index * MAIL + 4, 0);
            let (key, stream) = order.draws.numbers();
            let before = progress.done.checked_sub(1).map(|last| codes[progress.first_code + last]);
            voices.push(Voice {
                made: order.made + progress.done as u64,
                key,
                stream,
                share: order.sampling.share(),
                temperature: order.sampling.temperature,
                lane: order.lane as u32,
                code: before.unwrap_or(order.code).into(),
                rest: [0; 5],
            });
        }
        self.driver.write(self.params.orders, as_bytes(&voices))?;
        self.feeder.feed(orders, progress, conditioning);
        let (card, count) = (self.driver.card(), orders.len() as u32);
        let (launch, more) = self.planner.plan(&mut self.params, card, count, &mut self.tuning);
        if self.params.work_is_shared == 0 {
            let bytes =
                launch.blocks as usize * self.params.work_units as usize * size_of::<Unit>();
            if bytes > self.scratch_bytes {
                self.params.scratch = self.driver.allocate(bytes)?;
                self.scratch_bytes = bytes;
            }
        }
        let waves = self.waves(launch)?;
        // No less than a millisecond each, most of which else went into beginning.
        let least = self.most_cycles / SLICE_MS;
        self.params.most_cycles = (self.most_cycles / u64::from(waves)).max(least);
        self.driver.launch(launch, &self.params, &more)
    }

    /// How many times all blocks that run side by side are started: those of a wave share the slice's time, and waves
    /// follow each other.
    fn waves(&mut self, launch: Launch) -> Result<u32> {
        let side_by_side = if launch.of_cluster > 1 {
            self.planner.clusters.saturating_mul(launch.of_cluster)
        } else if launch.blocks <= self.driver.card().multiprocessors {
            // One each: the driver need not be asked, which live play would do with each order.
            launch.blocks.max(1)
        } else {
            self.driver.side_by_side(launch, &self.params)?
        };
        Ok(launch.blocks.div_ceil(side_by_side))
    }

    /// Keeps the logits of each order's last sample from now on, where the result says. Shape: `[lanes][levels]`.
    #[cfg(test)]
    pub(super) fn keep_logits(&mut self) -> Result<Mapped> {
        let levels = self.params.levels as usize;
        let logits = self.driver.map(self.lanes * levels * size_of::<f32>())?;
        self.params.logits = logits.device;
        Ok(logits)
    }

    /// Takes the codes that are done.
    fn collect(&self, orders: &[Order], progress: &mut [Progress], codes: &mut [u8]) {
        for (index, (order, progress)) in orders.iter().zip(progress).enumerate() {
            let done = progress.base + self.feeder.mail.load(index * MAIL + 4) as usize;
            let done = done.min(progress.fed);
            while progress.done < done {
                let slot = (order.made as usize).wrapping_add(progress.done) & (RING - 1);
                let count = (done - progress.done).min(RING - slot);
                let start = progress.first_code + progress.done;
                self.codes.read(index * RING + slot, &mut codes[start..start + count]);
                progress.done += count;
            }
        }
    }
}

/// How many clusters of a pipeline run side by side; none where no pipeline plays.
///
/// # Errors
/// [`Error::Device`] where not one does, or the device fails.
fn clusters_of(planner: &Planner, params: &mut Params, driver: &mut dyn Driver) -> Result<u32> {
    if planner.chosen.pipeline_int8.is_none() && planner.chosen.pipeline_bf16.is_none() {
        return Ok(0);
    }
    let (launch, _) = planner.plan(params, driver.card(), 1, &mut Tuning::default());
    let (clusters, blocks) = (driver.clusters(launch)?, launch.of_cluster);
    if clusters == 0 {
        let name = &driver.card().name;
        return Err(Error::Device(format!(
            "cuda: {name} cannot run {blocks} blocks as one cluster; play without --fast or --pipeline"
        )));
    }
    Ok(clusters)
}

impl Feeder {
    /// Writes vectors ahead, as many as the rings hold, and raises the goals.
    fn feed(&self, orders: &[Order], progress: &mut [Progress], conditioning: &[f32]) {
        let owed =
            |(order, progress): (&Order, &Progress)| self.goal(order, progress) - progress.fed;
        let rows: usize = orders.iter().zip(progress.iter()).map(owed).sum();
        let is_much = self.vectors > 1 && rows * self.channels > MANY_FLOATS;
        let share = if is_much { share_of(orders.len(), FEWEST_FED) } else { orders.len() };
        in_shares(progress, share.max(1), |first, progress| {
            for (index, progress) in (first..).zip(progress) {
                self.feed_one(index, &orders[index], progress, conditioning);
            }
        });
    }

    /// Samples of an order whose vectors there is room for.
    fn goal(&self, order: &Order, progress: &Progress) -> usize {
        let room = if self.vectors == 1 { RING } else { self.vectors.min(RING) };
        order.count.min(progress.done + room)
    }

    fn feed_one(&self, index: usize, order: &Order, progress: &mut Progress, conditioning: &[f32]) {
        let (h, is_constant) = (self.channels, self.vectors == 1);
        let goal = self.goal(order, progress);
        let is_first = progress.fed == 0 || progress.base == progress.done;
        if goal == progress.fed && !is_first {
            return;
        }
        if let Some(rows) = &self.conditioning {
            let rows_of = if is_constant { 0..1 } else { progress.fed..goal };
            for row in rows_of {
                let slot = (order.made as usize).wrapping_add(row) & (self.vectors - 1);
                let at = (index * self.vectors + slot) * h * size_of::<f32>();
                let row = progress.first_row + row;
                rows.write(at, &conditioning[row * h..(row + 1) * h]);
            }
        }
        progress.fed = goal;
        let last = if goal == order.count { LAST } else { 0 };
        self.mail.store(index * MAIL, (goal - progress.base) as u32 | last);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The kernel must not outlive the memory that it uses; one that was abandoned keeps it.
        let _ = self.driver.wait();
    }
}
