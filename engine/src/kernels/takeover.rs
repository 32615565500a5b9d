//! What a kernel on another device takes over from the one here, so that it is the same to the bit.

use super::loaded::Loaded;
use super::matrix::Matrix;
use super::{Model, Packed};
use crate::config::Dtype;

/// Every layer's input while silence lasts. Shape: `[layers]`.
#[derive(Debug)]
pub(crate) enum SilentRows {
    /// `[R]`
    Floats(Vec<Vec<f32>>),
    /// `[R]` and the scale.
    Bytes(Vec<(Vec<i8>, f32)>),
}

impl Packed {
    /// The type of the weights.
    pub fn dtype(&self) -> Dtype {
        match &self.model {
            Model::F32(_) => Dtype::F32,
            Model::Bf16(_) => Dtype::Bf16,
            Model::Int8(_) => Dtype::Int8,
        }
    }

    /// What each code adds to the sums of layer 0 through each tap. Shape: `[K][levels][2 G]`.
    pub(crate) fn tables(&self) -> Vec<f32> {
        match &self.model {
            Model::F32(model) => self.unpadded(model),
            Model::Bf16(model) => self.unpadded(model),
            Model::Int8(model) => self.unpadded(model),
        }
    }

    fn unpadded<M: Matrix>(&self, model: &Loaded<M>) -> Vec<f32> {
        let half = model.weights.sums_width / 2;
        let halves = model.weights.tables.iter().flat_map(|table| table.chunks_exact(half));
        halves.flat_map(|half| &half[..self.config.gate_channels]).copied().collect()
    }

    pub(crate) fn silent_rows(&self) -> SilentRows {
        let r = self.config.residual_channels;
        let floats = |rows: &[f32]| {
            let rows = rows.chunks_exact(rows.len() / self.config.layers());
            SilentRows::Floats(rows.map(|row| row[..r].to_vec()).collect())
        };
        match &self.model {
            Model::F32(model) => floats(&model.silence.rows),
            Model::Bf16(model) => floats(&model.silence.rows),
            Model::Int8(model) => {
                let rows = &model.silence.rows;
                let rows = rows.chunks_exact(rows.len() / self.config.layers());
                let signed = |byte: &u8| (byte ^ 0x80) as i8;
                let of_row = |row: &[u8]| {
                    let (bytes, scale) = row.split_at(row.len() - size_of::<f32>());
                    let scale = scale.try_into().map_or(0.0, f32::from_ne_bytes);
                    (bytes[..r].iter().map(signed).collect(), scale)
                };
                SilentRows::Bytes(rows.map(of_row).collect())
            }
        }
    }
}
