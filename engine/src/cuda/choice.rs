//! Which kernels play a model, and the model as they read it.

use super::driver::{Card, WIDE};
use super::image::Image;
use super::params::{PipelineBf16Args, PipelineInt8Args, SingleArgs};
use super::shapes::{BatchShape, OfShape};
use super::{Mode, pipeline_bf16, pipeline_int8, single};
use crate::config::{Config, Dtype};
use crate::error::Result;
use crate::kernels::Packed;
use crate::weights::Weights;

/// The kernels that play a model beside the general text: the number of its shape, and what they are told beside
/// [`Params`](super::params::Params).
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) single: Option<(usize, SingleArgs)>,
    pub(super) batch: Option<usize>,
    pub(super) pipeline_int8: Option<(usize, PipelineInt8Args)>,
    /// Then it plays all.
    pub(super) pipeline_bf16: Option<(usize, PipelineBf16Args)>,
}

/// What this card can run, and so many lanes want: up to one a multiprocessor each plays alone, where a kernel of its
/// shape can.
///
/// # Errors
/// As [`pipeline_bf16::of`] and [`pipeline_int8::of`], where the mode is theirs.
pub(super) fn choose(
    config: &Config,
    dtype: Dtype,
    card: &Card,
    lanes: usize,
    mode: Mode,
) -> Result<OfShape> {
    if mode == Mode::Fast {
        let shape = pipeline_bf16::of(config, card)?;
        return Ok(OfShape { pipeline_bf16: Some(shape), ..OfShape::GENERAL });
    }
    let pipeline_int8 =
        (mode == Mode::Pipeline).then(|| pipeline_int8::of(config, dtype, card)).transpose()?;
    if dtype != Dtype::Int8 || card.capability < WIDE {
        return Ok(OfShape::GENERAL);
    }
    let single = single::Shape::of(config);
    let has_batch = single.is_none() || lanes > card.multiprocessors as usize;
    Ok(OfShape {
        single,
        batch: has_batch.then(|| BatchShape::of(config)).flatten(),
        pipeline_int8,
        pipeline_bf16: None,
    })
}

/// The model as the chosen kernels read it.
pub(super) fn image(weights: &Weights, packed: &Packed, of_shape: OfShape) -> (Image, Chosen) {
    let nothing = Chosen { single: None, batch: None, pipeline_int8: None, pipeline_bf16: None };
    if let Some(index) = of_shape.pipeline_bf16 {
        let (image, args) = pipeline_bf16::image(pipeline_bf16::SHAPES[index], weights, packed);
        return (image, Chosen { pipeline_bf16: Some((index, args)), ..nothing });
    }
    let mut image = Image::new(weights, packed);
    let mut chosen = Chosen { batch: of_shape.batch, ..nothing };
    if let Some(index) = of_shape.single {
        chosen.single = Some((index, single::SHAPES[index].image(weights, &mut image)));
    }
    if let Some(index) = of_shape.pipeline_int8 {
        let shape = pipeline_int8::SHAPES[index];
        chosen.pipeline_int8 = Some((index, pipeline_int8::image(shape, weights, &mut image)));
    }
    (image, chosen)
}
