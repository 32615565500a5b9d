//! A batch of segments on the card. Rows are times, and within a time the segments: `[time][segment]`, so that
//! going back in time is going back in memory by whole rows, for all segments at once.
//!
//! Segments begin together; shorter ones end in rows that count for nothing.

use candle_core::{DType, Device, Result, Tensor};
use wavenet_engine::Config;

use super::joined::constant_rows;
use crate::network::Segment;

/// Segments side by side.
pub(super) struct Batch {
    /// Number of segments.
    pub(super) width: usize,
    /// Rows of the longest segment.
    pub(super) frames: usize,
    /// The first frame whose loss counts in a segment.
    pub(super) first_counted: usize,
    /// Samples whose loss counts.
    pub(super) samples: u64,
    /// The code before each target, u32. Shape: `[frames width]`.
    pub(super) codes: Tensor,
    /// The code to predict, u32, from `first_counted` on. Shape: `[counted width]`.
    pub(super) targets: Tensor,
    /// 1 for a row that counts, 0 for another, f32; `None` where all do. Shape: `[counted width]`.
    pub(super) counts: Option<Tensor>,
    /// 1 where a row hears its class. Shape: `[frames width, classes]`.
    pub(super) classes: Option<Tensor>,
    /// Local conditioning, ones and zeros: what the gates hear beside their taps and the class.
    /// Shape: `[frames width, constant rows - class width]`.
    pub(super) constant: Tensor,
}

impl Batch {
    /// Copies segments to a device; activations will be of a type. `None` where no row counts.
    pub(super) fn new(
        config: &Config,
        segments: &[Segment],
        device: &Device,
        dtype: DType,
    ) -> Result<Option<Self>> {
        let width = segments.len();
        let samples: usize = segments.iter().map(Segment::counted).sum();
        let frames = segments.iter().map(|segment| segment.targets.len()).max().unwrap_or(0);
        let counted = segments.iter().filter(|segment| segment.counted() > 0);
        let Some(first_counted) = counted.map(|segment| segment.counted_from).min() else {
            return Ok(None);
        };
        let rows = (frames - first_counted) * width;

        let mut codes = vec![0_u32; frames * width];
        let mut targets = vec![0_u32; rows];
        let mut counts = vec![0.0_f32; rows];
        for (index, segment) in segments.iter().enumerate() {
            for (frame, &code) in segment.inputs.iter().enumerate() {
                codes[frame * width + index] = u32::from(code);
            }
            for frame in first_counted..segment.targets.len() {
                let row = (frame - first_counted) * width + index;
                targets[row] = u32::from(segment.targets[frame]);
                counts[row] = if frame >= segment.counted_from { 1.0 } else { 0.0 };
            }
        }
        let counts =
            (samples < rows).then(|| Tensor::from_vec(counts, rows, device)).transpose()?;
        Ok(Some(Self {
            width,
            frames,
            first_counted,
            samples: samples as u64,
            codes: Tensor::from_vec(codes, frames * width, device)?,
            targets: Tensor::from_vec(targets, rows, device)?,
            counts,
            classes: classes(config, segments, frames, device, dtype)?,
            constant: constant(config, segments, frames, device, dtype)?,
        }))
    }

    /// Rows whose loss may count.
    pub(super) fn counted_rows(&self) -> usize {
        (self.frames - self.first_counted) * self.width
    }
}

fn classes(
    config: &Config,
    segments: &[Segment],
    frames: usize,
    device: &Device,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let (count, width) = (config.classes.len(), segments.len());
    if count == 0 {
        return Ok(None);
    }
    let mut hears = vec![0.0_f32; frames * width * count];
    for (index, segment) in segments.iter().enumerate() {
        // Silence has no conditioning, not even a class.
        for frame in segment.sound_from..segment.targets.len() {
            hears[(frame * width + index) * count + segment.class] = 1.0;
        }
    }
    let hears = Tensor::from_vec(hears, (frames * width, count), device)?;
    Ok(Some(hears.to_dtype(dtype)?))
}

fn constant(
    config: &Config,
    segments: &[Segment],
    frames: usize,
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let (channels, width) = (config.local_channels(), segments.len());
    let rows = frames * width;
    let rest = constant_rows(config) - config.class_width() - channels;
    let mut one = vec![0.0_f32; rest];
    one[0] = 1.0;
    let ones = Tensor::from_vec(one, (1, rest), device)?.to_dtype(dtype)?;
    let ones = ones.broadcast_as((rows, rest))?.contiguous()?;
    if channels == 0 {
        return Ok(ones);
    }
    // As the segments lie; the card turns them.
    let mut local = vec![0.0_f32; rows * channels];
    for (lane, segment) in local.chunks_exact_mut(frames * channels).zip(segments) {
        let there = segment.sound_from * channels..segment.targets.len() * channels;
        lane[there.clone()].copy_from_slice(&segment.local[there]);
    }
    let local = Tensor::from_vec(local, (width, frames, channels), device)?.to_dtype(dtype)?;
    let local = local.transpose(0, 1)?.contiguous()?.reshape((rows, channels))?;
    Tensor::cat(&[local, ones], 1)
}
