//! Rows times a square matrix: vectors in other coordinates.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use super::Fit;
use super::lanes::Lanes;
use crate::als::factors::{LINE, Line};

/// Calls the code for rows of `$width` lines; nothing for a width that only small ranks have.
macro_rules! of_width {
    ($width:expr, $function:ident::<$lanes:ident>, $arguments:tt) => {
        of_width!($width, $function::<$lanes>, $arguments, 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    ($width:expr, $function:ident::<$lanes:ident>, $arguments:tt, $($literal:literal)*) => {
        match $width {
            $($literal => $function::<$lanes, $literal> $arguments,)*
            _ => Fit::default(),
        }
    };
}
pub(super) use of_width;

/// Multiplies each of `rows`, `width` lines each, by `turn`.
#[inline(always)]
pub(super) fn rows<L: Lanes>(lanes: L, rows: &mut [Line], width: usize, turn: &[Line]) -> Fit {
    of_width!(width, rows_of_width::<L>, (lanes, rows, turn))
}

#[inline(always)]
fn rows_of_width<L: Lanes, const P: usize>(lanes: L, rows: &mut [Line], turn: &[Line]) -> Fit {
    for row in rows.as_chunks_mut::<P>().0 {
        *row = turned(lanes, row, turn);
    }
    Fit::default()
}

/// `row` times the matrix, as a sum of the matrix's rows.
#[inline(always)]
pub(super) fn turned<L: Lanes, const P: usize>(lanes: L, row: &[Line; P], turn: &[Line]) -> [Line; P] {
    // Two sums, because one multiply-add must wait for the one before it in its sum.
    let mut even = [lanes.splat(0.0); P];
    let mut odd = even;
    let pairs = turn.as_chunks::<P>().0.as_chunks::<2>().0;
    for (pair, numbers) in pairs.iter().zip(row.as_flattened().as_chunks::<2>().0) {
        let (left, right) = (lanes.splat(numbers[0]), lanes.splat(numbers[1]));
        for i in 0..P {
            even[i] = lanes.mul_add(left, lanes.load(&pair[0][i]), even[i]);
            odd[i] = lanes.mul_add(right, lanes.load(&pair[1][i]), odd[i]);
        }
    }
    let mut result = [[0.0; LINE]; P];
    for i in 0..P {
        lanes.store(lanes.add(even[i], odd[i]), &mut result[i]);
    }
    result
}
