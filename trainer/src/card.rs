//! Training on a card: weights, gradient and optimizer live there, in candle's tensors, and what comes back
//! each step is three numbers. The host has its own copy of weights and optimizer for checkpoints and
//! validation, which is brought up to date when it is asked for.
//!
//! Beside the oracle's graph (`network/graph.rs`), which this is tested against: a batch at once instead
//! of segment by segment, joined matrices, and a backward pass by hand.

mod batch;
#[cfg(feature = "cuda")]
mod cuda;
mod joined;
mod parts;
mod pass;
mod values;

use std::sync::Mutex;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use wavenet_engine::{Config, Error, Weights};

use crate::network::{Loss, Precision, Segment, run};
use crate::optimizer::{AdamW, Moments};
use batch::Batch;
use joined::Joined;
use pass::Forward;
use values::CrossEntropy;

/// Rows that are measured at once where there are many segments.
const ROWS_AT_ONCE: usize = 1 << 16;

/// A device, and what learns on it.
pub struct Card {
    config: Config,
    device: Device,
    dtype: DType,
    threads: usize,
    joined: Joined,
    /// Weights, mean, square and average one after another, f32; `None` while the host's are the newest.
    state: Option<Tensor>,
    /// Whether the host's are behind.
    is_ahead: bool,
    gradient: Option<(Tensor, f64)>,
}

impl Card {
    /// The first NVIDIA card.
    ///
    /// # Errors
    /// One line: there is none, or this program was not built for it.
    pub fn first(config: &Config, precision: Precision, threads: usize) -> Result<Self> {
        let device = Device::new_cuda(0).map_err(Error::from).context("no CUDA device")?;
        #[cfg(feature = "cuda")]
        {
            candle_core::cuda::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
            cuda::keep_memory(&device).map_err(Error::from)?;
        }
        Self::on(device, config, precision, threads)
    }

