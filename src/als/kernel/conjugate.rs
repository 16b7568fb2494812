//! Large ranks: a few steps of conjugate gradient for each row, from where the row stood in the iteration before.
//!
//! A = VᵀV + Σ αr vvᵀ + λnI is never built: A p = G p + Σ αr v (v·p) + λn p costs two multiply-adds a line and an interest, where building A
//! costs as many as the rank (Takács, Pilászy, Tikk: "Applications of the conjugate gradient method for implicit feedback collaborative
//! filtering", RecSys 2011).
//!
//! Both sides' vectors are turned onto the eigenvectors of VᵀV, which changes no scalar product and no length, and so no objective. Then G is
//! diagonal: G p costs one multiply-add a line instead of one for each number, and M = G + λnI, which is A but for the row's own interests,
//! can be divided by: conjugate gradient preconditioned with M. Where those interests weigh little beside all others (small α) one step is as
//! good as the exact solve; at α = 1 most rows take two.
//!
//! No NaN can arise: a step divides by pᵀAp and by the residual before it, and is not taken unless both are normal positive numbers.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use std::ops::Range;

use super::lanes::Lanes;
use super::turn::{of_width, turned};
use super::window::{Piece, Window, pieces};
use super::{Axes, Fit, System, Work};
use crate::als::MAX_RANK;
use crate::als::factors::{LINE, Line};

/// The most steps a row takes in an iteration.
const STEPS: usize = 3;
/// A row takes no further step when rᵀM⁻¹r, for its residual r, is this part of what it was at first. More steps are better spent in the next
/// iteration, when the other side has come closer too: a tenth took 15 % longer and gave no lower loss at α = 1, .2 % lower at α = 5 and 20.
const ENOUGH: f32 = 0.25;
/// How many interests ahead vectors are fetched. Fewer than for small ranks: each vector is several cache lines.
const AHEAD: usize = 16;
/// Rows with more interests than this lose their vectors from the near caches between two passes.
const CACHED: usize = 1024;
/// How many interests go side by side, so that adding up within their vectors is shared.
const ABREAST: usize = 4;

/// How often all interests of a row are gone through at most: for the residual, and for each step.
pub(super) const PASSES: usize = 1 + STEPS;

/// How many lines are kept of a row between two passes: what is added up in a pass, the residual, the direction, and a line for [`Sums`]'
/// single numbers.
pub(super) const fn lines(rank: usize) -> usize {
    3 * rank.div_ceil(LINE) + 1
}

/// Does the work; the system's vectors have been turned onto `axes`.
#[inline(always)]
pub(super) fn run<L: Lanes>(lanes: L, system: &System<'_>, axes: &Axes, work: Work<'_>) -> Fit {
    of_width!(system.factors.stride() / LINE, run_width::<L>, (lanes, system, axes, work))
}

#[inline(always)]
fn run_width<L: Lanes, const P: usize>(lanes: L, system: &System<'_>, axes: &Axes, work: Work<'_>) -> Fit {
    let [eigenvalues] = axes.eigenvalues.as_chunks::<P>().0 else { return Fit::default() };
    let matrix = Preconditioner { lanes, eigenvalues, lambda: system.lambda };
    match work {
        Work::Solve { rows, out } => {
            let mut collector = Collector::new(lanes, system, &rows);
            let mut sums = [[0.0; LINE]; lines(MAX_RANK)];
            let mut fit = Fit::default();
            for (row, x) in rows.zip(out.as_chunks_mut::<P>().0) {
                *x = turned(lanes, x, &axes.turn);
                if let Some(sums) = Sums::of(&mut sums[..=3 * P]) {
                    fit += solve_row(matrix, &mut collector, system.side.interests(row), x, sums);
                }
            }
            fit
        }
        Work::Collect { pass: 0, rows, first, vectors, sums } => {
            collect_cells::<L, P, true>(lanes, system, rows, first, vectors, sums)
        }
        Work::Collect { rows, first, vectors, sums, .. } => {
            collect_cells::<L, P, false>(lanes, system, rows, first, vectors, sums)
        }
        Work::Complete { pass, sums, vectors } => {
            let mut fit = Fit::default();
            for (x, sums) in vectors.as_chunks_mut::<P>().0.iter_mut().zip(sums.chunks_exact_mut(3 * P + 1)) {
                if let Some(mut sums) = Sums::of(sums) {
                    if pass == 0 {
                        begin(matrix, x, &mut sums);
                    } else {
                        step(matrix, x, &mut sums);
                    }
                    if pass == STEPS {
                        fit += matrix.fit(x, &sums);
                    }
                }
            }
            fit
        }
    }
}

