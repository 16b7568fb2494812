//! Small ranks: each row's normal equations, sixteen rows solved side by side.
//!
//! One interest is one cache line, and A = VᵀV + Σ αr vvᵀ + λnI grows in registers: a row of A costs one multiply-add an interest. The
//! systems of sixteen rows are then turned so that lane k of every vector belongs to row k, and one Cholesky decomposition in vectors solves
//! all sixteen. The right hand side b = Σ (1 + αr) v goes along as one more row of the matrix, which makes the forward substitution free.
//!
//! No NaN can arise: a pivot that is not clearly positive (λ = 0 and too few interests: A is singular) is skipped and its unknown is 0, so
//! nothing is divided by less than a thousandth of the square root of a diagonal element, and the roots are of positive numbers.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use std::ops::Range;

use super::lanes::Lanes;
use super::window::{Piece, Window, pieces};
use super::{Fit, System};
use crate::als::factors::{LINE, Line};

/// How many interests ahead vectors are fetched. It is latency that bounds this kernel: 4 ahead took five times as long as 96.
const AHEAD: usize = 96;
/// Rows of A before this have all of their lower triangle in the first half of a line.
const HALF: usize = LINE / 2;
/// A pivot below this part of the diagonal element it came from is rounding, not information.
const SINGULAR: f32 = 1e-6;

/// The systems of sixteen rows; `R` is the rank, rounded up to one of few sizes.
struct Batch<const R: usize> {
    /// Σ αr vvᵀ: rows of A, for each lane.
    a: [[Line; LINE]; R],
    /// Σ (1 + αr) v for each lane.
    b: [Line; LINE],
    /// n: how many interests have r > 0.
    interests: Line,
    /// Σ (1 + αr) for each lane: what the objective would be with x = 0.
    unexplained: Line,
}

/// Solves `rows`; `PASS` rows of A grow in registers in one pass over a row's interests (a divisor of `R`).
#[inline(always)]
pub(super) fn solve<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    system: &System<'_>,
    rows: Range<usize>,
    out: &mut [Line],
) -> Fit {
    let starts = system.side.starts;
    let mut window = Window::new(lanes, system, starts[rows.end] as usize);
    let zeros = [[0.0; LINE]; LINE];
    let mut batch = Batch::<R> { a: [zeros; R], b: zeros, interests: [0.0; LINE], unexplained: [0.0; LINE] };
    let mut fit = Fit::default();
    for (group, out) in rows.clone().step_by(LINE).zip(out.chunks_mut(LINE)) {
        for lane in 0..LINE {
            let row = (group + lane).min(rows.end);
            let next = (row + 1).min(rows.end);
            collect::<L, R, PASS>(
                lanes,
                system,
                &mut window,
                &mut batch,
                lane,
                starts[row] as usize..starts[next] as usize,
            );
        }
        fit += finish(lanes, system, &batch, out);
    }
    fit
}

/// Adds up the system of one row.
#[inline(always)]
fn collect<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    system: &System<'_>,
    window: &mut Window<'_, L>,
    batch: &mut Batch<R>,
    lane: usize,
    row: Range<usize>,
) {
    batch.interests[lane] = 0.0;
    batch.unexplained[lane] = 0.0;
    let mut first = true;
    // A row without interests has one empty piece, which clears what the lane held before.
    for piece in pieces(row.clone()).chain(row.is_empty().then_some(row)) {
        let weights = window.weights(&piece);
        batch.interests[lane] += weights.positive() as f32;
        let others = &system.side.others[piece.start..];
        for from in (0..R).step_by(PASS) {
            let factors = system.factors.lines();
            let sums = if from == 0 {
                let (sums, b, unexplained) =
                    add_up::<L, PASS, true>(lanes, factors, others, weights, 0, PASS.min(HALF));
                put(lanes, b, &mut batch.b[lane], first);
                batch.unexplained[lane] += unexplained;
                sums
            } else if from + PASS <= HALF {
                add_up::<L, PASS, false>(lanes, factors, others, weights, from, PASS).0
            } else {
                add_up::<L, PASS, false>(lanes, factors, others, weights, from, 0).0
            };
            for (sum, a) in sums.into_iter().zip(&mut batch.a[from..]) {
                put(lanes, sum, &mut a[lane], first);
            }
        }
        first = false;
    }
}

#[inline(always)]
fn put<L: Lanes>(lanes: L, sum: L::V, line: &mut Line, first: bool) {
    let sum = if first { sum } else { lanes.add(sum, lanes.load(line)) };
    lanes.store(sum, line);
}

