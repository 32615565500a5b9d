//! Backward pass of one segment: from the gradient of the skips to that of every parameter.
//!
//! Chunks run backwards in time, all layers of a chunk from the top. By the time a chunk's layer is
//! reached, everything later in time has already added its share to the layer's input gradient.

use wavenet_engine::Config;

use super::forward::{chunks, gather_columns};
use super::packed::{Layer, Packed};
use super::{ChunkBuffers, Workspace};
use crate::kernels::elementwise::{add, add_columns, add_rows, gate_backward};
use crate::kernels::gemm::{Into, View, multiply, multiply_strided, transposed_multiply};

impl Workspace {
    /// Adds the gradient of the residual blocks and embeddings, after [`Workspace::forward`].
    pub(super) fn backward(&mut self, config: &Config, packed: &Packed, gradient: &mut Packed) {
        let (r, s) = (config.residual_channels, config.skip_channels);
        let z_width = config.layers() * config.gate_channels;
        let chunks = chunks(&self.segment);
        for (number, range) in chunks.iter().cloned().enumerate().rev() {
            let len = range.len();
            let counts = range.start >= self.segment.counted_from;
            if counts {
                let dskips = View::new(&self.dskips[range.start * s..range.end * s], len, s);
                let weight = View::new(&packed.skip.weight, s, z_width);
                multiply(dskips, weight, &mut self.chunk.z, Into::Replace);
            }
            for (index, layer) in packed.layers.iter().enumerate().rev() {
                if counts || index + 1 < packed.layers.len() {
                    self.backward_layer(config, layer, index, range.clone(), counts, gradient);
                }
            }
            if counts {
                let dskips = View::new(&self.dskips[range.start * s..range.end * s], len, s);
                let z = View::new(&self.chunk.z, len, z_width);
                transposed_multiply(dskips, z, &mut gradient.skip.weight, Into::Add);
                add_columns(dskips.values, &mut gradient.skip.bias);
            }
            let dx = self.dx[0][reach(config, 0) * r..].chunks_exact(r);
            for (&code, dx) in self.segment.inputs[range.clone()].iter().zip(dx) {
                let code = usize::from(code);
                add(&mut gradient.embedding[code * r..(code + 1) * r], dx);
            }
            // What was reached back to becomes the end of the next chunk's rows, the one before in time.
            let next = number.checked_sub(1).map_or(0, |before| chunks[before].len());
            for (layer, dx) in self.dx.iter_mut().enumerate() {
                let reach = reach(config, layer);
                dx.copy_within(..reach * r, next * r);
                dx[..next * r].fill(0.0);
            }
        }
    }

    /// One residual block over one chunk. Where the loss counts, `z` holds the gradient that its gated
    /// units have from the skips; it leaves the gated units there.
    fn backward_layer(
        &mut self,
        config: &Config,
        layer: &Layer,
        index: usize,
        range: std::ops::Range<usize>,
        counts: bool,
        gradient: &mut Packed,
    ) {
        let (r, g, k) = (config.residual_channels, config.gate_channels, config.kernel_size);
        let (len, z_width) = (range.len(), config.layers() * g);
        let width = k * r + config.conditioning_channels();
        let grown = &mut gradient.layers[index];
        let ChunkBuffers { columns, dcolumns, z, dsums, .. } = &mut self.chunk;
        gather_columns(config, index, &self.x[index], &self.h, range.clone(), columns);

        // The last layer has no residual.
        let dnext = self.dx.get(index + 1).map(|dx| &dx[reach(config, index + 1) * r..][..len * r]);
        let z = &mut z[index * g..];
        if let Some(dnext) = dnext {
            let weight = View::new(&layer.residual.weight, r, g);
            let mode = if counts { Into::Add } else { Into::Replace };
            multiply_strided(View::new(dnext, len, r), weight, z, z_width, mode);
        }
        let gates = &self.gates[index][range.start * 2 * g..range.end * 2 * g];
        let dsums = &mut dsums[..len * 2 * g];
        gate_backward(gates, g, z, z_width, dsums);
        if let Some(dnext) = dnext {
            let z = View { values: z, rows: len, cols: g, stride: z_width };
            let weight = &mut grown.residual.weight;
            transposed_multiply(View::new(dnext, len, r), z, weight, Into::Add);
            add_columns(dnext, &mut grown.residual.bias);
        }

        add_columns(dsums, &mut grown.gate.bias);
        let dsums = View::new(dsums, len, 2 * g);
        let columns = View::new(columns, len, width);
        transposed_multiply(dsums, columns, &mut grown.gate.weight, Into::Add);

        // Only taps and the embedded class have something behind them that learns.
        let used = k * r + config.class_width();
        let weight = View::new(&layer.gate.weight, 2 * g, width).columns(used);
        multiply(dsums, weight, dcolumns, Into::Replace);
        let dx = &mut self.dx;
        let (before, after) = dx.split_at_mut(index + 1);
        let here = reach(config, index);
        if let Some(dnext) = after.first() {
            let dnext = &dnext[reach(config, index + 1) * r..][..len * r];
            add(&mut before[index][here * r..], dnext);
        }
        for tap in 0..k {
            let back = (k - 1 - tap) * config.dilations[index];
            // Taps before the segment were zeros.
            let before = back.saturating_sub(range.start).min(len);
            if before < len {
                let dx = &mut dx[index][(here + before - back) * r..(here + len - back) * r];
                add_rows(dx, &dcolumns[before * used + tap * r..], r, used);
            }
        }
        if used > k * r {
            let width = config.class_width();
            let embedding = &mut gradient.class_embedding[self.segment.class * width..][..width];
            let silent = self.segment.sound_from.saturating_sub(range.start);
            for dcolumns in dcolumns.chunks_exact(used).take(len).skip(silent) {
                add(embedding, &dcolumns[k * r..]);
            }
        }
    }
}

/// Rows that a layer's oldest tap looks back.
pub(super) fn reach(config: &Config, layer: usize) -> usize {
    (config.kernel_size - 1) * config.dilations[layer]
}