/// Improves the vector `x` of one row.
#[inline(always)]
fn solve_row<L: Lanes, const P: usize>(
    matrix: Preconditioner<'_, L, P>,
    collector: &mut Collector<'_, L>,
    interests: Range<usize>,
    x: &mut [Line; P],
    mut sums: Sums<'_, P>,
) -> Fit {
    let long = interests.len() > CACHED;
    sums.clear();
    collector.collect::<P, true>(interests.clone(), long, x, &mut sums);
    begin(matrix, x, &mut sums);
    for _ in 0..STEPS {
        if sums.done() {
            break;
        }
        *sums.sum = [[0.0; LINE]; P];
        collector.collect::<P, false>(interests.clone(), long, x, &mut sums);
        step(matrix, x, &mut sums);
    }
    matrix.fit(x, &sums)
}

/// Adds up the cells `rows`; with `RESIDUAL` for the first pass.
#[inline(always)]
fn collect_cells<L: Lanes, const P: usize, const RESIDUAL: bool>(
    lanes: L,
    system: &System<'_>,
    rows: Range<usize>,
    first: bool,
    vectors: &[Line],
    sums: &mut [Line],
) -> Fit {
    let mut collector = Collector::new(lanes, system, &rows);
    for ((row, x), sums) in rows.zip(vectors.as_chunks::<P>().0).zip(sums.chunks_exact_mut(3 * P + 1)) {
        let Some(mut sums) = Sums::of(sums) else { continue };
        match (first, RESIDUAL) {
            (true, true) => sums.clear(),
            (true, false) => *sums.sum = [[0.0; LINE]; P],
            (false, _) => {}
        }
        if RESIDUAL || !sums.done() {
            collector.collect::<P, RESIDUAL>(system.side.interests(row), true, x, &mut sums);
        }
    }
    Fit::default()
}

/// What is kept of a row between two passes over its interests.
struct Sums<'a, const P: usize> {
    sum: &'a mut [Line; P],
    residual: &'a mut [Line; P],
    direction: &'a mut [Line; P],
    /// n, how many of the interests have r > 0.
    positive: &'a mut f32,
    /// What the objective is at the row's vector.
    objective: &'a mut f32,
    /// rᵀM⁻¹r for the residual r; 0 once no step is to be taken.
    squares: &'a mut f32,
    /// The same at first, before any step.
    at_first: &'a mut f32,
}

impl<'a, const P: usize> Sums<'a, P> {
    /// The parts of 3 P + 1 lines.
    #[inline(always)]
    fn of(lines: &'a mut [Line]) -> Option<Self> {
        match lines.as_chunks_mut::<P>() {
            ([sum, residual, direction], [[positive, objective, squares, at_first, ..]]) => {
                Some(Self { sum, residual, direction, positive, objective, squares, at_first })
            }
            _ => None,
        }
    }

    /// Whether no further step is to be taken.
    #[inline(always)]
    fn done(&self) -> bool {
        *self.squares == 0.0
    }

    /// Nothing is added up yet.
    #[inline(always)]
    fn clear(&mut self) {
        *self.sum = [[0.0; LINE]; P];
        (*self.positive, *self.objective) = (0.0, 0.0);
    }
}

/// M = G + λnI, by which residuals are divided; the rest of A are the row's own interests.
#[derive(Clone, Copy)]
struct Preconditioner<'a, L, const P: usize> {
    lanes: L,
    /// The diagonal of G, which has nothing else.
    eigenvalues: &'a [Line; P],
    lambda: f32,
}

