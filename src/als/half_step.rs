//! Half an iteration: all rows of one side solved against the other side's vectors, on all threads of a pool.
//!
//! Work is cut by interests, not by rows, at places that depend on the data alone; each piece is computed in the same way whoever does it,
//! and sums are put together in order. So the same data gives the same bits on one thread and on many.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::factors::{Factors, LINE, Line};
use super::kernel::{Axes, Fit, Gram, Kernel, System, Task, Work, passes, sums_lines};

/// About how many interests one thread takes at a time: tens of microseconds of work. Less than that is not worth waking a thread for.
const CHUNK: u64 = 8192;
/// The fewest rows of a factor matrix that are worth a task of their own when VᵀV is added up.
const GRAM_ROWS: usize = 4096;
/// The most such tasks: each brings a matrix to add up.
const GRAM_TASKS: usize = 64;
/// How many rows of a factor matrix one thread turns at a time.
const TURN_ROWS: usize = 1024;

/// Who computes, with which instructions, and until when.
#[derive(Clone, Copy)]
pub(super) struct Workers<'a> {
    pub kernel: Kernel,
    pub pool: &'a ThreadPool,
    pub cancel: &'a AtomicBool,
}

/// Some rows of a system and their place in the result.
struct Chunk<'a> {
    system: &'a System<'a>,
    rows: Range<usize>,
    out: &'a mut [Line],
}

/// Some cells of a block, and what is kept of their rows.
struct Cells<'a> {
    system: &'a System<'a>,
    rows: Range<usize>,
    vectors: &'a [Line],
    sums: &'a mut [Line],
}

/// The part of a half-step that one system stands for: its first rows, as many as `rows`, and among them long ones, whose interests are in
/// cells at the system's end.
pub(super) struct Region<'a> {
    pub system: System<'a>,
    /// The rows' places in the result.
    pub rows: Range<usize>,
    /// The places of the long ones.
    pub long: &'a [u32],
    /// Their cells, block by block.
    pub blocks: Vec<Range<usize>>,
}

/// What is kept of long rows within a half-step; from one to the next only the memory.
#[derive(Default)]
pub(super) struct Kept {
    sums: Vec<Line>,
    vectors: Vec<Line>,
}

impl Workers<'_> {
    /// Solves the rows of all `regions`; `out` holds their vectors of the iteration before, or zeros. Stops early when cancelled.
    pub(super) fn solve(&self, regions: &[Region<'_>], kept: &mut Kept, out: &mut Factors) -> Fit {
        let width = out.stride() / LINE;
        // First those with cells, because the other way overwrites their vectors, which they start from.
        let (fit, vectors) = self.solve_long(regions, kept, out);
        let mut chunks = Vec::new();
        let mut rest = out.lines_mut();
        for region in regions {
            let (own, others) = rest.split_at_mut(region.rows.len() * width);
            rest = others;
            let pieces = cut(region.system.side.starts, 0..region.rows.len(), CHUNK);
            chunks.extend(with_lines(pieces, own, width).map(|(rows, out)| Chunk {
                system: &region.system,
                rows,
                out,
            }));
        }
        let mut sum = fit;
        let fits = self.map(chunks, |Chunk { system, rows, out }| {
            self.kernel.run(Task::Rows { system, work: Work::Solve { rows, out } })
        });
        fits.into_iter().for_each(|fit| sum += fit);
        for (&row, vector) in regions.iter().flat_map(|region| region.long).zip(vectors.chunks(width)) {
            out.lines_mut()[row as usize * width..][..width].copy_from_slice(vector);
        }
        sum
    }

    /// Solves the long rows of all `regions`, and gives their vectors, one after another.
    fn solve_long<'k>(&self, regions: &[Region<'_>], kept: &'k mut Kept, out: &Factors) -> (Fit, &'k [Line]) {
        let (rank, width, height) = (out.rank(), out.stride() / LINE, sums_lines(out.rank()));
        let long = regions.iter().map(|region| region.long.len()).sum::<usize>();
        let mut fit = Fit::default();
        let Kept { sums, vectors } = kept;
        // Sixteen rows are completed at a time.
        sums.resize(long.next_multiple_of(LINE) * height, [0.0; LINE]);
        vectors.clear();
        for &row in regions.iter().flat_map(|region| region.long) {
            vectors.extend_from_slice(&out.lines()[row as usize * width..][..width]);
        }
        if let Some(Region { system: System { gram: Gram::Turned(axes), .. }, .. }) = regions.first() {
            self.turn(vectors, axes);
        }
        let blocks = regions.iter().map(|region| region.blocks.len()).max().unwrap_or(0);
        for pass in 0..passes(rank) {
            for block in 0..blocks {
                let cells = cells(regions, block, vectors, sums, width, height);
                self.map(cells, |Cells { system, rows, vectors, sums }| {
                    let work = Work::Collect { pass, rows, first: block == 0, vectors, sums };
                    self.kernel.run(Task::Rows { system, work })
                });
            }
            let batches = vectors.chunks_mut(LINE * width).zip(sums.chunks_mut(LINE * height)).collect();
            let fits = self.map(batches, |(vectors, sums)| {
                // Which of the systems does not matter now: they differ only in where interests are.
                let work = Work::Complete { pass, sums, vectors };
                self.kernel.run(Task::Rows { system: &regions[0].system, work })
            });
            fits.into_iter().for_each(|part| fit += part);
        }
        (fit, vectors)
    }

    /// Turns `rows`, vectors of the side whose systems have these axes.
    pub(super) fn turn(&self, rows: &mut [Line], axes: &Axes) {
        let width = axes.eigenvalues.len();
        self.map(rows.chunks_mut(TURN_ROWS * width).collect(), |rows| {
            self.kernel.run(Task::Turn { rows, width, turn: &axes.turn })
        });
    }

    /// VᵀV over all rows, stride × stride, zero in the padding.
    pub(super) fn gram(&self, factors: &Factors) -> Vec<f64> {
        let stride = factors.stride();
        let width = stride / LINE;
        let rows = factors.rows().div_ceil(GRAM_TASKS).max(GRAM_ROWS);
        let blocks: Vec<&[Line]> = factors.lines().chunks((rows * width).max(1)).collect();
        let sums = self.map(blocks, |block| {
            let mut sum = vec![0.0; stride * stride];
            self.kernel.run(Task::Gram { rows: block, width, sum: &mut sum });
            sum
        });
        let mut gram = vec![0.0; stride * stride];
        for sum in sums {
            for (total, part) in gram.iter_mut().zip(sum) {
                *total += part;
            }
        }
        for row in 0..stride {
            for column in 0..row {
                gram[column * stride + row] = gram[row * stride + column];
            }
        }
        gram
    }

    /// Whether somebody asked to stop.
    pub(super) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Does all tasks, here if there is only one; results in the order of the tasks. Once cancelled, the rest is left out.
    fn map<T: Send, R: Send + Default>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let unless_cancelled = |task| if self.cancelled() { R::default() } else { work(task) };
        if tasks.len() <= 1 {
            tasks.into_iter().map(unless_cancelled).collect()
        } else {
            self.pool.install(|| tasks.into_par_iter().map(unless_cancelled).collect())
        }
    }
}

