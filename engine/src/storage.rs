//! How a model's numbers lie in its file: as they are, as bf16, or as int8 with a scale for each row.
//!
//! What a kernel would round anyway is stored rounded, and only that: so a smaller file plays the
//! same bytes in its type as the one that it was made from. bf16 rounds every matrix but the
//! embeddings. int8 leaves layer 0's taps alone too: they become tables in f32.
//!
//! ```text
//! w = scale q          q in -127 ..= 127, one scale a row: its largest |w| / 127 (`row_scale`)
//! ```
//!
//! A scale has 16 bits of mantissa and q has 7, so w is exact in f32, and rounding it again gives the
//! same scale and the same q. Where that cannot be (numbers near the ends of f32), a matrix stays f32.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView};

use crate::config::{Config, Dtype};
use crate::error::{Error, Result};
use crate::layout::{Layout, TensorSpec};
use crate::rounding::{rounded, row_scale};

/// A tensor on its way into a file.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) dtype: FileDtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// The name of the scales of an int8 matrix.
pub(crate) fn scale_name(tensor: &str) -> String {
    format!("{tensor}.scale")
}

/// All tensors of a model, stored as `dtype` says.
pub(crate) fn encode(
    config: &Config,
    layout: &Layout,
    values: &[f32],
    dtype: Dtype,
) -> Vec<Stored> {
    let mut scales = match dtype {
        Dtype::Int8 => scales_of_matrices(config, layout, values),
        Dtype::F32 | Dtype::Bf16 => BTreeMap::new(),
    };
    let mut all = Vec::with_capacity(layout.specs.len());
    for spec in &layout.specs {
        let values = &values[spec.range.clone()];
        let tensor = |dtype, bytes| {
            let (name, shape) = (spec.name.clone(), spec.shape.clone());
            Stored { name, dtype, shape, bytes }
        };
        if let Some(scales) = scales.remove(&spec.range.start) {
            let rows = values.chunks_exact(values.len() / scales.len()).zip(&scales);
            let quantised =
                rows.flat_map(|(row, scale)| row.iter().map(|&weight| rounded(weight, *scale)));
            all.push(tensor(FileDtype::I8, quantised.map(|q| q as u8).collect()));
            all.push(Stored {
                name: scale_name(&spec.name),
                dtype: FileDtype::F32,
                shape: spec.shape[..spec.shape.len() - 1].to_vec(),
                bytes: f32_bytes(&scales),
            });
        } else {
            let bf16 = (dtype == Dtype::Bf16 && is_rounded_to_bf16(layout, spec))
                .then(|| bf16_bytes(values))
                .flatten();
            all.push(match bf16 {
                Some(bytes) => tensor(FileDtype::BF16, bytes),
                None => tensor(FileDtype::F32, f32_bytes(values)),
            });
        }
    }
    all
}

/// Reads one tensor, exactly, and says how it was stored.
///
/// # Errors
/// [`Error::Shape`] for it or its scales, [`Error::Unsupported`] for another type than a file of this
/// version has, [`Error::Format`] for what no writer writes. `values` may hold NaN or infinity.
pub(crate) fn decode(
    tensors: &SafeTensors<'_>,
    version: u32,
    spec: &TensorSpec,
    values: &mut [f32],
) -> Result<Dtype> {
    let tensor = find(tensors, &spec.name, &spec.shape)?;
    match tensor.dtype() {
        FileDtype::F32 => {
            values.iter_mut().zip(floats(&tensor)).for_each(|(value, float)| *value = float);
            Ok(Dtype::F32)
        }
        FileDtype::BF16 => {
            for (value, bytes) in values.iter_mut().zip(tensor.data().chunks_exact(2)) {
                *value = half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
            Ok(Dtype::Bf16)
        }
        FileDtype::I8 if version > 1 && spec.shape.len() > 1 => {
            let (rows, columns) = spec.shape.split_at(spec.shape.len() - 1);
            let name = scale_name(&spec.name);
            let scales = find(tensors, &name, rows)?;
            if scales.dtype() != FileDtype::F32 {
                return Err(unsupported(&name, &scales));
            }
            let damaged = |name: &str, what| {
                Error::Format(format!("tensor `{name}` holds {what}; it is damaged"))
            };
            let rows = values.chunks_exact_mut(columns[0]);
            let rows = rows.zip(tensor.data().chunks_exact(columns[0]));
            for ((row, quantised), scale) in rows.zip(floats(&scales)) {
                // A shorter mantissa makes every product exact.
                if !(scale > 0.0 && scale.is_normal() && scale.to_bits() & 0xff == 0) {
                    return Err(damaged(&name, "what is no scale"));
                }
                for (value, &q) in row.iter_mut().zip(quantised) {
                    let q = q as i8;
                    if q == i8::MIN {
                        return Err(damaged(&spec.name, "-128"));
                    }
                    *value = f32::from(q) * scale;
                }
            }
            Ok(Dtype::Int8)
        }
        _ => Err(unsupported(&spec.name, &tensor)),
    }
}

fn find<'a>(tensors: &SafeTensors<'a>, name: &str, shape: &[usize]) -> Result<TensorView<'a>> {
    let wrong = |got: &[usize]| Error::Shape {
        tensor: name.to_owned(),
        expected: shape.to_vec(),
        got: got.to_vec(),
    };
    let tensor = tensors.tensor(name).map_err(|_| wrong(&[]))?;
    if tensor.shape() == shape { Ok(tensor) } else { Err(wrong(tensor.shape())) }
}