impl<L: Lanes, const P: usize> Preconditioner<'_, L, P> {
    /// `to += M p`, for a row with `positive` interests.
    #[inline(always)]
    fn add_product(&self, positive: f32, p: &[Line; P], to: &mut [Line; P]) {
        let lanes = self.lanes;
        let ridge = lanes.splat(self.lambda * positive);
        for i in 0..P {
            let diagonal = lanes.add(lanes.load(&self.eigenvalues[i]), ridge);
            lanes.store(lanes.mul_add(diagonal, lanes.load(&p[i]), lanes.load(&to[i])), &mut to[i]);
        }
    }

    /// M⁻¹r, for a row with `positive` interests.
    #[inline(always)]
    fn divide(&self, positive: f32, residual: &[Line; P]) -> [Line; P] {
        let ridge = self.lambda * positive;
        let mut divided = *residual;
        for (number, eigenvalue) in divided.as_flattened_mut().iter_mut().zip(self.eigenvalues.as_flattened()) {
            *number /= eigenvalue + ridge;
        }
        divided
    }

    /// How well a row's vector `x` fits.
    #[inline(always)]
    fn fit(&self, x: &[Line; P], sums: &Sums<'_, P>) -> Fit {
        let penalty = f64::from(self.lambda * *sums.positive) * f64::from(dot(self.lanes, x, x));
        Fit { objective: f64::from(*sums.objective), penalty }
    }
}

/// Completes the first pass over a row's interests: there are a residual and a direction.
#[inline(always)]
fn begin<L: Lanes, const P: usize>(matrix: Preconditioner<'_, L, P>, x: &mut [Line; P], sums: &mut Sums<'_, P>) {
    let (lanes, positive) = (matrix.lanes, *sums.positive);
    if positive == 0.0 {
        // b is zero, and so is the solution.
        *x = [[0.0; LINE]; P];
        *sums.squares = 0.0;
        return;
    }
    let mut image = [[0.0; LINE]; P];
    matrix.add_product(positive, x, &mut image);
    *sums.objective += dot(lanes, x, &image);
    *sums.residual = *sums.sum;
    add_scaled(lanes, -1.0, &image, sums.residual);
    *sums.direction = matrix.divide(positive, sums.residual);
    *sums.squares = dot(lanes, sums.residual, sums.direction);
    *sums.at_first = *sums.squares;
}

/// Completes another pass: a step in the direction, and the next direction unless it was enough.
#[inline(always)]
fn step<L: Lanes, const P: usize>(matrix: Preconditioner<'_, L, P>, x: &mut [Line; P], sums: &mut Sums<'_, P>) {
    if sums.done() {
        return;
    }
    let (lanes, positive, before) = (matrix.lanes, *sums.positive, *sums.squares);
    *sums.squares = 0.0;
    matrix.add_product(positive, sums.direction, sums.sum);
    let Some(length) = step_length(lanes, before, sums.direction, sums.sum) else { return };
    // It lowers the objective by the square of the residual, times its length.
    *sums.objective -= before * length;
    add_scaled(lanes, length, sums.direction, x);
    add_scaled(lanes, -length, sums.sum, sums.residual);
    let mut next = matrix.divide(positive, sums.residual);
    let squares = dot(lanes, sums.residual, &next);
    if squares > ENOUGH * *sums.at_first {
        add_scaled(lanes, squares / before, sums.direction, &mut next);
        *sums.direction = next;
        *sums.squares = squares;
    }
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

/// Adds up over rows' interests.
struct Collector<'a, L> {
    lanes: L,
    system: &'a System<'a>,
    window: Window<'a, L>,
}

impl<'a, L: Lanes> Collector<'a, L> {
    /// For these rows.
    #[inline(always)]
    fn new(lanes: L, system: &'a System<'a>, rows: &Range<usize>) -> Self {
        let window = Window::new(lanes, system, system.side.starts[rows.end] as usize);
        Self { lanes, system, window }
    }

    /// Adds these interests of a row to its sums: with `RESIDUAL` for b − Ax with its vector x, otherwise for Ap with the direction p; all but
    /// what M does.
    #[inline(always)]
    fn collect<const P: usize, const RESIDUAL: bool>(
        &mut self,
        interests: Range<usize>,
        long: bool,
        x: &[Line; P],
        sums: &mut Sums<'_, P>,
    ) {
        let (lanes, factors) = (self.lanes, self.system.factors.lines());
        for piece in pieces(interests) {
            let weights = self.window.weights(&piece);
            let others = &self.system.side.others[piece.start..];
            let p = if RESIDUAL { x } else { &*sums.direction };
            let (sum, error) = add_up::<L, P, RESIDUAL>(lanes, factors, others, weights, p, long);
            if RESIDUAL {
                *sums.positive += weights.positive() as f32;
                *sums.objective += error;
            }
            add_scaled(lanes, 1.0, &sum, sums.sum);
        }
    }
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
) -> ([Line; P], f32) {
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
    (lines, error)
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
