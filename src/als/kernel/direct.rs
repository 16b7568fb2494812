//! Small ranks: each row's normal equations, sixteen rows solved side by side.
//!
//! One interest is one cache line, and A = VᵀV + Σ αr vvᵀ + λnI grows in registers. A row of A costs one multiply-add an interest; half of one
//! in the second four rows, whose lower triangle ends in the first half of a line; and the first four rows together cost one. The systems of
//! sixteen rows are then turned so that lane k of every vector belongs to row k, and one Cholesky decomposition in vectors solves all
//! sixteen. The right hand side b = Σ (1 + αr) v goes along as one more row of the matrix, which makes the forward substitution free.
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
use super::{Fit, LARGEST_DIRECT_RANK, System, Work};
use crate::als::factors::{LINE, Line};

/// How many interests ahead vectors are fetched. It is latency that bounds this kernel: 4 ahead took five times as long as 96.
const AHEAD: usize = 96;
/// A pivot below this part of the diagonal element it came from is rounding, not information.
const SINGULAR: f32 = 1e-6;
/// Rows and columns are kept in quads, four numbers each.
const QUAD: usize = 4;
/// The most lines that the sums of one row take.
const MOST_LINES: usize = lines(LARGEST_DIRECT_RANK);

/// How many lines the sums of one row take at this rank: the quads of A's lower triangle, row after row, those of b, and at the beginning of
/// the last line the number of interests with r > 0 and Σ (1 + αr).
pub(super) const fn lines(rank: usize) -> usize {
    (first_quad(rank) + rank.div_ceil(QUAD)).div_ceil(LINE / QUAD) + 1
}

/// The size of systems for this rank: the next one that there is code for. Larger ranks are left as they are.
pub(super) const fn size(rank: usize) -> usize {
    match rank {
        9..=10 => 10,
        0..=LARGEST_DIRECT_RANK => rank.next_multiple_of(QUAD),
        _ => rank,
    }
}

/// How many quads there are before those of row `row` of A, or before those of b for the row behind the last.
const fn first_quad(row: usize) -> usize {
    let (group, within) = (row / QUAD, row % QUAD);
    QUAD * group * (group + 1) / 2 + within * (group + 1)
}

/// Does the work; at most `PASS` rows of A, four or more, grow in registers in one pass over a row's interests. `R` is the rank, rounded up
/// to one of few sizes.
#[inline(always)]
pub(super) fn run<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    system: &System<'_>,
    gram: &[f32],
    work: Work<'_>,
) -> Fit {
    match work {
        Work::Solve { rows, out } => solve::<L, R, PASS>(lanes, system, gram, rows, out),
        Work::Collect { rows, first, sums, .. } => {
            let mut collector = Collector::new(lanes, system, &rows);
            for (row, sums) in rows.zip(sums.chunks_exact_mut(lines(R))) {
                collector.collect::<R, PASS>(system.side.interests(row), first, sums);
            }
            Fit::default()
        }
        Work::Complete { sums, vectors, .. } => finish::<L, R>(lanes, system.lambda, gram, sums, vectors),
    }
}

/// Solves `rows`.
#[inline(always)]
fn solve<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    system: &System<'_>,
    gram: &[f32],
    rows: Range<usize>,
    out: &mut [Line],
) -> Fit {
    let mut collector = Collector::new(lanes, system, &rows);
    let mut batch = [[0.0; LINE]; LINE * MOST_LINES];
    let batch = &mut batch[..LINE * lines(R)];
    let mut fit = Fit::default();
    for (group, out) in rows.clone().step_by(LINE).zip(out.chunks_mut(LINE)) {
        for (lane, sums) in batch.chunks_exact_mut(lines(R)).enumerate() {
            let row = group + lane;
            let end = system.side.starts[rows.end] as usize;
            let interests = if row < rows.end { system.side.interests(row) } else { end..end };
            collector.collect::<R, PASS>(interests, true, sums);
        }
        fit += finish::<L, R>(lanes, system.lambda, gram, batch, out);
    }
    fit
}

/// Adds up the systems of rows.
struct Collector<'a, L> {
    lanes: L,
    system: &'a System<'a>,
    window: Window<'a, L>,
    /// The sums of one piece of a row.
    fresh: [Line; MOST_LINES],
}

impl<'a, L: Lanes> Collector<'a, L> {
    /// For these rows.
    #[inline(always)]
    fn new(lanes: L, system: &'a System<'a>, rows: &Range<usize>) -> Self {
        let window = Window::new(lanes, system, system.side.starts[rows.end] as usize);
        Self { lanes, system, window, fresh: [[0.0; LINE]; MOST_LINES] }
    }

