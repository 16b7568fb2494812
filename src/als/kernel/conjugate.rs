//! Large ranks: a few steps of conjugate gradient for each row, from where the row stood in the iteration before.
//!
//! A = VᵀV + Σ αr vvᵀ + λnI is never built: A p = G p + Σ αr v (v·p) + λn p costs two multiply-adds a line and an interest, where building A
//! costs as many as the rank. Three steps an iteration are enough to keep up with the exact solve (Takács, Pilászy, Tikk: "Applications of
//! the conjugate gradient method for implicit feedback collaborative filtering", RecSys 2011).
//!
//! No NaN can arise: a step divides by pᵀAp and by the residual before it, and is not taken unless both are normal positive numbers.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use std::ops::Range;

use super::lanes::Lanes;
use super::window::{Piece, Window, pieces};
use super::{Fit, System, Work};
use crate::als::factors::{LINE, Line};

/// Conjugate gradient steps a row and iteration.
const STEPS: usize = 3;
/// How many interests ahead vectors are fetched. Fewer than for small ranks: each vector is several cache lines.
const AHEAD: usize = 16;
/// Rows with more interests than this lose their vectors from the near caches between two passes.
const CACHED: usize = 1024;
/// How many interests go side by side, so that adding up within their vectors is shared.
const ABREAST: usize = 4;

/// How often all interests of a row are gone through: for the residual, and for each step.
pub(super) const PASSES: usize = 1 + STEPS;

/// How many lines of sums a long row has: what is added up in a pass, the residual, the direction, and a line with the number of interests
/// with r > 0, their share of the objective and |residual|².
pub(super) fn lines(rank: usize) -> usize {
    3 * rank.div_ceil(LINE) + 1
}

/// Does the work with the code for the rows' number of lines.
#[inline(always)]
pub(super) fn run<L: Lanes>(lanes: L, system: &System<'_>, work: Work<'_>) -> Fit {
    macro_rules! of_width {
        ($($width:literal)*) => {
            match system.factors.stride() / LINE {
                $($width => run_width::<L, $width>(lanes, system, work),)*
                _ => Fit::default(),
            }
        };
    }
    of_width!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}

#[inline(always)]
fn run_width<L: Lanes, const P: usize>(lanes: L, system: &System<'_>, work: Work<'_>) -> Fit {
    match work {
        Work::Solve { rows, out } => solve_rows::<L, P>(lanes, system, rows, out),
        Work::Collect { pass, rows, first, vectors, sums } => {
            let mut window = Window::new(lanes, system, system.side.starts[rows.end] as usize);
            let vectors = vectors.as_chunks::<P>().0;
            for ((row, x), sums) in rows.zip(vectors).zip(sums.chunks_exact_mut(3 * P + 1)) {
                let interests = system.side.interests(row);
                let row = Row { lanes, system, window: &mut window, interests, ridge: 0.0 };
                if let Some(mut sums) = Sums::of(sums) {
                    row.collect(pass, first, x, &mut sums);
                }
            }
            Fit::default()
        }
        Work::Complete { pass, sums, vectors } => {
            let mut fit = Fit::default();
            for (x, sums) in vectors.as_chunks_mut::<P>().0.iter_mut().zip(sums.chunks_exact_mut(3 * P + 1)) {
                if let Some(mut sums) = Sums::of(sums) {
                    fit += complete(lanes, system, pass, x, &mut sums);
                }
            }
            fit
        }
    }
}

/// What is kept of a long row between two visits.
struct Sums<'a, const P: usize> {
    sum: &'a mut [Line; P],
    residual: &'a mut [Line; P],
    direction: &'a mut [Line; P],
    /// n, how many of the interests have r > 0.
    positive: &'a mut f32,
    /// What the objective is at the row's vector.
    objective: &'a mut f32,
    /// |residual|²; 0 once no step can be taken.
    squares: &'a mut f32,
}

impl<'a, const P: usize> Sums<'a, P> {
    /// The parts of 3 P + 1 lines.
    #[inline(always)]
    fn of(lines: &'a mut [Line]) -> Option<Self> {
        match lines.as_chunks_mut::<P>() {
            ([sum, residual, direction], [[positive, objective, squares, ..]]) => {
                Some(Self { sum, residual, direction, positive, objective, squares })
            }
            _ => None,
        }
    }
}

/// What the passes over one row's interests share.
struct Row<'a, 'w, L> {
    lanes: L,
    system: &'a System<'a>,
    window: &'w mut Window<'a, L>,
    interests: Range<usize>,
    /// λn
    ridge: f32,
}

