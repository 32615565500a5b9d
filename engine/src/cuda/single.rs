//! What the single-stream kernel (`single/single.cuh`) is told beside the rest: the model's matrices once more, as the
//! lanes of a warp hold them, and the layout of a block's shared memory. Only some shapes have such a kernel: those
//! that it was compiled for.

use super::image::{
    After, Image, LANES, MOST_CHANNELS, PART_COLUMNS, TILE_ROWS, conditioning_of, quantised, tap_of,
};
use super::int8_tiles::{constants, gate_pairs, neighbours, tiles, tiles_of};
use super::params::{Params, Regions, SingleArgs, Unit, Voice};
use super::shapes::{Channels, LEVELS};
use crate::config::Config;
use crate::weights::Weights;

/// A shape that the single-stream kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The kernel's.
    pub(super) entry: &'static str,
    channels: Channels,
}

/// The shapes, as `single/single.cu` lists them: that of the built-in instruments, and WaveNet's usual one.
pub(super) const SHAPES: [Shape; 2] = [
    Shape { entry: "wavenet_single_32_64_128", channels: Channels::new(32, 64, 128) },
    Shape { entry: "wavenet_single_64_256_256", channels: Channels::new(64, 256, 256) },
];

/// Tiles that a warp of the chain, or ahead of it, has at once: twice filters and gates of the same units.
const PAIRS: usize = 4;
/// Units of a vector of gated units, padded.
const VECTOR: usize = 4;
/// Samples whose conditioning vectors are there, and that are kept for the host.
const WINDOW: usize = 16;
const KEPT: usize = 64;
/// Packets that are on their way to shared memory, or in use, where not all stay there: a power of two.
const SLOTS: usize = 4;

impl Shape {
    /// Which of [`SHAPES`] a model has.
    pub(super) fn of(config: &Config) -> Option<usize> {
        let is = |shape: &Shape| shape.channels.are_of(config);
        SHAPES.iter().position(is).filter(|_| config.conditioning_channels() <= MOST_CHANNELS)
    }

    /// Warps of the chain; three times as many are ahead of it.
    fn chain_warps(self) -> usize {
        self.channels.residual / LANES
    }

    /// Threads of a block: beside those, 32 rows of the head a warp, the host link and the loader.
    pub(super) fn threads(self) -> u32 {
        let head = self.channels.skip.max(self.channels.end) / LANES;
        ((4 * self.chain_warps() + head + 2) * LANES) as u32
    }

    /// Units of what the chain needs of a layer.
    fn packet_units(self) -> usize {
        let r = self.channels.residual;
        r / TILE_ROWS * 3 * (r / PART_COLUMNS) * LANES + r
    }

    /// Lays out shared memory; `None` where there is too little.
    pub(super) fn lay_out(
        self,
        mut args: SingleArgs,
        params: &Params,
        shared_bytes: u32,
    ) -> Option<(SingleArgs, u32)> {
        let (r, layers) = (self.channels.residual, params.layers as usize);
        let unit = size_of::<Unit>();
        // The counters come first.
        let mut regions = Regions::after(4);
        let mut region = |units: usize| regions.next(units as u32);
        args.at_voice = region(size_of::<Voice>() / unit);
        args.at_rings = region(layers);
        args.at_units = region(layers * VECTOR);
        args.at_ahead = region(layers * r / 2);
        args.at_h = region(WINDOW * params.conditioning_vector.units as usize);
        // The first warp of the chain keeps it where the latest inputs are.
        args.at_x = region((self.chain_warps() - 1) * VECTOR);
        args.at_latest = region(layers * (VECTOR + 1));
        args.at_skip_input = region(self.channels.skip / unit);
        args.at_hidden_input = region(self.channels.end / unit);
        args.at_maxima = region(3 * 2);
        args.at_logits = region(LEVELS / 4);
        args.at_weights = region(LEVELS / 4);
        args.at_nucleus = region(self.chain_warps() * LEVELS / 4);
        args.at_draws = region(KEPT / 4);
        args.at_codes = region(KEPT / 4);
        args.at_end2 = region(LEVELS * self.channels.end / unit);
        args.at_packets = region(0);
        let free = (shared_bytes as usize / unit).checked_sub(args.at_packets as usize)?;
        let packets = free / self.packet_units();
        let (resident, slots) =
            if packets >= layers { (layers, 0) } else { (packets.checked_sub(SLOTS)?, SLOTS) };
        args.resident = resident as u32;
        args.slots = slots.max(1) as u32;
        region((resident + slots) * self.packet_units());
        Some((args, regions.end() * unit as u32))
    }

    /// Adds the matrices to a model's image.
    pub(super) fn image(self, weights: &Weights, image: &mut Image) -> SingleArgs {
        let layout = weights.layout();
        let (r, taps) = (self.channels.residual, weights.config().kernel_size);
        let h = weights.config().conditioning_channels();
        let get = |range: &std::ops::Range<usize>| weights.get(range);
        let mut args = SingleArgs::default();
        let start = |image: &Image| image.weights.len() as u32;

        let residual_units = r / TILE_ROWS * (r / PART_COLUMNS) * LANES;
        args.packets = start(image);
        for (index, layer) in layout.layers.iter().enumerate() {
            if index == 0 {
                image.weights.extend(vec![[0; 4]; 2 * residual_units]);
            } else {
                image
                    .weights
                    .extend(tiles(&gate_pairs(&tap_of(weights, layer, taps - 1), r, r), PAIRS));
            }
            match &layer.residual {
                None => image.weights.extend(vec![[0; 4]; residual_units]),
                Some(residual) => {
                    let rows = quantised(&[get(&residual.weight)], r, After::Gate).remove(0);
                    image.weights.extend(tiles(&neighbours(&rows), r / TILE_ROWS));
                }
            }
            let residual = layer.residual.as_ref().map(|_| index);
            let constants = constants(image, r, index, residual);
            image.weights.extend(constants);
        }
        args.past_tiles = start(image);
        for layer in &layout.layers[1..] {
            for k in 0..taps - 1 {
                image.weights.extend(tiles(&gate_pairs(&tap_of(weights, layer, k), r, r), PAIRS));
            }
        }
        args.conditioning_tiles = start(image);
        if h > 0 {
            for layer in &layout.layers {
                image.weights.extend(tiles_of(
                    &gate_pairs(&conditioning_of(weights, layer), r, h),
                    PAIRS,
                    false,
                ));
            }
        }
        args.skip_tiles = start(image);
        let skips: Vec<&[f32]> =
            layout.layers.iter().map(|layer| get(&layer.skip.weight)).collect();
        for rows in quantised(&skips, r, After::GateOfAllLayers) {
            image.weights.extend(tiles(&rows, 2));
        }
        let last = |image: &mut Image, weight, columns, group| {
            let at = start(image);
            let rows = quantised(&[get(weight)], columns, After::Relu).remove(0);
            image.weights.extend(tiles(&rows, group));
            at
        };
        args.end1_tiles = last(image, &layout.end1.weight, self.channels.skip, 2);
        let group = LEVELS / TILE_ROWS / (4 * self.chain_warps());
        args.end2_tiles = last(image, &layout.end2.weight, self.channels.end, group);
        args
    }
}