    /// Puts the sums over these interests of a row into `sums` if they are the row's `first`, else adds them to those that are there.
    #[inline(always)]
    fn collect<const R: usize, const PASS: usize>(&mut self, row: Range<usize>, mut first: bool, sums: &mut [Line]) {
        // Without interests there is one empty piece, which clears what was there before.
        for piece in pieces(row.clone()).chain(row.is_empty().then_some(row)) {
            let weights = self.window.weights(&piece);
            let others = &self.system.side.others[piece.start..];
            let sum = if first { &mut *sums } else { &mut self.fresh[..lines(R)] };
            add_up::<L, R, PASS>(self.lanes, self.system, others, weights, sum);
            if !first {
                for (sum, fresh) in sums.iter_mut().zip(&self.fresh) {
                    self.lanes.store(self.lanes.add(self.lanes.load(sum), self.lanes.load(fresh)), sum);
                }
            }
            first = false;
        }
    }
}

/// Puts the sums over one piece of a row into `sums`.
#[inline(always)]
fn add_up<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    system: &System<'_>,
    others: &[u32],
    weights: Piece<'_>,
    sums: &mut [Line],
) {
    let factors = system.factors.lines();
    let unexplained = add_up_first::<L, R, PASS>(lanes, factors, others, weights, sums.as_flattened_mut());
    let rest = &mut sums[lines(R) - 1];
    (rest[0], rest[1]) = (weights.positive() as f32, unexplained);
    for from in (PASS..R).step_by(PASS) {
        add_up_more::<L, R, PASS>(lanes, factors, others, weights, from, sums.as_flattened_mut());
    }
}

/// Rows `0..PASS` of Σ αr vvᵀ, and Σ (1 + αr) v, into `sums`; gives Σ (1 + αr).
#[inline(always)]
fn add_up_first<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    factors: &[Line],
    others: &[u32],
    weights: Piece<'_>,
    sums: &mut [f32],
) -> f32 {
    // The first four rows are wanted up to column four: one vector of four quads.
    let mut corner = lanes.splat(0.0);
    let mut a = [lanes.splat(0.0); PASS];
    let mut b = lanes.splat(0.0);
    let mut unexplained = 0.0;
    for (at, ((&extra, &target), &other)) in weights.extra.iter().zip(weights.target).zip(others).enumerate() {
        let (extra, target_everywhere) = (lanes.splat(extra), lanes.splat(target));
        if let Some(&next) = others.get(at + AHEAD) {
            lanes.prefetch(factors, next as usize);
        }
        let line = &factors[other as usize];
        let v = lanes.load(line);
        let scaled = lanes.mul(extra, v);
        corner = lanes.mul_add(lanes.spread(scaled), lanes.repeat(v), corner);
        for row in QUAD..PASS {
            let number = lanes.splat(line[row]);
            a[row] = grown(lanes, row, number, scaled, a[row]);
        }
        b = lanes.mul_add(target_everywhere, v, b);
        unexplained += target;
    }
    lanes.store_quads(corner, 4, sums);
    for row in QUAD..PASS {
        lanes.store_quads(a[row], row / QUAD + 1, &mut sums[QUAD * first_quad(row)..]);
    }
    lanes.store_quads(b, R.div_ceil(QUAD), &mut sums[QUAD * first_quad(R)..]);
    unexplained
}

/// At most `PASS` more rows of Σ αr vvᵀ into `sums`, all behind the first four.
#[inline(always)]
fn add_up_more<L: Lanes, const R: usize, const PASS: usize>(
    lanes: L,
    factors: &[Line],
    others: &[u32],
    weights: Piece<'_>,
    from: usize,
    sums: &mut [f32],
) {
    let mut a = [lanes.splat(0.0); PASS];
    for (&extra, &other) in weights.extra.iter().zip(others) {
        let extra = lanes.splat(extra);
        let line = &factors[other as usize];
        let scaled = lanes.mul(extra, lanes.load(line));
        for at in 0..PASS {
            let row = from + at;
            if row < R {
                let number = lanes.splat(line[row]);
                a[at] = grown(lanes, row, number, scaled, a[at]);
            }
        }
    }
    for (row, a) in (from..R).zip(a) {
        lanes.store_quads(a, row / QUAD + 1, &mut sums[QUAD * first_quad(row)..]);
    }
}

