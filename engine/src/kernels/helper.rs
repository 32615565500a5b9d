//! A second thread for the skips of a model, which lie off a step's critical path.
//!
//! No layer waits for a skip: only the head needs their sum. So a step hands each layer's gated units
//! to a helper as soon as they are known, and goes on with the next layer; the helper adds up
//!
//! ```text
//! s = sum over l of W_s z + b_s
//! ```
//!
//! layer by layer in the product's own order ([`Matrix::segment`]), so the bytes are the same. What it
//! saves is time and cache: the skips are a third of a model's weights, and the helper's core keeps
//! them in a cache of its own.
//!
//! The step neither locks nor calls the system, and needs nobody: it spins for the skips no longer
//! than it would take to compute them, then does so itself, as it does while the helper naps, is late
//! or has died. The helper spins while steps come and naps when none do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::aligned::{Aligned, Plain};
use super::kernel::Kernel;
use super::matrix::{Matrix, Product, Rows};
use super::packed::PackedWeights;
use super::simd::{Simd, Task};

/// Multiply-adds of the skips for one turn of waiting: a turn takes about as long.
const WORK_OF_TURN: usize = 512;
/// Turns of waiting at the least: what it takes to hear from another core.
const FEWEST_TURNS: usize = 200;
/// Turns between two looks at the clock.
const TURNS_OF_LOOK: usize = 256;
/// How long a helper spins while no step begins before it naps.
const SPIN: Duration = Duration::from_micros(500);
/// How long a helper sleeps when it was late or spun in vain: other programs want the cores, and a
/// thread that spins would only take time from the step's own.
const REST: Duration = Duration::from_millis(30);
/// The longest nap. A nap is an eighth of the time without work.
const LONGEST_NAP: Duration = Duration::from_millis(16);

/// What both threads see.
#[derive(Debug)]
struct Shared {
    /// Steps begun, with or without help: how a napping helper hears that it is needed.
    steps: AtomicUsize,
    /// The last step with help, and its voices.
    helped: AtomicUsize,
    voices: AtomicUsize,
    is_awake: AtomicBool,
    shall_stop: AtomicBool,
}

/// The step's side.
pub(super) struct Helper<T> {
    units: HeapProd<T>,
    skips: HeapCons<f32>,
    shared: Arc<Shared>,
    steps: usize,
    /// Values of one voice's skips.
    skip_width: usize,
    /// Skips that were ordered and have not come.
    owed: usize,
    is_helping: bool,
    /// Turns of waiting for one voice.
    patience: usize,
    thread: Option<JoinHandle<()>>,
}

