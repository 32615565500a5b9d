//! What the bf16 pipeline (`pipeline_bf16/pipeline_bf16.cuh`) is told beside the rest: the model's matrices as the
//! lanes of a warp hold them, with each present tap joined to the residual before it, and which block of a cluster
//! does what. Only some shapes have such a kernel: those that it was compiled for.

use super::cluster::{PipelineShape, launch, list};
use super::driver::{Card, Entry, Launch};
use super::image::{Image, LANES, PART_COLUMNS, TILE_ROWS, conditioning_of, tap_of, unit_of_bf16};
use super::params::{Params, PipelineBf16Args, Unit};
use super::shapes::{Channels, LEVELS};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels::{Packed, SilentRows};
use crate::weights::{LayerLayout, Weights};

/// The shapes, as `pipeline_bf16/pipeline_bf16.cu` lists them.
pub(super) const SHAPES: [PipelineShape; 2] = [
    PipelineShape {
        entry: "wavenet_pipeline_bf16_32_64_128",
        channels: Channels::new(32, 64, 128),
        layers: 6,
        skips: 30,
        others: OTHERS,
    },
    PipelineShape {
        entry: "wavenet_pipeline_bf16_64_256_256",
        channels: Channels::new(64, 256, 256),
        layers: 4,
        skips: 6,
        others: OTHERS,
    },
];

/// Blocks that have half of the hidden channels each.
const ENDS: usize = 2;
/// Blocks beside the chain and those that only sum skips: those, the head, and the host link.
const OTHERS: usize = ENDS + 2;
/// Bytes of shared memory for what blocks and warps send each other; weights follow.
const WORKING_BYTES: u32 = 24 << 10;
/// Units of a part of a tile.
const PART: usize = 2 * LANES;

/// Which of [`SHAPES`] plays a model on a card.
///
/// # Errors
/// [`Error::Device`] where the card has no clusters or its driver is too old, [`Error::Unsupported`] where the model
/// has another shape.
pub(super) fn of(config: &Config, card: &Card) -> Result<usize> {
    card.check_clusters("the fast mode")?;
    SHAPES.iter().position(|shape| shape.fits(config)).ok_or_else(|| {
        Error::Unsupported(format!(
            "the fast mode has residual/skip/end channels of {}, as many gate as residual channels and 2 to some 30 \
             layers; this model has other ones: play it without",
            list(&SHAPES)
        ))
    })
}

/// How so many orders are started, a cluster each; which weights stay in shared memory, in `args`.
pub(super) fn plan(
    shape: PipelineShape,
    entry: Entry,
    args: &mut PipelineBf16Args,
    params: &mut Params,
    card: &Card,
    orders: u32,
) -> Launch {
    let unit = size_of::<Unit>() as u32;
    let free = (card.shared_bytes - WORKING_BYTES) / unit;
    let (r, s) = (shape.channels.residual, shape.channels.skip);
    let skip = tile_units(r) * (s / TILE_ROWS) as u32;
    let layers = (shape.layers as u32).min(params.layers - 1);
    args.resident = (free / args.packet).min(layers);
    // Looking codes up is on the sample's critical path, so the tables come first; the packets that they displace are
    // fetched while the sample is in other blocks.
    let heard = (LEVELS * r * 6 / 16) as u32;
    args.heard_units = if heard <= free { heard } else { 0 };
    args.resident_first = ((free - args.heard_units) / args.packet).min(layers);
    args.resident_skips = (free / skip).min(shape.skips as u32).min(params.layers);
    params.orders_count = orders;
    params.work_is_shared = 1;
    let first = args.heard_units + args.resident_first * args.packet;
    let weights = first.max(args.resident * args.packet).max(args.resident_skips * skip);
    launch(args.blocks, entry, orders, WORKING_BYTES, weights)
}

