//! Sixteen numbers as an array: what the compiler makes of plain loops. The yardstick for the other kernels.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use super::lanes::Lanes;
use super::{Fit, Gram, Task, conjugate, direct, gram, scan, turn};
use crate::als::factors::{LINE, Line};

/// Plain loops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Portable {
    pub(super) fn run(self, task: Task<'_>) -> Fit {
        match task {
            Task::Gram { rows, width, sum } => gram::add(self, rows, width, sum),
            Task::Scan { blocks, vector, bar, scores, reached } => {
                scan::scan(self, blocks, vector, bar, scores, reached)
            }
            Task::Rows { system, work } => match system.gram {
                Gram::Whole(gram) => match direct::size(system.factors.rank()) {
                    // Sixteen registers of 128 bits: the first pass adds up the corner and b, the others four rows.
                    4 => direct::run::<_, 4, 4>(self, system, gram, work),
                    8 => direct::run::<_, 8, 4>(self, system, gram, work),
                    10 => direct::run::<_, 10, 4>(self, system, gram, work),
                    12 => direct::run::<_, 12, 4>(self, system, gram, work),
                    _ => direct::run::<_, 16, 4>(self, system, gram, work),
                },
                Gram::Turned(axes) => conjugate::run(self, system, axes, work),
            },
            Task::Turn { rows, width, turn } => turn::rows(self, rows, width, turn),
        }
    }
}

impl Lanes for Portable {
    type V = Line;

    #[inline(always)]
    fn splat(self, number: f32) -> Line {
        [number; LINE]
    }

    #[inline(always)]
    fn load(self, line: &Line) -> Line {
        *line
    }

    #[inline(always)]
    fn store(self, v: Line, line: &mut Line) {
        *line = v;
    }

    #[inline(always)]
    fn add(self, a: Line, b: Line) -> Line {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: Line, b: Line) -> Line {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Line, b: Line, c: Line) -> Line {
        // Not f32::mul_add: without the instruction that is a call into a library.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn mul_add_low(self, a: Line, b: Line, c: Line) -> Line {
        std::array::from_fn(|i| if i < LINE / 2 { a[i] * b[i] + c[i] } else { c[i] })
    }

    #[inline(always)]
    fn spread(self, v: Line) -> Line {
        std::array::from_fn(|i| v[i / 4])
    }

    #[inline(always)]
    fn repeat(self, v: Line) -> Line {
        std::array::from_fn(|i| v[i % 4])
    }

    #[inline(always)]
    fn store_quads(self, v: Line, quads: usize, to: &mut [f32]) {
        for (to, number) in to.iter_mut().zip(v).take(4 * quads) {
            *to = number;
        }
    }

    #[inline(always)]
    fn mul_sub_from(self, a: Line, b: Line, c: Line) -> Line {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }

    #[inline(always)]
    fn inverse_root(self, pivot: Line, limit: Line) -> Line {
        std::array::from_fn(|i| if pivot[i] > limit[i] { 1.0 / pivot[i].sqrt() } else { 0.0 })
    }

    #[inline(always)]
    fn any_at_least(self, v: Line, bar: Line) -> bool {
        v.iter().zip(&bar).any(|(number, bar)| number >= bar)
    }

    #[inline(always)]
    fn sum(self, v: Line) -> f32 {
        let eight: [f32; 8] = std::array::from_fn(|i| v[i] + v[i + 8]);
        let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}