#[inline(always)]
fn solve_rows<L: Lanes, const P: usize>(lanes: L, system: &System<'_>, rows: Range<usize>, out: &mut [Line]) -> Fit {
    let starts = system.side.starts;
    let mut window = Window::new(lanes, system, starts[rows.end] as usize);
    let mut fit = Fit::default();
    for (row, x) in rows.zip(out.as_chunks_mut::<P>().0) {
        let interests = starts[row] as usize..starts[row + 1] as usize;
        fit += solve_row(Row { lanes, system, window: &mut window, interests, ridge: 0.0 }, x);
    }
    fit
}

/// Improves the vector `x` of one row.
#[inline(always)]
fn solve_row<L: Lanes, const P: usize>(mut row: Row<'_, '_, L>, x: &mut [Line; P]) -> Fit {
    let positive = row.count_positive();
    if positive == 0 {
        // b is zero, and so is the solution.
        *x = [[0.0; LINE]; P];
        return Fit::default();
    }
    row.ridge = row.system.lambda * positive as f32;
    let (mut residual, mut objective) = row.residual(x);
    let mut direction = residual;
    let mut squares = dot(row.lanes, &residual, &residual);
    for step in 1..=STEPS {
        let image = row.times(&direction);
        let Some(length) = step_length(row.lanes, squares, &direction, &image) else {
            break;
        };
        // A step lowers the objective by the square of the residual, times its length.
        objective -= f64::from(squares) * f64::from(length);
        add_scaled(row.lanes, length, &direction, x);
        if step < STEPS {
            squares = turn(row.lanes, length, squares, &image, &mut residual, &mut direction);
        }
    }
    Fit { objective, penalty: f64::from(row.ridge) * f64::from(dot(row.lanes, x, x)) }
}

/// Completes a pass over a long row's interests: the first gives the residual and a direction, each other one a step in it.
#[inline(always)]
fn complete<L: Lanes, const P: usize>(
    lanes: L,
    system: &System<'_>,
    pass: usize,
    x: &mut [Line; P],
    sums: &mut Sums<'_, P>,
) -> Fit {
    let ridge = system.lambda * *sums.positive;
    let from = if pass == 0 { &*x } else { &*sums.direction };
    let mut image = times_gram(lanes, system, from);
    add_scaled(lanes, ridge, from, &mut image);
    if pass == 0 {
        if *sums.positive == 0.0 {
            // b is zero, and so is the solution.
            *x = [[0.0; LINE]; P];
            *sums.squares = 0.0;
            return Fit::default();
        }
        *sums.objective += dot(lanes, x, &image);
        *sums.residual = *sums.sum;
        add_scaled(lanes, -1.0, &image, sums.residual);
        *sums.direction = *sums.residual;
        *sums.squares = dot(lanes, sums.residual, sums.residual);
    } else {
        add_lines(lanes, sums.sum, &mut image);
        if let Some(length) = step_length(lanes, *sums.squares, sums.direction, &image) {
            *sums.objective -= *sums.squares * length;
            add_scaled(lanes, length, sums.direction, x);
            *sums.squares = turn(lanes, length, *sums.squares, &image, sums.residual, sums.direction);
        } else {
            *sums.squares = 0.0;
        }
    }
    if pass < STEPS {
        return Fit::default();
    }
    Fit { objective: f64::from(*sums.objective), penalty: f64::from(ridge) * f64::from(dot(lanes, x, x)) }
}

/// How far to go in a direction p with this `image` Ap, for a residual with these `squares`; nothing if no step can be taken.
#[inline(always)]
fn step_length<L: Lanes, const P: usize>(
    lanes: L,
    squares: f32,
    direction: &[Line; P],
    image: &[Line; P],
) -> Option<f32> {
    let curvature = dot(lanes, direction, image);
    let possible = squares.is_normal() && curvature.is_normal() && curvature > 0.0;
    Some(squares / curvature).filter(|length| possible && length.is_finite())
}

/// The residual and the next direction after a step; gives |residual|².
#[inline(always)]
fn turn<L: Lanes, const P: usize>(
    lanes: L,
    length: f32,
    before: f32,
    image: &[Line; P],
    residual: &mut [Line; P],
    direction: &mut [Line; P],
) -> f32 {
    add_scaled(lanes, -length, image, residual);
    let squares = dot(lanes, residual, residual);
    let turned = *direction;
    *direction = *residual;
    add_scaled(lanes, squares / before, &turned, direction);
    squares
}