/// Does something for each of the columns 0, 1, ... of a matrix of rank `$rank`, or backwards, as straight code: what a loop would keep in
/// arrays stays in registers.
macro_rules! each_column {
    ($rank:ident, $function:ident::<$lanes:ident>, $arguments:tt) => {
        each_column!($rank, $function::<$lanes>, $arguments, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($rank:ident, backwards $function:ident::<$lanes:ident>, $arguments:tt) => {
        each_column!($rank, $function::<$lanes>, $arguments, 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0)
    };
    ($rank:ident, $function:ident::<$lanes:ident>, $arguments:tt, $($column:literal)*) => {
        $(if $column < $rank { $function::<$lanes, $rank, $column> $arguments; })*
    };
}

/// Sixteen systems side by side, lane k of every vector for row k.
struct Systems<V, const R: usize> {
    /// The lower triangle of A, then of L with A = LLᵀ.
    a: [[V; R]; R],
    /// b, then y with Ly = b, then what is left of it while x is found.
    b: [V; R],
    /// 1 / the diagonal of L, 0 for a skipped pivot.
    inverse: [V; R],
}

/// Row `row` of A with one more interest; of its numbers only those of the lower triangle are sure to be right.
#[inline(always)]
fn grown<L: Lanes>(lanes: L, row: usize, number: L::V, scaled: L::V, a: L::V) -> L::V {
    if row < 2 * QUAD { lanes.mul_add_low(number, scaled, a) } else { lanes.mul_add(number, scaled, a) }
}

/// Solves the systems whose sums are in `batch`, those of sixteen rows, and writes the vectors of as many rows as `out` has.
#[inline(always)]
fn finish<L: Lanes, const R: usize>(lanes: L, lambda: f32, gram: &[f32], batch: &[Line], out: &mut [Line]) -> Fit {
    let rest: [&Line; LINE] = std::array::from_fn(|lane| &batch[(lane + 1) * lines(R) - 1]);
    let (interests, unexplained): (Line, Line) = (rest.map(|rest| rest[0]), rest.map(|rest| rest[1]));
    let ridge = lanes.mul(lanes.splat(lambda), lanes.load(&interests));
    let mut systems = assemble::<L, R>(lanes, gram, ridge, batch);
    each_column!(R, decompose::<L>, (lanes, &mut systems));
    let mut explained = lanes.splat(0.0);
    for y in systems.b {
        explained = lanes.mul_add(y, y, explained);
    }
    let mut x = [[0.0; LINE]; LINE];
    let mut squares = lanes.splat(0.0);
    each_column!(R, backwards substitute::<L>, (lanes, &mut systems, &mut x, &mut squares));
    for (row, &vector) in out.iter_mut().zip(&lanes.transpose(x.each_ref())) {
        lanes.store(vector, row);
    }
    // At the minimum the objective is Σ c p² − bᵀA⁻¹b, and bᵀA⁻¹b = |y|².
    let objective = lanes.sum(lanes.mul_sub_from(explained, lanes.splat(1.0), lanes.load(&unexplained)));
    Fit { objective: f64::from(objective), penalty: f64::from(lanes.sum(lanes.mul(ridge, squares))) }
}

/// The systems A = VᵀV + Σ αr vvᵀ + λnI and b = Σ (1 + αr) v of sixteen rows.
#[inline(always)]
fn assemble<L: Lanes, const R: usize>(lanes: L, gram: &[f32], ridge: L::V, batch: &[Line]) -> Systems<L::V, R> {
    let zero = lanes.splat(0.0);
    let mut turned = [[zero; LINE]; MOST_LINES];
    for (line, turned) in turned.iter_mut().enumerate().take(lines(R) - 1) {
        *turned = lanes.transpose(std::array::from_fn(|lane| &batch[lane * lines(R) + line]));
    }
    let turned = turned.as_flattened();
    let mut systems = Systems { a: [[zero; R]; R], b: [zero; R], inverse: [zero; R] };
    for i in 0..R {
        for j in 0..=i {
            systems.a[i][j] = lanes.add(turned[QUAD * first_quad(i) + j], lanes.splat(gram[i * LINE + j]));
        }
        systems.a[i][i] = lanes.add(systems.a[i][i], ridge);
        systems.b[i] = turned[QUAD * first_quad(R) + i];
    }
    systems
}

/// Column `J` of L, and number `J` of y.
#[inline(always)]
fn decompose<L: Lanes, const R: usize, const J: usize>(lanes: L, systems: &mut Systems<L::V, R>) {
    let Systems { a, b, inverse } = systems;
    let limit = lanes.mul(a[J][J], lanes.splat(SINGULAR));
    let mut column = [lanes.splat(0.0); R];
    for i in J..R {
        column[i] = a[i][J];
    }
    let mut y = b[J];
    for k in 0..J {
        let left = a[J][k];
        for i in J..R {
            column[i] = lanes.mul_sub_from(a[i][k], left, column[i]);
        }
        y = lanes.mul_sub_from(left, b[k], y);
    }
    inverse[J] = lanes.inverse_root(column[J], limit);
    b[J] = lanes.mul(y, inverse[J]);
    for i in J..R {
        a[i][J] = lanes.mul(column[i], inverse[J]);
    }
}

/// Number `J` of x, for all sixteen rows, once those behind it are known; adds its square to `squares`.
#[inline(always)]
fn substitute<L: Lanes, const R: usize, const J: usize>(
    lanes: L,
    systems: &mut Systems<L::V, R>,
    x: &mut [Line; LINE],
    squares: &mut L::V,
) {
    let solved = lanes.mul(systems.b[J], systems.inverse[J]);
    for i in 0..J {
        systems.b[i] = lanes.mul_sub_from(systems.a[J][i], solved, systems.b[i]);
    }
    lanes.store(solved, &mut x[J]);
    *squares = lanes.mul_add(solved, solved, *squares);
}
