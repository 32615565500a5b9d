//! The training step: loss and gradient of a batch of segments, forward and backward by hand.
//!
//! Everything is time-major (`[time][channel]`) and runs in chunks of 192 samples, all layers
//! of a chunk after another, so that a chunk's rows stay in the cache between layers. Matrices are
//! joined ([`Packed`]): one product computes filter and gate over all taps and the conditioning,
//! one the skips of all layers. Products read taps where they lie, gathering nothing; those of the
//! first layer are looked up by code. Of the warm-up, each layer computes what the layers above hear. tanh and sigmoid
//! are saved, not their inputs; the head's loss is fused with its gradient, so logits are never stored. Segments of a
//! batch are spread over threads, each with a gradient of its own, added up in their order: the thread count changes no
//! bit of the result.

mod backward;
mod device;
mod forward;
#[cfg(feature = "candle")]
mod graph;
mod hidden;
mod packed;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use wavenet_engine::{Config, Weights};

pub use device::{Device, Precision};
pub use packed::Packed;

/// Samples that go through all layers together: whole tiles of the products.
const CHUNK: usize = 192;

/// A stretch of one recording: what goes in, what should come out.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    /// The code before each target. Shape: `[rows]`.
    pub inputs: Vec<u8>,
    /// The code to predict. Shape: `[rows]`.
    pub targets: Vec<u8>,
    /// Local conditioning. Shape: `[rows][local channels]`, zero in the leading silence.
    pub local: Vec<f32>,
    /// Index of the class, where the model has classes.
    pub class: usize,
    /// Rows before this one are the silence ahead of a recording: their conditioning is all zero.
    pub sound_from: usize,
    /// Loss counts from this row on; those before are warm-up.
    pub counted_from: usize,
}

impl Segment {
    /// Number of samples whose loss counts.
    pub fn counted(&self) -> usize {
        self.targets.len() - self.counted_from
    }
}

/// Loss of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    /// Sum over the counted samples, in nats.
    pub nats: f64,
    /// Samples whose likeliest code was the true one.
    pub hits: u64,
    /// Counted samples.
    pub samples: u64,
}

impl Loss {
    /// Mean loss in bits a sample.
    pub fn bits_per_sample(&self) -> f64 {
        self.nats / self.samples.max(1) as f64 / core::f64::consts::LN_2
    }

    /// Share of samples whose likeliest code was the true one.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.samples.max(1) as f64
    }

    /// Adds another batch's.
    pub fn add(&mut self, other: Self) {
        self.nats += other.nats;
        self.hits += other.hits;
        self.samples += other.samples;
    }
}

/// Computes losses and gradients; keeps the memory for it between steps.
pub struct Network {
    config: Config,
    threads: usize,
    workspaces: Vec<Workspace>,
    gradients: Vec<Packed>,
    /// Computes instead of the step written by hand.
    #[cfg(feature = "candle")]
    graph: Option<graph::Graph>,
}

/// One thread's memory: what the forward pass leaves for the backward pass, and buffers of a chunk.
/// Lengths follow the longest segment so far.
#[derive(Default)]
struct Workspace {
    segment: Segment,
    /// Input of each layer, after as many zeros as its taps reach back: `[layers][reach + rows][R]`.
    /// None of the first, whose inputs are codes.
    x: Vec<Vec<f32>>,
    /// tanh and sigmoid of each layer: `[layers][rows][2 G]`.
    gates: Vec<Vec<f32>>,
    /// Gradient of the sum of skips: `[rows][S]`.
    dskips: Vec<f32>,
    /// Gradient of each layer's input, of the chunk at hand and of as many rows before it as the
    /// layer's taps reach back: `[layers][reach + CHUNK][R]`. None of the first.
    dx: Vec<Vec<f32>>,
    /// Embedded class followed by local channels: `[rows][H]`.
    h: Vec<f32>,
    /// The runs of channels in which `h` is not zero all along.
    used_channels: Vec<Range<usize>>,
    chunk: ChunkBuffers,
}

/// Buffers of one chunk.
#[derive(Default)]
struct ChunkBuffers {
    /// The gated units of all layers side by side, `[CHUNK][L G]`; on the way back first their gradient.
    z: Vec<f32>,
    /// `[CHUNK][2 G]`
    dsums: Vec<f32>,
    /// The sum of those rows of `dsums` that heard the class: `[2 G]`.
    class_sums: Vec<f32>,
    /// Head: `[CHUNK][S]`, `[CHUNK][A]`, `[CHUNK][levels]`.
    skips: Vec<f32>,
    hidden: Vec<f32>,
    dhidden: Vec<f32>,
    logits: Vec<f32>,
}

/// What a pass leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    LossOnly,
    WithGradient,
}

impl Network {
    /// A network of a shape, for a number of threads.
    pub fn new(config: &Config, threads: usize) -> Self {
        let threads = threads.max(1);
        let workspaces = (0..threads).map(|_| Workspace::default()).collect();
        Self {
            config: config.clone(),
            threads,
            workspaces,
            gradients: Vec::new(),
            #[cfg(feature = "candle")]
            graph: None,
        }
    }

