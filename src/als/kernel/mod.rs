//! The inner loops of training: many rows solved at once, with the widest vectors the processor has.
//!
//! Each algorithm is written once, in safe code over [`lanes::Lanes`]: [`direct`] for ranks up to 16, [`conjugate`] above, [`gram`] for the
//! sum over all rows, [`turn`] for coordinates in which that sum is diagonal, [`scan`] for the reader's side, [`window`] for what interests
//! weigh. [`avx512`], [`avx2`] and [`portable`] say how sixteen numbers are added and multiplied, and compile the algorithms for their
//! processor; only they are unsafe. Which one runs is decided at run time.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod conjugate;
mod direct;
mod gram;
mod lanes;
mod portable;
mod scan;
mod turn;
mod window;

#[cfg(test)]
mod tests;

use std::ops::{AddAssign, Range};

use super::Settings;
use super::factors::{Factors, LINE, Line};
use crate::interests::Weights;
use crate::interests::base::{Base, PackedCounts};

/// The largest rank that [`direct`] solves; above, [`conjugate`] is faster to the same loss.
pub const LARGEST_DIRECT_RANK: usize = LINE;

/// The most blocks of products that are scored at a time.
pub(crate) const MOST_BLOCKS: usize = 32;

/// Vector instructions to train with. They differ in speed, and in the last bits of the result because sums are rounded differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// 512 bits at a time (x86-64 with AVX-512F).
    Avx512,
    /// 256 bits at a time (x86-64 with AVX2 and FMA).
    Avx2,
    /// Plain loops, for any processor.
    Portable,
}

impl Kernel {
    /// The fastest kernel this processor can run.
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// All kernels this processor can run, fastest first. Asking for another one gets the portable one.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Avx512, Self::Avx2, Self::Portable].into_iter().filter(|kernel| match kernel {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        })
    }

    /// Scores up to [`MOST_BLOCKS`] blocks of sixteen products for `vector`, one line of scores a block into `scores`; bit k of the result tells
    /// whether any score of block k is at least `bar`. A block has a line for each dimension of the vector, a lane for each product.
    pub(crate) fn scan(self, blocks: &[Line], vector: &[f32], bar: f32, scores: &mut [Line; MOST_BLOCKS]) -> u32 {
        let mut reached = 0;
        let blocks = &blocks[..blocks.len().min(MOST_BLOCKS * vector.len())];
        self.run(Task::Scan { blocks, vector, bar, scores, reached: &mut reached });
        reached
    }

    /// Does `task` with these instructions.
    pub(super) fn run(self, task: Task<'_>) -> Fit {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512 => {
                if let Some(lanes) = avx512::Avx512::new() {
                    return lanes.run(task);
                }
            }
            Self::Avx2 => {
                if let Some(lanes) = avx2::Avx2::new() {
                    return lanes.run(task);
                }
            }
            Self::Portable => {}
        }
        portable::Portable.run(task)
    }
}

/// One side of the interests: rows by user, or columns by product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    /// Where each row starts in the two columns below; one entry more than there are rows.
    pub starts: &'a [u64],
    /// The other side's row of each interest.
    pub others: &'a [u32],
    /// The counts of each interest, packed by `base`.
    pub counts: &'a [PackedCounts],
    pub base: &'a Base,
}

impl Side<'_> {
    /// Where the interests of a row are.
    #[inline]
    fn interests(&self, row: usize) -> Range<usize> {
        self.starts[row] as usize..self.starts[row + 1] as usize
    }
}

/// The least-squares problems of one half-step: a row's vector x minimises
/// `Σ_all (x·v)² + Σ_interests [c (1 − x·v)² − (x·v)²] + λ n |x|²` over the other side's vectors v (Hu, Koren, Volinsky 2008, equation 3,
/// with MLlib's scaling of λ by the number n of the row's interests).
#[derive(Debug, Clone, Copy)]
pub(super) struct System<'a> {
    pub side: Side<'a>,
    /// The other side's vectors v.
    pub factors: &'a Factors,
    pub gram: &'a Gram,
    pub lambda: f32,
    pub alpha: f32,
    pub weights: Weights,
}

