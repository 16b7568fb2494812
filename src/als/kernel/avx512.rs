//! Sixteen numbers in one 512-bit register.

#![allow(unsafe_code)] // Vector instructions; each use says why the processor has them.
#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

#[allow(clippy::wildcard_imports, reason = "the instructions' names are their documentation")]
use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::{Fit, Gram, Task, conjugate, direct, gram, scan, turn};
use crate::als::factors::{LINE, Line};

/// Proof that the processor has AVX-512F; only [`Avx512::new`] makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where it holds.
    #[inline]
    pub(super) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")).then_some(Self(()))
    }

    pub(super) fn run(self, task: Task<'_>) -> Fit {
        // SAFETY: `self` exists only where AVX-512F was found.
        unsafe { run(self, task) }
    }
}

/// The algorithms compiled for AVX-512F.
#[target_feature(enable = "avx512f,avx512vl")]
fn run(lanes: Avx512, task: Task<'_>) -> Fit {
    match task {
        Task::Gram { rows, width, sum } => gram::add(lanes, rows, width, sum),
        Task::Scan { blocks, vector, bar, scores, reached } => scan::scan(lanes, blocks, vector, bar, scores, reached),
        Task::Rows { system, work } => match system.gram {
            Gram::Whole(gram) => match direct::size(system.factors.rank()) {
                4 => direct::run::<_, 4, 4>(lanes, system, gram, work),
                8 => direct::run::<_, 8, 8>(lanes, system, gram, work),
                10 => direct::run::<_, 10, 10>(lanes, system, gram, work),
                12 => direct::run::<_, 12, 12>(lanes, system, gram, work),
                _ => direct::run::<_, 16, 16>(lanes, system, gram, work),
            },
            Gram::Turned(axes) => conjugate::run(lanes, system, axes, work),
        },
        Task::Turn { rows, width, turn } => turn::rows(lanes, rows, width, turn),
    }
}

// SAFETY of every block below: `self` exists only where AVX-512F was found, and loads and stores touch exactly one `Line`.
impl Lanes for Avx512 {
    type V = __m512;

    #[inline(always)]
    fn splat(self, number: f32) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    fn load(self, line: &Line) -> __m512 {
        // SAFETY: AVX-512F is there; a line is 64 bytes, and this load asks for no alignment.
        unsafe { _mm512_loadu_ps(line.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, line: &mut Line) {
        // SAFETY: AVX-512F is there; a line is 64 bytes, and this store asks for no alignment.
        unsafe { _mm512_storeu_ps(line.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn mul_add_low(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512F is there, and with it FMA.
        unsafe {
            let low = _mm256_fmadd_ps(_mm512_castps512_ps256(a), _mm512_castps512_ps256(b), _mm512_castps512_ps256(c));
            _mm512_zextps256_ps512(low)
        }
    }

    #[inline(always)]
    fn spread(self, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), v) }
    }

    #[inline(always)]
    fn repeat(self, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_shuffle_f32x4::<0>(v, v) }
    }

    #[inline(always)]
    fn store_quads(self, v: __m512, quads: usize, to: &mut [f32]) {
        // SAFETY: AVX-512F is there; `to` was found to be as long as what is stored, and these stores ask for no alignment.
        unsafe {
            match quads {
                1 if to.len() >= 4 => _mm_storeu_ps(to.as_mut_ptr(), _mm512_castps512_ps128(v)),
                2 if to.len() >= 8 => _mm256_storeu_ps(to.as_mut_ptr(), _mm512_castps512_ps256(v)),
                3 if to.len() >= 12 => {
                    _mm256_storeu_ps(to.as_mut_ptr(), _mm512_castps512_ps256(v));
                    _mm_storeu_ps(to.as_mut_ptr().add(8), _mm512_extractf32x4_ps::<2>(v));
                }
                4 if to.len() >= 16 => _mm512_storeu_ps(to.as_mut_ptr(), v),
                _ => {}
            }
        }
    }

    #[inline(always)]
    fn mul_sub_from(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn inverse_root(self, pivot: __m512, limit: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe {
            // Finite ones only: the step below would make NaN of infinity.
            let good = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(pivot, limit)
                & _mm512_cmp_ps_mask::<_CMP_LE_OQ>(pivot, _mm512_set1_ps(f32::MAX));
            // 14 bits of the root, and Newton's step to all of them: y (3 - pivot y²) / 2, sooner there than by a root and a division.
            let y = _mm512_rsqrt14_ps(pivot);
            let half = _mm512_mul_ps(_mm512_set1_ps(0.5), y);
            let error = _mm512_fnmadd_ps(_mm512_mul_ps(pivot, y), y, _mm512_set1_ps(1.0));
            _mm512_maskz_mov_ps(good, _mm512_fmadd_ps(half, error, y))
        }
    }

    #[inline(always)]
    fn any_at_least(self, v: __m512, bar: __m512) -> bool {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, bar) != 0 }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    #[inline(always)]
    fn prefetch<T>(self, items: &[T], at: usize) {
        // SAFETY: a prefetch never faults, whatever the address; the address is only computed, by wrapping arithmetic.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(items.as_ptr().wrapping_add(at).cast()) }
    }

    #[inline(always)]
    fn sums(self, v: [__m512; 4]) -> [f32; 4] {
        // SAFETY: AVX-512F is there (which includes AVX and SSE).
        unsafe {
            // Interleave and add until each 128-bit lane holds a partial sum of each of the four, then add the lanes.
            let low = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
            let high = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
            let both = _mm512_add_ps(
                _mm512_shuffle_ps::<0b01_00_01_00>(low, high),
                _mm512_shuffle_ps::<0b11_10_11_10>(low, high),
            );
            let half = _mm256_add_ps(
                _mm512_castps512_ps256(both),
                _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(both))),
            );
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), quarter);
            sums
        }
    }

    #[inline(always)]
    fn transpose(self, lines: [&Line; LINE]) -> [__m512; LINE] {
        // SAFETY: AVX-512F is there.
        unsafe {
            // Within 128-bit lanes: quads[4 g + c] holds columns c, c + 4, c + 8, c + 12 of lines 4 g to 4 g + 3.
            let mut quads = [_mm512_setzero_ps(); LINE];
            for g in 0..4 {
                let v = [
                    self.load(lines[4 * g]),
                    self.load(lines[4 * g + 1]),
                    self.load(lines[4 * g + 2]),
                    self.load(lines[4 * g + 3]),
                ];
                let (low01, high01) = (_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
                let (low23, high23) = (_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
                quads[4 * g] = _mm512_shuffle_ps::<0b01_00_01_00>(low01, low23);
                quads[4 * g + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(low01, low23);
                quads[4 * g + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(high01, high23);
                quads[4 * g + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(high01, high23);
            }
            // Across lanes: even (columns c, c + 8) and odd (c + 4, c + 12) lanes of all four groups.
            let mut turned = [_mm512_setzero_ps(); LINE];
            for c in 0..4 {
                let even01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(quads[c], quads[4 + c]);
                let even23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(quads[8 + c], quads[12 + c]);
                let odd01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(quads[c], quads[4 + c]);
                let odd23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(quads[8 + c], quads[12 + c]);
                turned[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even01, even23);
                turned[c + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even01, even23);
                turned[c + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd01, odd23);
                turned[c + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd01, odd23);
            }
            turned
        }
    }
}