impl<L: Lanes> Row<'_, '_, L> {
    /// Adds what pass number `pass` needs of these interests of a long row, whose vector is `x`, to its sums; starts them with its `first`.
    #[inline(always)]
    fn collect<const P: usize>(self, pass: usize, first: bool, x: &[Line; P], sums: &mut Sums<'_, P>) {
        if first {
            *sums.sum = [[0.0; LINE]; P];
            if pass == 0 {
                (*sums.positive, *sums.objective) = (0.0, 0.0);
            }
        }
        let factors = self.system.factors.lines();
        for piece in pieces(self.interests) {
            let weights = self.window.weights(&piece);
            let others = &self.system.side.others[piece.start..];
            let sum = if pass == 0 {
                let (sum, error) = add_up::<L, P, true>(self.lanes, factors, others, weights, x, true);
                *sums.positive += weights.positive() as f32;
                *sums.objective += error as f32;
                sum
            } else {
                add_up::<L, P, false>(self.lanes, factors, others, weights, sums.direction, true).0
            };
            add_lines(self.lanes, &sum, sums.sum);
        }
    }

    /// n: how many of the row's interests have r > 0.
    #[inline(always)]
    fn count_positive(&mut self) -> u64 {
        let mut count = 0;
        for piece in pieces(self.interests.clone()) {
            count += u64::from(self.window.weights(&piece).positive());
        }
        count
    }

    /// b − Ax, and the value of the row's objective at x.
    #[inline(always)]
    fn residual<const P: usize>(&mut self, x: &[Line; P]) -> ([Line; P], f64) {
        let mut image = times_gram(self.lanes, self.system, x);
        add_scaled(self.lanes, self.ridge, x, &mut image);
        // xᵀGx + λn|x|²
        let mut objective = f64::from(dot(self.lanes, x, &image));
        let mut residual = [[0.0; LINE]; P];
        add_scaled(self.lanes, -1.0, &image, &mut residual);
        for piece in pieces(self.interests.clone()) {
            let weights = self.window.weights(&piece);
            let others = &self.system.side.others[piece.start..];
            let (sum, error) = add_up::<L, P, true>(self.lanes, self.system.factors.lines(), others, weights, x, true);
            add_lines(self.lanes, &sum, &mut residual);
            objective += error;
        }
        (residual, objective)
    }

    /// Ap
    #[inline(always)]
    fn times<const P: usize>(&mut self, p: &[Line; P]) -> [Line; P] {
        let long = self.interests.len() > CACHED;
        let mut image = times_gram(self.lanes, self.system, p);
        add_scaled(self.lanes, self.ridge, p, &mut image);
        for piece in pieces(self.interests.clone()) {
            let weights = self.window.weights(&piece);
            let others = &self.system.side.others[piece.start..];
            let (sum, _) = add_up::<L, P, false>(self.lanes, self.system.factors.lines(), others, weights, p, long);
            add_lines(self.lanes, &sum, &mut image);
        }
        image
    }
}

/// Gp, as a sum of G's rows: G is symmetric.
#[inline(always)]
fn times_gram<L: Lanes, const P: usize>(lanes: L, system: &System<'_>, p: &[Line; P]) -> [Line; P] {
    let rows = system.gram.as_chunks::<LINE>().0.as_chunks::<P>().0;
    // Two sums, because one multiply-add must wait for the one before it in its sum.
    let mut even = [lanes.splat(0.0); P];
    let mut odd = even;
    for (pair, numbers) in rows.as_chunks::<2>().0.iter().zip(p.as_flattened().as_chunks::<2>().0) {
        let (left, right) = (lanes.splat(numbers[0]), lanes.splat(numbers[1]));
        for i in 0..P {
            even[i] = lanes.mul_add(left, lanes.load(&pair[0][i]), even[i]);
            odd[i] = lanes.mul_add(right, lanes.load(&pair[1][i]), odd[i]);
        }
    }
    let mut image = [[0.0; LINE]; P];
    for i in 0..P {
        lanes.store(lanes.add(even[i], odd[i]), &mut image[i]);
    }
    image
}

/// Some interests that are worked on together.
struct Abreast<'a, const P: usize> {
    vectors: [&'a [Line; P]; ABREAST],
    extra: [f32; ABREAST],
    target: [f32; ABREAST],
}