impl<'a> System<'a> {
    /// The problems of `side` against the other side's `factors`, whose VᵀV is `gram`.
    pub(super) fn new(side: Side<'a>, factors: &'a Factors, gram: &'a Gram, settings: &Settings) -> Self {
        let Settings { lambda, alpha, weights, .. } = *settings;
        Self { side, factors, gram, lambda, alpha, weights }
    }
}

/// VᵀV over all vectors of a side, as the other side's systems need it.
#[derive(Debug)]
pub(super) enum Gram {
    /// For [`direct`]: stride × stride, with ones on the diagonal of the padding so that it never makes a system singular.
    Whole(Vec<f32>),
    /// For [`conjugate`]: the vectors have been turned so that it is diagonal.
    Turned(Axes),
}

/// The eigenvectors of some VᵀV, onto which the vectors have been turned.
#[derive(Debug)]
pub(super) struct Axes {
    /// The eigenvalues, VᵀV's diagonal now; ones in the padding.
    pub eigenvalues: Vec<Line>,
    /// The eigenvectors as columns, stride × stride: a row of the other side's vectors times this is what it is in the new coordinates.
    pub turn: Vec<Line>,
}

/// What a kernel can be asked to do.
pub(super) enum Task<'a> {
    /// Solve rows of a system.
    Rows { system: &'a System<'a>, work: Work<'a> },
    /// Add VᵀV of `rows` (`width` lines each) to the lower triangle of `sum`, (16 width)² numbers.
    Gram { rows: &'a [Line], width: usize, sum: &'a mut [f64] },
    /// Multiply each of `rows` (`width` lines each, at least 2) by a matrix of as many numbers squared, [`Axes::turn`].
    Turn { rows: &'a mut [Line], width: usize, turn: &'a [Line] },
    /// Score products for a reader, as [`Kernel::scan`] says; no more blocks than `scores` has lines.
    Scan { blocks: &'a [Line], vector: &'a [f32], bar: f32, scores: &'a mut [Line], reached: &'a mut u32 },
}

/// How rows of a system are solved: in one go, or, long ones, bit by bit: for each pass every cell is collected, one block after another, and
/// then the pass is completed. Of a long row there are [`sums_lines`] lines of sums.
pub(super) enum Work<'a> {
    /// Solve `rows`, writing their vectors to `out` (which holds the vectors of the iteration before).
    Solve { rows: Range<usize>, out: &'a mut [Line] },
    /// Add up the cells `rows` in pass number `pass`, for long rows whose vectors are so far `vectors`: after what is in `sums` already, or
    /// as the `first` of their rows.
    Collect { pass: usize, rows: Range<usize>, first: bool, vectors: &'a [Line], sums: &'a mut [Line] },
    /// Complete pass number `pass` for sixteen rows, or less, whose vectors are `vectors`; `sums` has room for sixteen.
    Complete { pass: usize, sums: &'a mut [Line], vectors: &'a mut [Line] },
}

/// How many passes over its interests a long row needs.
pub(super) fn passes(rank: usize) -> usize {
    if rank <= LARGEST_DIRECT_RANK { 1 } else { conjugate::PASSES }
}

/// How many lines of sums a long row needs.
pub(super) fn sums_lines(rank: usize) -> usize {
    if rank <= LARGEST_DIRECT_RANK { direct::lines(direct::size(rank)) } else { conjugate::lines(rank) }
}

/// How well solved rows fit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Fit {
    /// What the rows leave of the function they minimise.
    pub objective: f64,
    /// The part of it that is λ n |x|².
    pub penalty: f64,
}

impl AddAssign for Fit {
    fn add_assign(&mut self, other: Self) {
        self.objective += other.objective;
        self.penalty += other.penalty;
    }
}