/// Rows `from..from + PASS` of Σ αr vvᵀ over one piece of a row, and (when it is the `FIRST` pass) Σ (1 + αr) v
/// and Σ (1 + αr). Only the lower triangle is wanted, so the first `low` of the rows, all below row [`HALF`], need half the numbers.
#[inline(always)]
fn add_up<L: Lanes, const PASS: usize, const FIRST: bool>(
    lanes: L,
    factors: &[Line],
    others: &[u32],
    weights: Piece<'_>,
    from: usize,
    low: usize,
) -> ([L::V; PASS], L::V, f32) {
    let mut a = [lanes.splat(0.0); PASS];
    let mut b = lanes.splat(0.0);
    let mut unexplained = 0.0;
    for (at, (&extra, &target)) in weights.extra.iter().zip(weights.target).enumerate() {
        if FIRST && let Some(&next) = others.get(at + AHEAD) {
            lanes.prefetch(factors, next as usize);
        }
        let line = &factors[others[at] as usize];
        let v = lanes.load(line);
        let scaled = lanes.mul(lanes.splat(extra), v);
        let left: &[f32; PASS] = line[from..].first_chunk().unwrap_or(&[0.0; PASS]);
        for (row, (a, &number)) in a.iter_mut().zip(left).enumerate() {
            let number = lanes.splat(number);
            *a = if row < low { lanes.mul_add_low(number, scaled, *a) } else { lanes.mul_add(number, scaled, *a) };
        }
        if FIRST {
            b = lanes.mul_add(lanes.splat(target), v, b);
            unexplained += target;
        }
    }
    (a, b, unexplained)
}

/// Solves the sixteen systems of a batch and writes the vectors of as many rows as `out` has.
#[inline(always)]
fn finish<L: Lanes, const R: usize>(lanes: L, system: &System<'_>, batch: &Batch<R>, out: &mut [Line]) -> Fit {
    let zero = lanes.splat(0.0);
    let ridge = lanes.mul(lanes.splat(system.lambda), lanes.load(&batch.interests));
    let mut a = [[zero; R]; R];
    for i in 0..R {
        let turned = lanes.transpose(batch.a[i].each_ref());
        let gram = &system.gram[i * LINE..];
        for j in 0..=i {
            a[i][j] = lanes.add(turned[j], lanes.splat(gram[j]));
        }
        a[i][i] = lanes.add(a[i][i], ridge);
    }
    let turned = lanes.transpose(batch.b.each_ref());
    let mut y = [zero; R];
    y.copy_from_slice(&turned[..R]);
    let inverse = decompose(lanes, &mut a, &mut y);

    let mut x = [[0.0; LINE]; LINE];
    let mut solved = [zero; R];
    let (mut explained, mut squares) = (zero, zero);
    for j in (0..R).rev() {
        let mut rest = y[j];
        for i in j + 1..R {
            rest = lanes.mul_sub_from(a[i][j], solved[i], rest);
        }
        solved[j] = lanes.mul(rest, inverse[j]);
        lanes.store(solved[j], &mut x[j]);
        explained = lanes.mul_add(y[j], y[j], explained);
        squares = lanes.mul_add(solved[j], solved[j], squares);
    }
    for (row, &vector) in out.iter_mut().zip(&lanes.transpose(x.each_ref())) {
        lanes.store(vector, row);
    }
    // At the minimum the objective is Σ c p² − bᵀA⁻¹b, and bᵀA⁻¹b = |y|².
    let objective = lanes.sum(lanes.mul_sub_from(explained, lanes.splat(1.0), lanes.load(&batch.unexplained)));
    Fit { objective: f64::from(objective), penalty: f64::from(lanes.sum(lanes.mul(ridge, squares))) }
}

/// Turns the lower triangle of `a` into L with A = LLᵀ, and b in `y` into y with Ly = b. Gives 1 / the diagonal of L, 0 for a skipped pivot.
#[inline(always)]
fn decompose<L: Lanes, const R: usize>(lanes: L, a: &mut [[L::V; R]; R], y: &mut [L::V; R]) -> [L::V; R] {
    let mut inverse = [lanes.splat(0.0); R];
    for j in 0..R {
        let limit = lanes.mul(a[j][j], lanes.splat(SINGULAR));
        // One column at a time: its elements do not wait for each other.
        let mut column = [lanes.splat(0.0); R];
        for i in j..R {
            column[i] = a[i][j];
        }
        for k in 0..j {
            let left = a[j][k];
            for i in j..R {
                column[i] = lanes.mul_sub_from(a[i][k], left, column[i]);
            }
            y[j] = lanes.mul_sub_from(left, y[k], y[j]);
        }
        inverse[j] = lanes.inverse_root(column[j], limit);
        y[j] = lanes.mul(y[j], inverse[j]);
        for i in j..R {
            a[i][j] = lanes.mul(column[i], inverse[j]);
        }
    }
    inverse
}
