//! What the int8 pipeline is told beside the rest (`pipeline_int8/pipeline_int8.cuh`): the model's matrices as the
//! lanes of a warp hold them, and which block of a cluster does what. Only some shapes have one: those that the kernel
//! was compiled for.

use super::cluster::{PipelineShape, launch, list};
use super::driver::{Card, Entry, Launch};
use super::image::{
    After, Image, LANES, MOST_CHANNELS, PART_COLUMNS, TILE_ROWS, conditioning_of, quantised, tap_of,
};
use super::int8_tiles::{constants, gate_pairs, neighbours, tiles, tiles_of};
use super::params::{Params, PipelineInt8Args, Unit};
use super::shapes::Channels;
use crate::config::{Config, Dtype};
use crate::error::{Error, Result};
use crate::weights::Weights;

/// The shapes, as `pipeline_int8/pipeline_int8.cu` lists them.
pub(super) const SHAPES: [PipelineShape; 2] = [
    PipelineShape {
        entry: "wavenet_pipeline_int8_64_256_256",
        channels: Channels::new(64, 256, 256),
        layers: 8,
        skips: 12,
        others: OTHERS,
    },
    PipelineShape {
        entry: "wavenet_pipeline_int8_128_256_256",
        channels: Channels::new(128, 256, 256),
        layers: 4,
        skips: 6,
        others: OTHERS,
    },
];

/// Blocks beside the chain and those that only sum skips: the end, and the host link.
const OTHERS: usize = 2;
/// Bytes of shared memory for what blocks and warps send each other; weights follow.
const WORKING_BYTES: u32 = 20 << 10;

/// Which of [`SHAPES`] plays a model on a card.
///
/// # Errors
/// [`Error::Device`] where the card has no clusters, or its driver is too old; [`Error::Unsupported`] where the model
/// has another shape or type of weights, or the card too little shared memory for it.
pub(super) fn of(config: &Config, dtype: Dtype, card: &Card) -> Result<usize> {
    card.check_clusters("the pipeline")?;
    let fits = |shape: &PipelineShape| {
        shape.fits(config) && weight_units(*shape, config.layers() as u32) <= free_units(card)
    };
    SHAPES.iter().position(fits).filter(|_| dtype == Dtype::Int8).ok_or_else(|| {
        Error::Unsupported(format!(
            "the pipeline is for int8 models of residual/skip/end channels of {}, as many gate as residual channels, at \
             most {MOST_CHANNELS} conditioning channels and 2 to 60 or 30 layers, and for cards with shared memory for \
             them: play this one without it",
            list(&SHAPES)
        ))
    })
}

/// Units of a product of so many rows with the residual stream or gated units.
fn product_units(shape: PipelineShape, rows: usize) -> u32 {
    (rows / TILE_ROWS * (shape.channels.residual / PART_COLUMNS) * LANES) as u32
}

/// Units of what a layer's chain reads on the voice's way: present tap, residual, scales and biases.
fn packet_units(shape: PipelineShape) -> u32 {
    let r = shape.channels.residual;
    product_units(shape, 3 * r) + r as u32
}

/// Units of the weights that a block must have in shared memory.
fn weight_units(shape: PipelineShape, layers: u32) -> u32 {
    let of_chain = (shape.layers as u32).min(layers - 1) * packet_units(shape);
    let of_skips = (shape.skips as u32).min(layers) * product_units(shape, shape.channels.skip);
    of_chain.max(of_skips)
}

/// How so many orders are started, a cluster each. What is left of a chain's shared memory holds past taps.
pub(super) fn plan(
    shape: PipelineShape,
    entry: Entry,
    args: &mut PipelineInt8Args,
    params: &mut Params,
    card: &Card,
    orders: u32,
) -> Launch {
    let layers = (shape.layers as u32).min(params.layers - 1);
    let past = (params.kernel_size - 1) * product_units(shape, 2 * shape.channels.residual);
    let left = free_units(card) - layers * packet_units(shape);
    args.resident_past = left.checked_div(past).map_or(layers, |all| all.min(layers));
    params.orders_count = orders;
    params.work_is_shared = 1;
    let of_chain = layers * packet_units(shape) + args.resident_past * past;
    let units = of_chain.max(weight_units(shape, params.layers));
    launch(args.blocks, entry, orders, WORKING_BYTES, units)
}

/// Adds the matrices to a model's image.
pub(super) fn image(
    shape: PipelineShape,
    weights: &Weights,
    image: &mut Image,
) -> PipelineInt8Args {
    let (config, layout) = (weights.config(), weights.layout());
    let (r, taps, h) =
        (shape.channels.residual, config.kernel_size, config.conditioning_channels());
    let get = |range: &std::ops::Range<usize>| weights.get(range);
    let start = |image: &Image| image.weights.len() as u32;
    let blocks = shape.share_out(config.layers()).unwrap_or_default();
    let mut args = PipelineInt8Args { blocks, ..PipelineInt8Args::default() };

    args.packets = start(image);
    for (index, layer) in layout.layers.iter().enumerate().skip(1) {
        let tap = tap_of(weights, layer, taps - 1);
        image.weights.extend(tiles(&gate_pairs(&tap, r, r), 1));
        let before = index - 1;
        if let Some(residual) = &layout.layers[before].residual {
            let rows = quantised(&[get(&residual.weight)], r, After::Gate).remove(0);
            image.weights.extend(tiles(&neighbours(&rows), 1));
        }
        let constants = constants(image, r, index, Some(before));
        image.weights.extend(constants);
    }
    args.past = start(image);
    for layer in &layout.layers[1..] {
        for k in 0..taps - 1 {
            image.weights.extend(tiles(&gate_pairs(&tap_of(weights, layer, k), r, r), 2));
        }
    }
    args.conditioning = start(image);
    if h > 0 {
        for layer in &layout.layers {
            let matrix = conditioning_of(weights, layer);
            image.weights.extend(tiles_of(&gate_pairs(&matrix, r, h), 2, false));
        }
    }
    args.skips = start(image);
    let skips: Vec<&[f32]> = layout.layers.iter().map(|layer| get(&layer.skip.weight)).collect();
    for rows in quantised(&skips, r, After::GateOfAllLayers) {
        image.weights.extend(tiles(&neighbours(&rows), 1));
    }
    let mut last = |weight, columns| {
        let at = image.weights.len() as u32;
        let rows = quantised(&[get(weight)], columns, After::Relu).remove(0);
        image.weights.extend(tiles(&neighbours(&rows), 1));
        at
    };
    args.end1 = last(&layout.end1.weight, shape.channels.skip);
    args.end2 = last(&layout.end2.weight, shape.channels.end);
    args
}

/// Units of shared memory that weights may have.
fn free_units(card: &Card) -> u32 {
    card.shared_bytes.saturating_sub(WORKING_BYTES) / size_of::<Unit>() as u32
}

#[cfg(test)]
mod tests {
    use super::SHAPES;

    #[test]
    fn thirty_layers_fit_into_a_cluster() {
        let blocks =
            |shape: usize, layers| SHAPES[shape].share_out(layers).map(|blocks| blocks.all);
        let of_64 = [1, 2, 10, 20, 30, 60].map(|layers| blocks(0, layers));
        assert_eq!(of_64, [None, Some(4), Some(4), Some(8), Some(8), Some(16)]);
        let of_128 = [2, 10, 30, 31].map(|layers| blocks(1, layers));
        assert_eq!(of_128, [Some(4), Some(8), Some(16), None]);
    }
}
