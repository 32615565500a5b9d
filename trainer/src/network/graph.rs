//! Loss and gradient by candle's graph of the whole clip (`wavenet_engine::reference`), behind the
//! same interface as the step written by hand: what that and the card's (`card.rs`) are compared with.
//!
//! Segment after segment, so that the graph of one is all that must fit into the device's memory.

use anyhow::{Context, Result};
use candle_core::{D, DType, Tensor};
use wavenet_engine::reference::Reference;
use wavenet_engine::{Error, Weights};

use super::{Device, Loss, Segment};

/// A device that candle can use.
pub(super) struct Graph {
    device: candle_core::Device,
}

impl Graph {
    /// `None` for the device that needs no graph.
    pub(super) fn new(device: Device) -> Result<Option<Self>> {
        let device = match device {
            Device::Cpu => return Ok(None),
            Device::Candle => candle_core::Device::Cpu,
            Device::Cuda => {
                candle_core::Device::new_cuda(0).map_err(Error::from).context("no CUDA device")?
            }
        };
        Ok(Some(Self { device }))
    }

    /// As [`super::Network::gradient`], or as [`super::Network::loss`] where no gradient is asked for.
    pub(super) fn run(
        &self,
        weights: &Weights,
        count: usize,
        fill: &dyn Fn(usize, &mut Segment) -> Result<()>,
        mut gradient: Option<&mut [f32]>,
    ) -> Result<Loss> {
        let reference = Reference::from_weights(weights, &self.device)?;
        if let Some(gradient) = gradient.as_deref_mut() {
            gradient.fill(0.0);
        }
        let (mut segment, mut total) = (Segment::default(), Loss::default());
        for index in 0..count {
            fill(index, &mut segment)?;
            if segment.counted() == 0 {
                continue;
            }
            let (mean, loss) = self.loss(&reference, &segment)?;
            total.add(loss);
            if let Some(gradient) = gradient.as_deref_mut() {
                let part = reference.gradient(&mean)?;
                for (sum, value) in gradient.iter_mut().zip(part) {
                    *sum += value * loss.samples as f32;
                }
            }
        }
        if let Some(gradient) = gradient {
            let scale = 1.0 / total.samples.max(1) as f32;
            gradient.iter_mut().for_each(|value| *value *= scale);
        }
        Ok(total)
    }

    /// The mean cross-entropy of a segment's counted rows as a node of the graph, and in numbers.
    fn loss(&self, model: &Reference, segment: &Segment) -> Result<(Tensor, Loss), Error> {
        let (rows, lead) = (segment.targets.len(), segment.sound_from);
        let channels = model.config().local_channels();
        let local = Tensor::from_slice(
            &segment.local[lead * channels..],
            (rows - lead, channels),
            &self.device,
        )?;
        let local = (channels > 0).then_some(&local);
        // Silence has no conditioning, not even a class.
        let conditioning = model.conditioning(segment.class, local, rows - lead)?;
        let conditioning = conditioning.map(|rows| rows.pad_with_zeros(0, lead, 0)).transpose()?;
        let logits = model.forward_window(&segment.inputs, conditioning.as_ref())?;
        let mean = model.loss(&logits, &segment.targets, segment.counted_from)?;

        let counted = logits.detach().narrow(0, segment.counted_from, segment.counted())?;
        let targets = &segment.targets[segment.counted_from..];
        let targets: Vec<u32> = targets.iter().map(|&code| u32::from(code)).collect();
        let targets = Tensor::from_vec(targets, (segment.counted(), 1), &self.device)?;
        let likeliest = counted.max_keepdim(D::Minus1)?;
        let hits = counted.gather(&targets, 1)?.ge(&likeliest)?.to_dtype(DType::F32)?.sum_all()?;
        let samples = segment.counted() as u64;
        let loss = Loss {
            nats: f64::from(mean.to_scalar::<f32>()?) * samples as f64,
            hits: hits.to_scalar::<f32>()? as u64,
            samples,
        };
        Ok((mean, loss))
    }
}