fn unsupported(name: &str, tensor: &TensorView<'_>) -> Error {
    Error::Unsupported(format!("tensor `{name}` stored as {:?}", tensor.dtype()))
}

fn floats(tensor: &TensorView<'_>) -> impl Iterator<Item = f32> {
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// To nearest, ties to even; `None` where one becomes infinite.
fn bf16_bytes(values: &[f32]) -> Option<Vec<u8>> {
    let narrow: Vec<half::bf16> = values.iter().map(|&value| half::bf16::from_f32(value)).collect();
    let is_finite = narrow.iter().all(|value| value.is_finite());
    is_finite.then(|| narrow.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn is_rounded_to_bf16(layout: &Layout, spec: &TensorSpec) -> bool {
    let embeddings = [Some(&layout.embedding), layout.class_embedding.as_ref()];
    spec.shape.len() > 1 && !embeddings.contains(&Some(&spec.range))
}

/// The scales of the rows of each matrix that can be stored as int8, by where it begins.
fn scales_of_matrices(
    config: &Config,
    layout: &Layout,
    values: &[f32],
) -> BTreeMap<usize, Vec<f32>> {
    let mut all = BTreeMap::new();
    for (columns, matrices) in int8_matrices(config, layout) {
        let values: Vec<&[f32]> = matrices.iter().map(|&range| &values[range.clone()]).collect();
        if let Some(scales) = scales(&values, columns) {
            all.extend(matrices.iter().map(|range| (range.start, scales.clone())));
        }
    }
    all
}

/// Matrices that the int8 kernel reads as int8 and in no other way, and their columns; those together
/// whose rows share a scale.
fn int8_matrices<'a>(config: &Config, layout: &'a Layout) -> Vec<(usize, Vec<&'a Range<usize>>)> {
    let mut all = Vec::new();
    for (index, layer) in layout.layers.iter().enumerate() {
        for half in [&layer.filter, &layer.gate] {
            if index > 0 {
                all.push((config.residual_channels, vec![&half.taps]));
            }
            let conditioning = half.conditioning.iter();
            all.extend(conditioning.map(|range| (config.conditioning_channels(), vec![range])));
        }
        let residual = layer.residual.iter();
        all.extend(residual.map(|part| (config.gate_channels, vec![&part.weight])));
    }
    let skips = layout.layers.iter().map(|layer| &layer.skip.weight).collect();
    all.push((config.gate_channels, skips));
    all.push((config.skip_channels, vec![&layout.end1.weight]));
    all.push((config.end_channels, vec![&layout.end2.weight]));
    all
}

/// One scale for each row of some matrices beside each other; `None` where weights would not come
/// back from the file as the kernel rounds them.
fn scales(matrices: &[&[f32]], columns: usize) -> Option<Vec<f32>> {
    let rows = matrices.first().map_or(0, |matrix| matrix.len() / columns);
    let scale = |row: usize| {
        let weights = matrices.iter().flat_map(|m| &m[row * columns..(row + 1) * columns]);
        let largest = weights.fold(0.0_f32, |max, weight| max.max(weight.abs()));
        // Whatever the scale, such a row is zeros.
        let scale = if largest > 0.0 { row_scale(largest) } else { 1.0 };
        (scale.is_normal() && (127.0 * scale).is_finite()).then_some(scale)
    };
    (0..rows).map(scale).collect()
}