impl<T: Plain + Send + 'static> Helper<T> {
    /// A helper of its own thread, for as many as `lanes` voices.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(super) fn spawn<M: Matrix<Value = T> + Send + 'static>(
        kernel: Kernel,
        weights: &PackedWeights<M>,
        lanes: usize,
    ) -> std::io::Result<Self> {
        let (mut helper, worker) = Self::new(kernel, weights, lanes);
        let thread = std::thread::Builder::new().name("wavenet skips".into());
        helper.thread = Some(thread.spawn(|| worker.work())?);
        Ok(helper)
    }

    /// Both sides, without a thread.
    pub(super) fn new<M: Matrix<Value = T>>(
        kernel: Kernel,
        weights: &PackedWeights<M>,
        lanes: usize,
    ) -> (Self, Worker<M>) {
        let shared = Arc::new(Shared {
            steps: AtomicUsize::new(0),
            helped: AtomicUsize::new(0),
            voices: AtomicUsize::new(0),
            is_awake: AtomicBool::new(true),
            shall_stop: AtomicBool::new(false),
        });
        let (layers, width) = (weights.layers.len(), weights.units_width);
        let skip = &weights.skip;
        let skip_width = skip.bias.len();
        let (units, to_worker) = HeapRb::new(lanes * layers * width).split();
        let (from_worker, skips) = HeapRb::new(lanes * skip_width).split();
        let work = layers * width * skip_width;
        let helper = Self {
            units,
            skips,
            shared: shared.clone(),
            steps: 0,
            skip_width,
            owed: 0,
            is_helping: false,
            patience: FEWEST_TURNS + work / WORK_OF_TURN,
            thread: None,
        };
        let every = |stride| (0..lanes).map(|lane| lane * stride).collect();
        let worker = Worker {
            kernel,
            parts: (0..layers).map(|layer| skip.matrix.segment(layer, width)).collect(),
            scales: Aligned::from(skip.matrix.scales()),
            bias: Aligned::from(&skip.bias[..]),
            // Adding -0.0 changes no float at all.
            nothing: Aligned::from(&vec![-0.0; skip_width][..]),
            units: to_worker,
            skips: from_worker,
            shared,
            rows: Aligned::zeros(lanes * width),
            row_starts: every(width),
            sums: Aligned::zeros(lanes * skip_width),
            sum_starts: every(skip_width),
            init_starts: every(0),
            totals: vec![M::Total::default(); lanes * skip_width],
            width,
            spin: SPIN,
            rest: REST,
            was_of_help: false,
        };
        (helper, worker)
    }

    /// Begins a step of so many voices. Real-time safe.
    #[inline]
    pub(super) fn begin(&mut self, voices: usize) {
        self.steps = self.steps.wrapping_add(1);
        self.shared.steps.store(self.steps, Ordering::Relaxed);
        // What comes too late is of a step that is over.
        if self.owed > 0 && self.skips.occupied_len() >= self.owed {
            self.skips.skip(self.owed);
            self.owed = 0;
        }
        self.is_helping = self.owed == 0 && self.shared.is_awake.load(Ordering::Relaxed);
        if self.is_helping {
            // The units that follow carry these over.
            self.shared.helped.store(self.steps, Ordering::Relaxed);
            self.shared.voices.store(voices, Ordering::Relaxed);
            self.owed = voices * self.skip_width;
        }
    }

    /// Hands over one voice's gated units of the next layer. Real-time safe.
    #[inline]
    pub(super) fn send(&mut self, units: &[T]) {
        if self.is_helping {
            self.units.push_slice(units);
        }
    }

    /// Waits a little for the step's skips, and writes them to `skips`, shape `[voices][S']`.
    /// False where none came, and `skips` is as it was. Real-time safe.
    #[inline]
    pub(super) fn receive(&mut self, skips: &mut [f32]) -> bool {
        if !self.is_helping {
            return false;
        }
        let turns = self.patience * (self.owed / self.skip_width);
        for _ in 0..turns {
            if self.skips.occupied_len() >= self.owed {
                self.skips.pop_slice(&mut skips[..self.owed]);
                self.owed = 0;
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

impl<T> Drop for Helper<T> {
    fn drop(&mut self) {
        self.shared.shall_stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A helper that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl<T> std::fmt::Debug for Helper<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helper").field("owed", &self.owed).finish_non_exhaustive()
    }
}

/// The helper's side.
pub(super) struct Worker<M: Matrix> {
    kernel: Kernel,
    /// The skips' weights, one matrix a layer. `[S', G']`
    parts: Vec<M>,
    /// Of the skips' rows, where they have some.
    scales: Aligned<f32>,
    bias: Aligned<f32>,
    nothing: Aligned<f32>,
    units: HeapCons<M::Value>,
    skips: HeapProd<f32>,
    shared: Arc<Shared>,
    /// Gated units of one layer. `[lanes][G']`
    rows: Aligned<M::Value>,
    row_starts: Vec<usize>,
    /// What they give. `[lanes][S']`
    sums: Aligned<f32>,
    sum_starts: Vec<usize>,
    init_starts: Vec<usize>,
    /// Of the layers so far. `[lanes][S']`
    totals: Vec<M::Total>,
    /// G'
    width: usize,
    /// How long it spins while no step begins.
    spin: Duration,
    /// How long it sleeps when it was of no help.
    rest: Duration,
    /// Whether skips came in time since it last slept.
    was_of_help: bool,
}

impl<M: Matrix> Worker<M> {
    /// Helps until told to stop.
    pub(super) fn work(mut self) {
        super::set_float_mode();
        while self.help() {}
    }

    /// Helps with one step; false when told to stop.
    pub(super) fn help(&mut self) -> bool {
        if !self.wait_for(1) {
            return false;
        }
        let voices = self.shared.voices.load(Ordering::Relaxed);
        let step = self.shared.helped.load(Ordering::Relaxed);
        let (values, outs) = (voices * self.width, voices * self.bias.len());
        for layer in 0..self.parts.len() {
            if !self.wait_for(values) {
                return false;
            }
            self.units.pop_slice(&mut self.rows[..values]);
            let Self { kernel, sums, totals, bias, .. } = self;
            kernel.run(Product {
                matrix: &self.parts[layer],
                inputs: Rows { memory: &self.rows, starts: &self.row_starts[..voices] },
                init: Some(Rows { memory: &self.nothing, starts: &self.init_starts[..voices] }),
                out: sums,
                out_starts: &self.sum_starts[..voices],
            });
            let (sums, totals) = (&sums[..outs], &mut totals[..outs]);
            kernel.run(Add::<M> { sums, totals, bias: (layer == 0).then_some(bias) });
        }
        let Self { sums, totals, scales, bias, .. } = self;
        self.kernel.run(Finish::<M> { totals, scales, bias, out: &mut sums[..outs] });
        self.was_of_help = self.shared.steps.load(Ordering::Relaxed) == step;
        self.skips.push_slice(&self.sums[..outs]);
        if !self.was_of_help {
            self.sleep(step);
        }
        true
    }

    /// Waits for so many values; false when told to stop.
    fn wait_for(&mut self, values: usize) -> bool {
        let (mut began, mut steps) = (None, self.shared.steps.load(Ordering::Relaxed));
        loop {
            for _ in 0..TURNS_OF_LOOK {
                if self.units.occupied_len() >= values {
                    return true;
                }
                std::hint::spin_loop();
            }
            if self.shared.shall_stop.load(Ordering::Relaxed) {
                return false;
            }
            let (now, before) = (Instant::now(), steps);
            steps = self.shared.steps.load(Ordering::Relaxed);
            if steps != before {
                began = None;
            } else if now - *began.get_or_insert(now) > self.spin {
                self.sleep(steps);
                began = None;
            }
        }
    }

    /// Sleeps until a step has begun since `steps`; longer where it was of no help since it last did.
    fn sleep(&mut self, steps: usize) {
        let least = if self.was_of_help { Duration::ZERO } else { self.rest };
        let (began, shared) = (Instant::now(), &self.shared);
        shared.is_awake.store(false, Ordering::Relaxed);
        while !shared.shall_stop.load(Ordering::Relaxed) {
            let slept = began.elapsed();
            if slept >= least && shared.steps.load(Ordering::Relaxed) != steps {
                break;
            }
            let nap = ((SPIN + slept) / 8).min(LONGEST_NAP);
            std::thread::park_timeout(nap.max(least.saturating_sub(slept)));
        }
        shared.is_awake.store(true, Ordering::Relaxed);
        self.was_of_help = false;
    }
}

/// Adds a layer's sums; the first begin with the bias.
struct Add<'a, M: Matrix> {
    sums: &'a [f32],
    totals: &'a mut [M::Total],
    bias: Option<&'a [f32]>,
}

impl<M: Matrix> Task for Add<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        if let Some(bias) = self.bias {
            for totals in self.totals.chunks_exact_mut(bias.len()) {
                for (total, &bias) in totals.iter_mut().zip(bias) {
                    *total = M::begin_total(bias);
                }
            }
        }
        for (total, &sum) in self.totals.iter_mut().zip(self.sums) {
            *total = M::add_to_total(*total, sum);
        }
    }
}

/// Turns totals into skips.
struct Finish<'a, M: Matrix> {
    totals: &'a [M::Total],
    scales: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl<M: Matrix> Task for Finish<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = self.bias.len();
        for (out, totals) in self.out.chunks_exact_mut(width).zip(self.totals.chunks_exact(width)) {
            M::finish_totals(totals, self.scales, self.bias, out);
        }
    }
}

#[cfg(test)]
mod tests;