    /// A network on a device; of threads only the processor has a choice.
    ///
    /// # Errors
    /// This program was not built for the device, or there is none.
    pub fn on(device: Device, config: &Config, threads: usize) -> Result<Self> {
        device.check()?;
        Ok(Self {
            #[cfg(feature = "candle")]
            graph: graph::Graph::new(device)?,
            ..Self::new(config, threads)
        })
    }

    /// Mean loss over `count` segments and its gradient, which is written to `gradient` (laid out as
    /// [`Weights::values`]). `fill(index, segment)` makes a segment; it runs on the worker threads.
    ///
    /// # Errors
    /// The first error of `fill`, or of the device.
    pub fn gradient(
        &mut self,
        weights: &Weights,
        count: usize,
        fill: &(dyn Fn(usize, &mut Segment) -> Result<()> + Sync),
        gradient: &mut [f32],
    ) -> Result<Loss> {
        #[cfg(feature = "candle")]
        if let Some(graph) = &self.graph {
            return graph.run(weights, count, fill, Some(gradient));
        }
        let packed = Packed::from_weights(weights);
        self.gradients.truncate(count);
        while self.gradients.len() < count {
            self.gradients.push(Packed::zeros(&self.config));
        }
        let slots: Vec<Mutex<(&mut Packed, Loss)>> = self
            .gradients
            .iter_mut()
            .map(|gradient| Mutex::new((gradient, Loss::default())))
            .collect();
        let config = &self.config;
        run(self.threads, &mut self.workspaces, count, |workspace, index| {
            fill(index, &mut workspace.segment)?;
            let mut slot = slots[index].lock().unwrap_or_else(|poison| poison.into_inner());
            slot.0.clear();
            let loss = workspace.forward(config, &packed, Some(&mut *slot.0));
            workspace.backward(config, &packed, slot.0);
            slot.1 = loss;
            Ok(())
        })?;
        let total = slots
            .into_iter()
            .map(|slot| slot.into_inner().unwrap_or_else(|poison| poison.into_inner()).1)
            .fold(Loss::default(), |mut total, loss| {
                total.add(loss);
                total
            });
        gradient.fill(0.0);
        if let Some((sum, others)) = self.gradients.split_first_mut() {
            others.iter_mut().for_each(|other| sum.add(other));
            sum.untabulate(&packed, &self.config);
            sum.add_to(weights.layout(), &self.config, gradient);
        }
        let scale = 1.0 / total.samples.max(1) as f32;
        gradient.iter_mut().for_each(|value| *value *= scale);
        Ok(total)
    }

    /// As [`Network::gradient`], of segments that are there already; they come back in some state.
    ///
    /// # Errors
    /// That of the device.
    pub fn gradient_of(
        &mut self,
        weights: &Weights,
        batch: &mut [Segment],
        gradient: &mut [f32],
    ) -> Result<Loss> {
        let batch: Vec<Mutex<&mut Segment>> = batch.iter_mut().map(Mutex::new).collect();
        let fill = |index: usize, segment: &mut Segment| -> Result<()> {
            let mut there = batch[index].lock().unwrap_or_else(|poison| poison.into_inner());
            std::mem::swap(&mut **there, segment);
            Ok(())
        };
        self.gradient(weights, batch.len(), &fill, gradient)
    }

    /// Loss over `count` segments, without a gradient.
    ///
    /// # Errors
    /// The first error of `fill`, or of the device.
    pub fn loss(
        &mut self,
        weights: &Weights,
        count: usize,
        fill: &(dyn Fn(usize, &mut Segment) -> Result<()> + Sync),
    ) -> Result<Loss> {
        #[cfg(feature = "candle")]
        if let Some(graph) = &self.graph {
            return graph.run(weights, count, fill, None);
        }
        let packed = Packed::from_weights(weights);
        let losses: Vec<Mutex<Loss>> = (0..count).map(|_| Mutex::new(Loss::default())).collect();
        let config = &self.config;
        run(self.threads, &mut self.workspaces, count, |workspace, index| {
            fill(index, &mut workspace.segment)?;
            let loss = workspace.forward(config, &packed, None);
            *losses[index].lock().unwrap_or_else(|poison| poison.into_inner()) = loss;
            Ok(())
        })?;
        let mut total = Loss::default();
        for loss in &losses {
            total.add(*loss.lock().unwrap_or_else(|poison| poison.into_inner()));
        }
        Ok(total)
    }
}

/// Runs `job` for every index, each thread taking the next one that is free; a thread a workspace.
pub(crate) fn run<W: Send>(
    threads: usize,
    workspaces: &mut [W],
    count: usize,
    job: impl Fn(&mut W, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = |workspace: &mut W| -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            job(workspace, index)?;
        }
    };
    if threads == 1 || count == 1 {
        return workspaces.first_mut().map_or(Ok(()), work);
    }
    std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> =
            workspaces.iter_mut().map(|workspace| scope.spawn(move || work(workspace))).collect();
        let mut result = Ok(());
        for handle in handles {
            match handle.join() {
                Ok(outcome) => result = result.and(outcome),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

#[cfg(test)]
mod tests;