/// The interests of a piece from number `from` on. At the end there may be fewer: then the first of them is taken again, with weight 0.
#[inline(always)]
fn abreast<'a, const P: usize>(
    vectors: &'a [[Line; P]],
    others: &[u32],
    weights: Piece<'_>,
    from: usize,
) -> Abreast<'a, P> {
    let mut group =
        Abreast { vectors: [&vectors[others[from] as usize]; ABREAST], extra: [0.0; ABREAST], target: [0.0; ABREAST] };
    let all = from..from + ABREAST;
    if let (Some(extra), Some(target)) = (weights.extra.get(all.clone()), weights.target.get(all.clone())) {
        for (vector, &other) in group.vectors.iter_mut().zip(&others[all]) {
            *vector = &vectors[other as usize];
        }
        group.extra.copy_from_slice(extra);
        group.target.copy_from_slice(target);
    } else {
        for k in 0..weights.extra.len() - from {
            group.vectors[k] = &vectors[others[from + k] as usize];
            (group.extra[k], group.target[k]) = (weights.extra[from + k], weights.target[from + k]);
        }
    }
    group
}

/// Over one piece of a row: Σ αr v (v·p), or with `RESIDUAL` Σ [(1 + αr) − αr (v·p)] v and what the interests add to the objective,
/// Σ [c (1 − v·p)² − (v·p)²]. In a `long` row vectors are fetched ahead in every pass, else only in the first.
#[inline(always)]
fn add_up<L: Lanes, const P: usize, const RESIDUAL: bool>(
    lanes: L,
    factors: &[Line],
    others: &[u32],
    weights: Piece<'_>,
    p: &[Line; P],
    long: bool,
) -> ([Line; P], f64) {
    let p = loaded(lanes, p);
    let vectors = factors.as_chunks::<P>().0;
    let mut sum = [lanes.splat(0.0); P];
    let mut error = 0.0;
    let fetch = RESIDUAL || long;
    for from in (0..weights.extra.len()).step_by(ABREAST) {
        if fetch && let Some(next) = others.get(from + AHEAD..from + AHEAD + ABREAST) {
            for &next in next {
                for line in 0..P {
                    lanes.prefetch(factors, next as usize * P + line);
                }
            }
        }
        let Abreast { vectors: abreast, extra, target } = abreast(vectors, others, weights, from);
        let mut products = [lanes.splat(0.0); ABREAST];
        for (product, vector) in products.iter_mut().zip(abreast) {
            for i in 0..P {
                *product = lanes.mul_add(lanes.load(&vector[i]), p[i], *product);
            }
        }
        let scores = lanes.sums(products);
        for k in 0..ABREAST {
            let (extra, target, score) = (extra[k], target[k], scores[k]);
            let factor = if RESIDUAL {
                // c (p − s)² − s² = c p (1 − 2 s) + (c − 1) s², with c p the target and c − 1 = αr.
                error += target * (1.0 - 2.0 * score) + extra * score * score;
                target - extra * score
            } else {
                extra * score
            };
            let factor = lanes.splat(factor);
            for i in 0..P {
                sum[i] = lanes.mul_add(factor, lanes.load(&abreast[k][i]), sum[i]);
            }
        }
    }
    let mut lines = [[0.0; LINE]; P];
    for i in 0..P {
        lanes.store(sum[i], &mut lines[i]);
    }
    (lines, f64::from(error))
}

#[inline(always)]
fn loaded<L: Lanes, const P: usize>(lanes: L, lines: &[Line; P]) -> [L::V; P] {
    let mut v = [lanes.splat(0.0); P];
    for (v, line) in v.iter_mut().zip(lines) {
        *v = lanes.load(line);
    }
    v
}

#[inline(always)]
fn dot<L: Lanes, const P: usize>(lanes: L, a: &[Line; P], b: &[Line; P]) -> f32 {
    let mut sum = lanes.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = lanes.mul_add(lanes.load(a), lanes.load(b), sum);
    }
    lanes.sum(sum)
}

/// `to += factor · from`
#[inline(always)]
fn add_scaled<L: Lanes, const P: usize>(lanes: L, factor: f32, from: &[Line; P], to: &mut [Line; P]) {
    for (from, to) in from.iter().zip(to) {
        lanes.store(lanes.mul_add(lanes.splat(factor), lanes.load(from), lanes.load(to)), to);
    }
}

#[inline(always)]
fn add_lines<L: Lanes, const P: usize>(lanes: L, from: &[Line; P], to: &mut [Line; P]) {
    add_scaled(lanes, 1.0, from, to);
}
