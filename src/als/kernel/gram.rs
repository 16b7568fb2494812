//! VᵀV: the part of all rows' systems that is the same for every row.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use super::Fit;
use super::lanes::Lanes;
use crate::als::factors::{LINE, Line};

/// How many rows are added up in `f32` before the sum goes into an `f64`.
const BLOCK: usize = 256;
/// Rows of the matrix that are held in registers at a time.
const TILE: usize = 8;

/// Adds VᵀV of `rows`, `width` lines each, to the lower triangle of `sum`.
#[inline(always)]
pub(super) fn add<L: Lanes>(lanes: L, rows: &[Line], width: usize, sum: &mut [f64]) -> Fit {
    let stride = width * LINE;
    for block in rows.chunks(BLOCK * width) {
        for first in (0..stride).step_by(TILE) {
            for column in 0..=first / LINE {
                let mut tile = [lanes.splat(0.0); TILE];
                for row in block.chunks_exact(width) {
                    let right = lanes.load(&row[column]);
                    let left = &row[first / LINE].as_chunks::<TILE>().0[first % LINE / TILE];
                    for (cell, &number) in tile.iter_mut().zip(left) {
                        *cell = lanes.mul_add(lanes.splat(number), right, *cell);
                    }
                }
                put(lanes, &tile, &mut sum[first * stride + column * LINE..], stride);
            }
        }
    }
    Fit::default()
}

#[inline(always)]
fn put<L: Lanes>(lanes: L, tile: &[L::V; TILE], sum: &mut [f64], stride: usize) {
    for (&cell, sum) in tile.iter().zip(sum.chunks_mut(stride)) {
        let mut line = [0.0; LINE];
        lanes.store(cell, &mut line);
        for (sum, &number) in sum.iter_mut().zip(&line) {
            *sum += f64::from(number);
        }
    }
}