/// The model as the pipeline reads it.
pub(super) fn image(
    shape: PipelineShape,
    weights: &Weights,
    packed: &Packed,
) -> (Image, PipelineBf16Args) {
    let (config, layout) = (weights.config(), weights.layout());
    let (r, taps, h) =
        (shape.channels.residual, config.kernel_size, config.conditioning_channels());
    let get = |range: &std::ops::Range<usize>| weights.get(range);
    let mut image = Image::new(weights, packed);
    image.weights.clear();
    // A layer's past inputs are bf16.
    image.params.residual.units = (r / 8) as u32;
    image.add_rings(config);
    image.silence = silence(packed.silent_rows());

    let gate =
        |matrix: &[f32], columns| tiles(matrix, columns, |tile, place| gate_row(r, tile, place));
    let plain = |matrix: &[f32], columns| tiles(matrix, columns, neighbour_row);
    let blocks = shape.share_out(config.layers()).unwrap_or_default();
    let mut args = PipelineBf16Args { blocks, ..PipelineBf16Args::default() };
    let start = |image: &Image| image.weights.len() as u32;
    let pairs = || layout.layers.iter().zip(&layout.layers[1..]);
    let residual =
        |layer: &LayerLayout| layer.residual.as_ref().map(|of| (get(&of.weight), get(&of.bias)));

    args.joined = start(&image);
    for (before, layer) in pairs() {
        if let Some((matrix, _)) = residual(before) {
            image.weights.extend(gate(&product(&tap_of(weights, layer, taps - 1), matrix, r), r));
        }
    }
    args.residuals = start(&image);
    for (before, _) in pairs() {
        if let Some((matrix, _)) = residual(before) {
            image.weights.extend(plain(matrix, r));
        }
    }
    args.packets = start(&image);
    for layer in &layout.layers[1..] {
        for k in std::iter::once(taps - 1).chain(0..taps - 1) {
            image.weights.extend(gate(&tap_of(weights, layer, k), r));
        }
        if h > 0 {
            image.weights.extend(gate(&conditioning_of(weights, layer), h));
        }
    }
    args.packet = (start(&image) - args.packets) / (layout.layers.len() - 1) as u32;
    args.first_conditioning = start(&image);
    if h > 0 {
        image.weights.extend(gate(&conditioning_of(weights, &layout.layers[0]), h));
    }
    args.heard = start(&image);
    let table = image.params.tables as usize + (taps - 1) * LEVELS * 2 * r;
    let pairs = image.floats[table..][..LEVELS * 2 * r].chunks_exact(2 * r).flat_map(|row| {
        let (filters, gates) = row.split_at(r);
        filters.iter().zip(gates).flat_map(|(&filter, &gate)| [filter, gate])
    });
    let looked_up: Vec<f32> = pairs.chain(get(&layout.embedding).iter().copied()).collect();
    image.weights.extend(looked_up.chunks_exact(8).map(unit_of_bf16));
    args.skips = start(&image);
    for layer in &layout.layers {
        image.weights.extend(plain(get(&layer.skip.weight), r));
    }
    args.end1 = start(&image);
    image.weights.extend(plain(get(&layout.end1.weight), shape.channels.skip));
    args.end2 = start(&image);
    let columns = shape.channels.end / ENDS;
    for end in 0..ENDS {
        let rows = get(&layout.end2.weight).chunks_exact(shape.channels.end);
        let part = rows.flat_map(|row| &row[end * columns..(end + 1) * columns]);
        image.weights.extend(plain(&part.copied().collect::<Vec<f32>>(), columns));
    }

    // Pairs of floats, so an even place.
    image.floats.resize(image.floats.len().next_multiple_of(4), 0.0);
    args.gate_bias = image.floats.len() as u32;
    for (index, layer) in layout.layers.iter().enumerate() {
        let mut bias = [get(&layer.filter.bias), get(&layer.gate.bias)].concat();
        if let Some((_, of_residual)) =
            index.checked_sub(1).and_then(|before| residual(&layout.layers[before]))
        {
            let brought = product(&tap_of(weights, layer, taps - 1), of_residual, 1);
            bias.iter_mut().zip(brought).for_each(|(bias, brought)| *bias += brought);
        }
        image.floats.extend((0..r).flat_map(|unit| [bias[unit], bias[r + unit]]));
    }
    (image, args)
}

/// Row of a matrix of filters, then gates, that a place of a tile has: filters of 8 units, then their gates.
fn gate_row(residual_channels: usize, tile: usize, place: usize) -> usize {
    8 * tile + place % 8 + place / 8 * residual_channels
}

/// A lane's two rows of a tile are neighbours.
fn neighbour_row(tile: usize, place: usize) -> usize {
    TILE_ROWS * tile + 2 * (place % 8) + place / 8
}

fn tile_units(columns: usize) -> u32 {
    (columns.div_ceil(PART_COLUMNS) * PART) as u32
}

/// `[rows, inner]` times `[inner, columns]`.
fn product(left: &[f32], right: &[f32], columns: usize) -> Vec<f32> {
    let inner = right.len() / columns;
    let mut out = Vec::with_capacity(left.len() / inner * columns);
    for row in left.chunks_exact(inner) {
        let sum = |column: usize| -> f64 {
            let right = right.iter().skip(column).step_by(columns);
            row.iter().zip(right).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        out.extend((0..columns).map(|column| sum(column) as f32));
    }
    out
}

/// A matrix as tiles of 16 rows and parts of 32 columns, shape `[tiles][parts][2][32]`: a lane has eight neighbouring
/// columns of a part, of two rows.
fn tiles(matrix: &[f32], columns: usize, row_of: impl Fn(usize, usize) -> usize) -> Vec<Unit> {
    let mut units = Vec::new();
    for tile in 0..matrix.len() / columns / TILE_ROWS {
        for half in 0..columns.div_ceil(PART_COLUMNS) * 2 {
            for lane in 0..LANES {
                let first = half / 2 * PART_COLUMNS + lane % 4 * 8 + half % 2 * 4;
                let weight = |place: usize, column: usize| {
                    let row = row_of(tile, place) * columns;
                    if column < columns { matrix[row + column] } else { 0.0 }
                };
                let eight: [f32; 8] = std::array::from_fn(|i| {
                    let (pair, place) = (i / 2, lane / 4 + if i / 2 % 2 == 1 { 8 } else { 0 });
                    weight(place, first + pair / 2 * 2 + i % 2)
                });
                units.push(unit_of_bf16(&eight));
            }
        }
    }
    units
}

/// Every layer's input while silence lasts. Shape: `[layers][R / 8]`.
fn silence(rows: SilentRows) -> Vec<Unit> {
    let rows: Vec<Vec<f32>> = match rows {
        SilentRows::Floats(rows) => rows,
        SilentRows::Bytes(rows) => rows
            .into_iter()
            .map(|(row, scale)| row.into_iter().map(|byte| f32::from(byte) * scale).collect())
            .collect(),
    };
    rows.iter().flat_map(|row| row.chunks_exact(8).map(unit_of_bf16)).collect()
}

#[cfg(test)]
mod tests {
    use super::SHAPES;

    #[test]
    fn thirty_layers_are_the_most_that_a_cluster_has() {
        let blocks =
            |shape: usize, layers| SHAPES[shape].share_out(layers).map(|blocks| blocks.all);
        let of_64 = [1, 2, 10, 20, 30, 31].map(|layers| blocks(1, layers));
        assert_eq!(of_64, [None, Some(8), Some(8), Some(16), Some(16), None]);
        let of_32 = [2, 20, 30, 80].map(|layers| blocks(0, layers));
        assert_eq!(of_32, [Some(8), Some(8), Some(16), None]);
    }
}
