//! Sixteen numbers in two 256-bit registers.

#![allow(unsafe_code)] // Vector instructions; each use says why the processor has them.
#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

#[allow(clippy::wildcard_imports, reason = "the instructions' names are their documentation")]
use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::{Fit, Gram, Task, conjugate, direct, gram, scan, turn};
use crate::als::factors::Line;

/// Proof that the processor has AVX2 and FMA; only [`Avx2::new`] makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, where it holds.
    #[inline]
    pub(super) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    pub(super) fn run(self, task: Task<'_>) -> Fit {
        // SAFETY: `self` exists only where AVX2 and FMA were found.
        unsafe { run(self, task) }
    }
}

/// The algorithms compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
fn run(lanes: Avx2, task: Task<'_>) -> Fit {
    match task {
        Task::Gram { rows, width, sum } => gram::add(lanes, rows, width, sum),
        Task::Scan { blocks, vector, bar, scores, reached } => scan::scan(lanes, blocks, vector, bar, scores, reached),
        Task::Rows { system, work } => match system.gram {
            Gram::Whole(gram) => match direct::size(system.factors.rank()) {
                // What is added up in one pass takes at most twelve of the sixteen registers.
                4 => direct::run::<_, 4, 4>(lanes, system, gram, work),
                8 => direct::run::<_, 8, 8>(lanes, system, gram, work),
                10 => direct::run::<_, 10, 6>(lanes, system, gram, work),
                12 => direct::run::<_, 12, 8>(lanes, system, gram, work),
                _ => direct::run::<_, 16, 6>(lanes, system, gram, work),
            },
            Gram::Turned(axes) => conjugate::run(lanes, system, axes, work),
        },
        Task::Turn { rows, width, turn } => turn::rows(lanes, rows, width, turn),
    }
}

/// Eight numbers of the lower half, eight of the upper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair(__m256, __m256);

// SAFETY of every block below: `self` exists only where AVX2 and FMA were found, and loads and stores touch exactly one `Line`.
impl Lanes for Avx2 {
    type V = Pair;

    #[inline(always)]
    fn splat(self, number: f32) -> Pair {
        // SAFETY: AVX2 is there.
        let v = unsafe { _mm256_set1_ps(number) };
        Pair(v, v)
    }

    #[inline(always)]
    fn load(self, line: &Line) -> Pair {
        let halves = line.as_chunks::<8>().0;
        // SAFETY: AVX2 is there; each half is 32 bytes, and this load asks for no alignment.
        unsafe { Pair(_mm256_loadu_ps(halves[0].as_ptr()), _mm256_loadu_ps(halves[1].as_ptr())) }
    }

    #[inline(always)]
    fn store(self, v: Pair, line: &mut Line) {
        let halves = line.as_chunks_mut::<8>().0;
        // SAFETY: AVX2 is there; each half is 32 bytes, and this store asks for no alignment.
        unsafe {
            _mm256_storeu_ps(halves[0].as_mut_ptr(), v.0);
            _mm256_storeu_ps(halves[1].as_mut_ptr(), v.1);
        }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: AVX2 is there.
        unsafe { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: AVX2 is there.
        unsafe { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: AVX2 and FMA are there.
        unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    fn mul_add_low(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: FMA is there.
        unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), c.1) }
    }

    #[inline(always)]
    fn spread(self, v: Pair) -> Pair {
        // SAFETY: AVX2 is there.
        unsafe {
            Pair(
                _mm256_permutevar8x32_ps(v.0, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1)),
                _mm256_permutevar8x32_ps(v.0, _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3)),
            )
        }
    }

    #[inline(always)]
    fn repeat(self, v: Pair) -> Pair {
        // SAFETY: AVX2 is there, and with it AVX.
        let v = unsafe { _mm256_permute2f128_ps::<0>(v.0, v.0) };
        Pair(v, v)
    }

    #[inline(always)]
    fn store_quads(self, v: Pair, quads: usize, to: &mut [f32]) {
        // SAFETY: AVX2 is there, and with it AVX; `to` was found to be as long as what is stored, and these stores ask for no alignment.
        unsafe {
            match quads {
                1 if to.len() >= 4 => _mm_storeu_ps(to.as_mut_ptr(), _mm256_castps256_ps128(v.0)),
                2 if to.len() >= 8 => _mm256_storeu_ps(to.as_mut_ptr(), v.0),
                3 if to.len() >= 12 => {
                    _mm256_storeu_ps(to.as_mut_ptr(), v.0);
                    _mm_storeu_ps(to.as_mut_ptr().add(8), _mm256_castps256_ps128(v.1));
                }
                4 if to.len() >= 16 => {
                    _mm256_storeu_ps(to.as_mut_ptr(), v.0);
                    _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
                }
                _ => {}
            }
        }
    }

    #[inline(always)]
    fn mul_sub_from(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: AVX2 and FMA are there.
        unsafe { Pair(_mm256_fnmadd_ps(a.0, b.0, c.0), _mm256_fnmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    fn inverse_root(self, pivot: Pair, limit: Pair) -> Pair {
        // SAFETY: AVX2 is there. (Where the pivot is no good the quotient may be NaN; its bits are masked away.)
        unsafe {
            let one = _mm256_set1_ps(1.0);
            let low = _mm256_div_ps(one, _mm256_sqrt_ps(pivot.0));
            let high = _mm256_div_ps(one, _mm256_sqrt_ps(pivot.1));
            Pair(
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(pivot.0, limit.0), low),
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(pivot.1, limit.1), high),
            )
        }
    }

    #[inline(always)]
    fn any_at_least(self, v: Pair, bar: Pair) -> bool {
        // SAFETY: AVX2 is there, and with it AVX.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_GE_OQ>(v.0, bar.0);
            let high = _mm256_cmp_ps::<_CMP_GE_OQ>(v.1, bar.1);
            _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0
        }
    }

    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        // SAFETY: AVX2 is there (which includes SSE3).
        unsafe {
            let eight = _mm256_add_ps(v.0, v.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn sums(self, v: [Pair; 4]) -> [f32; 4] {
        // SAFETY: AVX2 is there.
        unsafe {
            let first = _mm256_hadd_ps(_mm256_add_ps(v[0].0, v[0].1), _mm256_add_ps(v[1].0, v[1].1));
            let second = _mm256_hadd_ps(_mm256_add_ps(v[2].0, v[2].1), _mm256_add_ps(v[3].0, v[3].1));
            let eight = _mm256_hadd_ps(first, second);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), four);
            sums
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, items: &[T], at: usize) {
        // SAFETY: a prefetch never faults, whatever the address; the address is only computed, by wrapping arithmetic.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(items.as_ptr().wrapping_add(at).cast()) }
    }
}
