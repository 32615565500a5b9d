//! Backward pass of one segment: from the gradient of the skips to that of every parameter.
//!
//! Chunks run backwards in time, all layers of a chunk from the top. By the time a chunk's layer is
//! reached, everything later in time has already added its share to the layer's input gradient.

use wavenet_engine::Config;

use super::forward::{chunks, gather_columns};
use super::packed::{Layer, Packed};
use super::{ChunkBuffers, Workspace};
use crate::kernels::elementwise::{add, add_columns, add_rows, gate_backward, gated_product};
use crate::kernels::gemm::{Into, View, multiply, transposed_multiply};

impl Workspace {
    /// Adds the gradient of the residual blocks and embeddings, after [`Workspace::forward`].
    pub(super) fn backward(&mut self, config: &Config, packed: &Packed, gradient: &mut Packed) {
        let r = config.residual_channels;
        for range in chunks(&self.segment).into_iter().rev() {
            let counts = range.start >= self.segment.counted_from;
            for (index, layer) in packed.layers.iter().enumerate().rev() {
                self.backward_layer(config, layer, index, range.clone(), counts, gradient);
            }
            for row in range {
                let code = usize::from(self.segment.inputs[row]);
                let embedding = &mut gradient.embedding[code * r..(code + 1) * r];
                add(embedding, &self.dx[0][row * r..(row + 1) * r]);
            }
        }
    }

    fn backward_layer(
        &mut self,
        config: &Config,
        layer: &Layer,
        index: usize,
        range: std::ops::Range<usize>,
        counts: bool,
        gradient: &mut Packed,
    ) {
        let (r, g, s) = (config.residual_channels, config.gate_channels, config.skip_channels);
        let (len, k) = (range.len(), config.kernel_size);
        let h = config.conditioning_channels();
        let width = k * r + h;
        let residual = layer.out.bias.len() - s;
        let outputs = if counts { residual + s } else { residual };
        if outputs == 0 {
            return;
        }
        let grown = &mut gradient.layers[index];
        gather_columns(
            config,
            index,
            &self.x[index],
            &self.h,
            range.clone(),
            &mut self.chunk.columns,
        );
        let ChunkBuffers { columns, dcolumns, z, dz, dsums, out, .. } = &mut self.chunk;

        // dout = [gradient of the next layer's input | gradient of the skips]
        let dout = &mut out[..len * outputs];
        for (dout, row) in dout.chunks_exact_mut(outputs).zip(range.clone()) {
            if residual > 0 {
                dout[..r].copy_from_slice(&self.dx[index + 1][row * r..(row + 1) * r]);
            }
            if counts {
                dout[residual..].copy_from_slice(&self.dskips[row * s..(row + 1) * s]);
            }
        }
        let gates = &self.gates[index][range.start * 2 * g..range.end * 2 * g];
        gated_product(gates, g, z);
        let dout = View::new(dout, len, outputs);
        transposed_multiply(dout, View::new(z, len, g), &mut grown.out.weight, Into::Add);
        add_columns(dout.values, outputs, &mut grown.out.bias[..outputs]);
        let weight = View::new(&layer.out.weight, residual + s, g).rows(outputs);
        multiply(dout, weight, dz, Into::Replace);

        let dsums = &mut dsums[..len * 2 * g];
        gate_backward(gates, dz, g, dsums);
        add_columns(dsums, 2 * g, &mut grown.gate.bias);
        let dsums = View::new(dsums, len, 2 * g);
        transposed_multiply(
            dsums,
            View::new(columns, len, width),
            &mut grown.gate.weight,
            Into::Add,
        );

        // Only taps and the embedded class have something behind them that learns.
        let used = k * r + config.class_width();
        let weight = View::new(&layer.gate.weight, 2 * g, width).columns(used);
        multiply(dsums, weight, dcolumns, Into::Replace);
        let dx = &mut self.dx;
        if residual > 0 {
            let (before, after) = dx.split_at_mut(index + 1);
            let rows = range.start * r..range.end * r;
            add(&mut before[index][rows.clone()], &after[0][rows]);
        }
        for tap in 0..k {
            let back = (k - 1 - tap) * config.dilations[index];
            // Taps before the segment were zeros.
            let before = back.saturating_sub(range.start).min(len);
            if before < len {
                let dx = &mut dx[index][(range.start + before - back) * r..(range.end - back) * r];
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
