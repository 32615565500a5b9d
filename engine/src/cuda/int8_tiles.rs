//! Matrices of bytes as the lanes of a warp hold them, for one voice on the matrix units (`single_vector.cuh`).

use super::image::{After, Image, LANES, PART_COLUMNS, TILE_ROWS, quantised, unit_of_bytes};
use super::params::{Matrices, Params, Unit};

/// Filters and gates, shape `[2 R, columns]`, as bytes: 16 filters and the gates of the same units, side by side.
pub(super) fn gate_pairs(matrix: &[f32], residual_channels: usize, columns: usize) -> Vec<Vec<i8>> {
    let rows = quantised(&[matrix], columns, After::Anything).remove(0);
    let pair = |unit: usize| {
        [unit, residual_channels + unit].map(|first| rows[first..first + TILE_ROWS].to_vec())
    };
    (0..residual_channels).step_by(TILE_ROWS).flat_map(pair).flatten().collect()
}

/// Rows so ordered that a lane's two rows of a tile are neighbours.
pub(super) fn neighbours(rows: &[Vec<i8>]) -> Vec<Vec<i8>> {
    let row = |at: usize| {
        let (tile, place) = (at / TILE_ROWS * TILE_ROWS, at % TILE_ROWS);
        rows[tile + 2 * (place % 8) + place / 8].clone()
    };
    (0..rows.len()).map(row).collect()
}

/// Scales of a layer's present tap, filter and gate of each unit, then scale and bias of each row of the residual of
/// `residual`, as units; zeros for what is not there.
pub(super) fn constants(
    image: &Image,
    residual_channels: usize,
    layer: usize,
    residual: Option<usize>,
) -> Vec<Unit> {
    let r = residual_channels;
    let float = |of: u32, at: usize| image.floats[of as usize + at].to_bits();
    let Params { taps, residuals, residual_bias, kernel_size, .. } = image.params;
    let scale_of = |matrices: Matrices, index: usize, row: usize| {
        float(matrices.scales, index * matrices.rows as usize + row)
    };
    let mut words = Vec::with_capacity(4 * r);
    // Layer 0 has tables instead of taps.
    let present = (layer * kernel_size as usize).checked_sub(1);
    for unit in 0..r {
        for row in [unit, r + unit] {
            words.push(present.map_or(0, |index| scale_of(taps, index, row)));
        }
    }
    for row in 0..r {
        words.extend(residual.map_or([0, 0], |of| {
            [scale_of(residuals, of, row), float(residual_bias, of * r + row)]
        }));
    }
    words.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]).collect()
}

/// Rows of bytes as tiles of 16 rows and 32 columns, groups of so many tiles, shape `[groups][parts][tiles][32]`.
pub(super) fn tiles(rows: &[Vec<i8>], group: usize) -> Vec<Unit> {
    tiles_of(rows, group, rows[0].len() > PART_COLUMNS)
}

/// A lane's bytes of two parts lie together in the vector where `is_wide`; else those of each part do.
pub(super) fn tiles_of(rows: &[Vec<i8>], group: usize, is_wide: bool) -> Vec<Unit> {
    let parts = rows[0].len().div_ceil(PART_COLUMNS);
    let mut units = Vec::new();
    for rows in rows.chunks_exact(TILE_ROWS * group) {
        for part in 0..parts {
            for tile in rows.chunks_exact(TILE_ROWS) {
                for lane in 0..LANES {
                    let (g, t) = (lane / 4, lane % 4);
                    let first = if is_wide {
                        part / 2 * 64 + 16 * t + part % 2 * 8
                    } else {
                        part * PART_COLUMNS + 8 * t
                    };
                    let four = |row: usize, first: usize| -> Vec<i8> {
                        (first..first + 4)
                            .map(|at| tile[row].get(at).copied().unwrap_or(0))
                            .collect()
                    };
                    let bytes = [
                        four(g, first),
                        four(g + 8, first),
                        four(g, first + 4),
                        four(g + 8, first + 4),
                    ];
                    units.push(unit_of_bytes(&bytes.concat()));
                }
            }
        }
    }
    units
}