    /// Any device of candle's.
    ///
    /// # Errors
    /// The config is not allowed.
    pub fn on(
        device: Device,
        config: &Config,
        precision: Precision,
        threads: usize,
    ) -> Result<Self> {
        let zeros = Weights::zeros(config.clone())?;
        Ok(Self {
            joined: Joined::new(config, zeros.layout()),
            config: config.clone(),
            device,
            dtype: if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 },
            threads: threads.max(1),
            state: None,
            is_ahead: false,
            gradient: None,
        })
    }

    /// Mean loss over a batch and the norm of its gradient, which is kept for [`Card::step`]. The weights are
    /// the card's own, or the host's where [`Card::forget`] was called.
    ///
    /// # Errors
    /// The device fails.
    pub fn gradient(
        &mut self,
        weights: &Weights,
        moments: &Moments,
        batch: &[Segment],
    ) -> Result<(Loss, f64)> {
        Ok(self.compute_gradient(weights, moments, batch).map_err(Error::from)?)
    }

    fn compute_gradient(
        &mut self,
        weights: &Weights,
        moments: &Moments,
        segments: &[Segment],
    ) -> candle_core::Result<(Loss, f64)> {
        let state = match self.state.take() {
            Some(state) => state,
            None => {
                let parts = [weights.values(), &moments.mean, &moments.square, &moments.average];
                let joined: Vec<f32> =
                    parts.iter().flat_map(|values| self.joined.join(values)).collect();
                let len = joined.len();
                Tensor::from_vec(joined, len, &self.device)?
            }
        };
        let weights = state.narrow(0, 0, self.joined.len())?;
        self.state = Some(state);
        let (flat, norm_square, measured, samples);
        match Batch::new(&self.config, segments, &self.device, self.dtype)? {
            None => {
                self.gradient = Some((weights.zeros_like()?, 0.0));
                return Ok((Loss::default(), 0.0));
            }
            Some(batch) => {
                let matrices = self.joined.views(&weights.to_dtype(self.dtype)?)?;
                let forward = Forward::new(&self.config, &matrices, &batch)?;
                let CrossEntropy { nats_and_hits, dlogits } = forward.measure(true)?;
                let Some(dlogits) = dlogits else { unreachable!("asked for") };
                let gradient = forward.backward(&dlogits)?;
                flat = Joined::flatten(&gradient)?.to_dtype(DType::F32)?;
                norm_square = parts::sum_of_squares(&flat)?.reshape(1)?;
                (measured, samples) = (nats_and_hits, batch.samples);
            }
        }
        // The only wait of a step.
        let numbers = Tensor::cat(&[measured, norm_square], 0)?.to_vec1::<f32>()?;
        let norm = f64::from(numbers[2]).sqrt();
        self.gradient = Some((flat, norm));
        Ok((loss(&numbers, samples), norm))
    }

    /// Moves the card's weights one step against the gradient, which is shortened to the norm allowed. Of the
    /// host's it counts the step.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(&mut self, adam: &AdamW, moments: &mut Moments, learning_rate: f32) -> Result<()> {
        let (Some(state), Some((gradient, norm))) = (&self.state, self.gradient.take()) else {
            anyhow::bail!("a step without a gradient");
        };
        moments.step += 1;
        let stride = [learning_rate, adam.share_left(norm)];
        let state = parts::adamw(adam, state, &gradient, stride, moments.step);
        self.state = Some(state.map_err(Error::from)?);
        self.is_ahead = true;
        Ok(())
    }

    /// Brings the host's numbers up to date.
    ///
    /// # Errors
    /// The device fails.
    pub fn fetch(&mut self, weights: &mut Weights, moments: &mut Moments) -> Result<()> {
        let Some(state) = self.state.as_ref().filter(|_| self.is_ahead) else {
            return Ok(());
        };
        let state = state.to_vec1::<f32>().map_err(Error::from)?;
        let into =
            [weights.values_mut(), &mut moments.mean, &mut moments.square, &mut moments.average];
        for (from, into) in state.chunks_exact(self.joined.len()).zip(into) {
            self.joined.part(from, into);
        }
        self.is_ahead = false;
        Ok(())
    }

    /// From here on the host's numbers count.
    pub fn forget(&mut self) {
        (self.state, self.gradient, self.is_ahead) = (None, None, false);
    }

    /// Loss of other weights over `count` segments, without a gradient.
    ///
    /// # Errors
    /// The first error of `fill`, or of the device.
    pub fn loss(
        &self,
        weights: &Weights,
        count: usize,
        fill: &(dyn Fn(usize, &mut Segment) -> Result<()> + Sync),
    ) -> Result<Loss> {
        let flat = self.upload(weights.values()).and_then(|flat| flat.to_dtype(self.dtype));
        let matrices = self.joined.views(&flat.map_err(Error::from)?).map_err(Error::from)?;
        let mut total = Loss::default();
        let (mut segments, mut first): (Vec<Segment>, usize) = (Vec::new(), 0);
        let mut at_once = 1;
        while first < count {
            segments.resize_with(at_once.min(count - first), Segment::default);
            fill_all(self.threads, first, &mut segments, fill)?;
            first += segments.len();
            let longest = segments.iter().map(|segment| segment.targets.len()).max();
            at_once = (ROWS_AT_ONCE / longest.unwrap_or(1).max(1)).max(1);
            total.add(self.measure(&matrices, &segments).map_err(Error::from)?);
        }
        Ok(total)
    }

    fn measure(
        &self,
        weights: &joined::Matrices<Tensor>,
        segments: &[Segment],
    ) -> candle_core::Result<Loss> {
        let Some(batch) = Batch::new(&self.config, segments, &self.device, self.dtype)? else {
            return Ok(Loss::default());
        };
        let measured = Forward::new(&self.config, weights, &batch)?.measure(false)?;
        Ok(loss(&measured.nats_and_hits.to_vec1::<f32>()?, batch.samples))
    }

    fn upload(&self, values: &[f32]) -> candle_core::Result<Tensor> {
        let joined = self.joined.join(values);
        let len = joined.len();
        Tensor::from_vec(joined, len, &self.device)
    }
}

/// Nats, hits and perhaps more.
fn loss(numbers: &[f32], samples: u64) -> Loss {
    Loss { nats: f64::from(numbers[0]), hits: numbers[1] as u64, samples }
}

/// Makes the segments from number `first` on.
fn fill_all(
    threads: usize,
    first: usize,
    segments: &mut [Segment],
    fill: &(dyn Fn(usize, &mut Segment) -> Result<()> + Sync),
) -> Result<()> {
    let slots: Vec<Mutex<&mut Segment>> = segments.iter_mut().map(Mutex::new).collect();
    run(threads, &mut vec![(); threads], slots.len(), |(), index| {
        fill(first + index, &mut slots[index].lock().unwrap_or_else(|poison| poison.into_inner()))
    })
}

#[cfg(test)]
mod tests;
