//! Backward pass of one segment: from the gradient of the skips to that of every parameter.
//!
//! Chunks run backwards in time, all layers of a chunk from the top. By the time a chunk's layer is
//! reached, everything later in time has already added its share to the layer's input gradient.

use std::ops::Range;

use wavenet_engine::Config;

use super::forward::{chunks, codes, conditioning, inputs, needed_from, reach};
use super::packed::{Layer, Packed};
use super::{ChunkBuffers, Workspace};
use crate::kernels::elementwise::{add, add_columns, add_to_named_rows, gate_backward};
use crate::kernels::product::{To, View, multiply};

impl Workspace {
    /// Adds the gradient of the residual blocks and embeddings, after [`Workspace::forward`].
    pub(super) fn backward(&mut self, config: &Config, packed: &Packed, gradient: &mut Packed) {
        let (r, s) = (config.residual_channels, config.skip_channels);
        let z_width = config.layers() * config.gate_channels;
        let needed = needed_from(config, &self.segment);
        let chunks = chunks(&self.segment);
        for (number, range) in chunks.iter().cloned().enumerate().rev() {
            let len = range.len();
            let counts = range.start >= self.segment.counted_from;
            if counts {
                let dskips = View::new(&self.dskips[range.start * s..range.end * s], len, s);
                let weight = View::new(&packed.skip.transposed, s, z_width);
                multiply(&[[dskips, weight]], &mut self.chunk.z, z_width, To::Nothing);
            }
            for (index, &from) in needed.iter().enumerate().rev() {
                let skipped = from.saturating_sub(range.start);
                if skipped < len {
                    let layer = &packed.layers[index];
                    self.backward_layer(config, layer, index, range.clone(), skipped, gradient);
                }
            }
            if counts {
                let dskips = &self.dskips[range.start * s..range.end * s];
                add_columns(dskips, &mut gradient.skip.bias);
                let z = View::new(&self.chunk.z, len, z_width).transposed();
                let terms = [[z, View::new(dskips, len, s)]];
                multiply(&terms, &mut gradient.skip.weight, s, To::There);
            }
            // What was reached back to becomes the end of the next chunk's rows, the one before in time.
            let next = number.checked_sub(1).map_or(0, |before| chunks[before].len());
            for (layer, dx) in self.dx.iter_mut().enumerate().skip(1) {
                let reach = reach(config, layer);
                dx.copy_within(..reach * r, next * r);
                dx[..next * r].fill(0.0);
            }
        }
    }

    /// One residual block over a chunk but for the rows that are `skipped`. Where the loss counts,
    /// `z` holds the gradient that its gated units have from the skips; it leaves the gated units there.
    fn backward_layer(
        &mut self,
        config: &Config,
        layer: &Layer,
        index: usize,
        chunk: Range<usize>,
        skipped: usize,
        gradient: &mut Packed,
    ) {
        let (r, g, k) = (config.residual_channels, config.gate_channels, config.kernel_size);
        let range = chunk.start + skipped..chunk.end;
        let (len, z_width) = (range.len(), config.layers() * g);
        let counts = range.start >= self.segment.counted_from;
        let grown = &mut gradient.layers[index];
        let ChunkBuffers { z, dsums, class_sums, .. } = &mut self.chunk;
        let rows_of = |layer: usize| {
            let start = (reach(config, layer) + skipped) * r;
            start..start + len * r
        };

        // The last layer has no residual.
        let (before, after) = self.dx.split_at_mut(index + 1);
        let dnext = after.first().map(|dx| &dx[rows_of(index + 1)]);
        let z = &mut z[index * g..];
        if let Some(dnext) = dnext {
            let weight = View::new(&layer.residual.transposed, r, g);
            let to = if counts { To::There } else { To::Nothing };
            multiply(&[[View::new(dnext, len, r), weight]], z, z_width, to);
        }
        let gates = &self.gates[index][range.start * 2 * g..range.end * 2 * g];
        let dsums = &mut dsums[..len * 2 * g];
        gate_backward(gates, g, z, z_width, dsums);
        if let Some(dnext) = dnext {
            let z = View::strided(z, len, g, z_width).transposed();
            let weight = &mut grown.residual.weight;
            multiply(&[[z, View::new(dnext, len, r)]], weight, r, To::There);
            add_columns(dnext, &mut grown.residual.bias);
        }

        add_columns(dsums, &mut grown.gate.bias);
        let class_width = config.class_width();
        if class_width > 0 {
            let silent = self.segment.sound_from.saturating_sub(range.start).min(len);
            class_sums.fill(0.0);
            add_columns(&dsums[silent * 2 * g..], class_sums);
            let weight = &layer.gate.transposed[k * r..];
            let weight = View::strided(weight, 2 * g, class_width, layer.gate.inputs());
            let class = self.segment.class * class_width;
            let embedding = &mut gradient.class_embedding[class..][..class_width];
            multiply(
                &[[View::new(class_sums, 1, 2 * g), weight]],
                embedding,
                class_width,
                To::There,
            );
        }
        let dsums_view = View::new(dsums, len, 2 * g);
        let mut grow = |(first, input): (usize, View<'_>)| {
            let weight = &mut grown.gate.weight[first * 2 * g..];
            multiply(&[[input.transposed(), dsums_view]], weight, 2 * g, To::There);
        };
        conditioning(config, &self.h, &self.used_channels, range.clone()).for_each(&mut grow);
        if index == 0 {
            let tables = gradient.first.chunks_exact_mut(config.levels * 2 * g);
            for (tap, table) in tables.enumerate() {
                let (before, codes) = codes(config, tap, &self.segment.inputs, range.clone());
                add_to_named_rows(table, &dsums[before * 2 * g..], 2 * g, codes);
            }
            if let Some(dnext) = dnext {
                add_to_named_rows(&mut gradient.embedding, dnext, r, &self.segment.inputs[range]);
            }
            return;
        }
        inputs(config, index, &self.x[index], range).for_each(&mut grow);

        let dx = &mut before[index];
        if let Some(dnext) = dnext {
            add(&mut dx[rows_of(index)], dnext);
        }
        // Conditioning but for the embedded class has nothing behind it that learns. What falls
        // before the segment is never looked at.
        for tap in 0..k {
            let weight = &layer.gate.transposed[tap * r..];
            let weight = View::strided(weight, 2 * g, r, layer.gate.inputs());
            let dx = &mut dx[(tap * config.dilations[index] + skipped) * r..];
            multiply(&[[dsums_view, weight]], dx, r, To::There);
        }
    }
}