/// Cuts `rows` into chunks: each takes the rows that start among the next `size` interests.
fn cut(starts: &[u64], rows: Range<usize>, size: u64) -> Vec<Range<usize>> {
    let (begin, interests) = (starts[rows.start], starts[rows.end] - starts[rows.start]);
    let mut chunks = Vec::with_capacity((interests / size) as usize + 1);
    let mut first = rows.start;
    for chunk in 1..=interests / size + 1 {
        let end = first + starts[first..rows.end].partition_point(|&start| start - begin < chunk * size);
        if first < end {
            chunks.push(first..end);
        }
        first = end;
    }
    chunks
}

/// Each of the chunks with its lines, of which a row has `height`.
fn with_lines(
    chunks: Vec<Range<usize>>,
    mut lines: &mut [Line],
    height: usize,
) -> impl Iterator<Item = (Range<usize>, &mut [Line])> {
    chunks.into_iter().map(move |rows| {
        let (own, rest) = std::mem::take(&mut lines).split_at_mut(rows.len() * height);
        lines = rest;
        (rows, own)
    })
}

/// The cells of one block, in chunks, with the vectors (`width` lines each) and sums (`height` lines) of their rows.
fn cells<'a>(
    regions: &'a [Region<'_>],
    block: usize,
    mut vectors: &'a [Line],
    mut sums: &'a mut [Line],
    width: usize,
    height: usize,
) -> Vec<Cells<'a>> {
    let mut all = Vec::new();
    for region in regions {
        let Some(cells) = region.blocks.get(block) else { continue };
        let (own, rest) = std::mem::take(&mut sums).split_at_mut(cells.len() * height);
        sums = rest;
        for (rows, sums) in with_lines(cut(region.system.side.starts, cells.clone(), CHUNK), own, height) {
            let (own, rest) = vectors.split_at(rows.len() * width);
            vectors = rest;
            all.push(Cells { system: &region.system, rows, vectors: own, sums });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_hold_every_row_once_and_few_interests(
            // Behind four billion interests too.
            first in prop::sample::select(vec![0u64, (1 << 32) - 9, 1 << 40]),
            lengths in prop::collection::vec(0u64..20_000, 0..50),
        ) {
            let mut starts = vec![first];
            for length in &lengths {
                starts.push(starts[starts.len() - 1] + length);
            }
            let mut next = 0;
            for rows in cut(&starts, 0..lengths.len(), CHUNK) {
                prop_assert_eq!(rows.start, next);
                prop_assert!(starts[rows.end - 1] - starts[rows.start] < CHUNK);
                next = rows.end;
            }
            prop_assert_eq!(next, lengths.len());
        }
    }
}
