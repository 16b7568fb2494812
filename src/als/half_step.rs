//! Half an iteration: all rows of one side solved against the other side's vectors, on all threads of a pool.
//!
//! Work is cut by interests, not by rows, at places that depend on the data alone; each piece is computed in the same way whoever does it,
//! and sums are put together in order. So the same data gives the same bits on one thread and on many.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::factors::{Factors, LINE, Line};
use super::kernel::{Fit, Kernel, Side, System, Task};

/// About how many interests one thread takes at a time: tens of microseconds of work. Less than that is not worth waking a thread for.
const CHUNK: u64 = 8192;
/// The fewest rows of a factor matrix that are worth a task of their own when VᵀV is added up.
const GRAM_ROWS: usize = 4096;
/// The most such tasks: each brings a matrix to add up.
const GRAM_TASKS: usize = 64;

/// Who computes, with which instructions, and until when.
#[derive(Clone, Copy)]
pub(super) struct Workers<'a> {
    pub kernel: Kernel,
    pub pool: &'a ThreadPool,
    pub cancel: &'a AtomicBool,
}

/// The rows of one chunk and their place in the result.
struct Chunk<'a> {
    rows: Range<usize>,
    out: &'a mut [Line],
}

impl Workers<'_> {
    /// Solves all rows of `system`; `out` holds their vectors of the iteration before, or zeros. Stops early when cancelled.
    pub(super) fn solve(&self, system: &System<'_>, out: &mut Factors) -> Fit {
        let fits = self.map(chunks(&system.side, out), |chunk| {
            self.kernel.run(Task::Solve { system, rows: chunk.rows, out: chunk.out })
        });
        let mut sum = Fit::default();
        fits.into_iter().for_each(|fit| sum += fit);
        sum
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

/// Cuts all rows into chunks: chunk k takes the rows that start among its [`CHUNK`] interests.
fn chunks<'a>(side: &Side<'_>, out: &'a mut Factors) -> Vec<Chunk<'a>> {
    let (rows, width) = (out.rows(), out.stride() / LINE);
    let interests = side.starts[rows];
    let mut rest = out.lines_mut();
    let mut chunks = Vec::with_capacity((interests / CHUNK) as usize + 1);
    let mut first = 0;
    for chunk in 0..=interests / CHUNK {
        let end = first + side.starts[first..rows].partition_point(|&start| start < (chunk + 1) * CHUNK);
        let own;
        (own, rest) = rest.split_at_mut((end - first) * width);
        if first < end {
            chunks.push(Chunk { rows: first..end, out: own });
        }
        first = end;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interests::base::Base;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_hold_every_row_once_and_few_interests(lengths in prop::collection::vec(0u64..20_000, 0..50)) {
            let mut starts = vec![0];
            for length in &lengths {
                starts.push(starts[starts.len() - 1] + length);
            }
            let base = Base::default();
            let side = Side { starts: &starts, others: &[], counts: &[], base: &base };
            let mut out = Factors::zeros(lengths.len(), 20);
            let mut next = 0;
            for chunk in chunks(&side, &mut out) {
                prop_assert_eq!(chunk.rows.start, next);
                prop_assert_eq!(chunk.out.len(), chunk.rows.len() * 2);
                prop_assert!(starts[chunk.rows.end - 1] - starts[chunk.rows.start] < CHUNK);
                next = chunk.rows.end;
            }
            prop_assert_eq!(next, lengths.len());
        }
    }
}
