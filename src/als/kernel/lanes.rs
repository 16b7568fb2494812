//! Sixteen numbers at once: the few operations that the algorithms are made of.
//!
//! No closures around them: a closure that is not inlined is a function of its own, compiled without the processor's instructions, and then
//! every operation in it becomes a call.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use crate::als::factors::{LINE, Line};

/// Sixteen `f32` in the registers of some processor. A value of the type proves that the processor has the instructions.
pub(super) trait Lanes: Copy {
    /// Sixteen numbers.
    type V: Copy;

    fn splat(self, number: f32) -> Self::V;
    fn load(self, line: &Line) -> Self::V;
    fn store(self, v: Self::V, line: &mut Line);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a b + c of the first eight numbers, at half the price; the others are never read.
    fn mul_add_low(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The first four numbers, each of them four times: 0 0 0 0 1 1 1 1 2 2 2 2 3 3 3 3.
    fn spread(self, v: Self::V) -> Self::V;
    /// The first four numbers, all of them four times: 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3.
    fn repeat(self, v: Self::V) -> Self::V;
    /// Stores the first 4 `quads` numbers of `v` at the beginning of `to`; nothing if it is too short.
    fn store_quads(self, v: Self::V, quads: usize, to: &mut [f32]);
    /// c − a b
    fn mul_sub_from(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 1 / √pivot where the pivot is above the limit, 0 elsewhere (also where it is not a number). No limit is negative.
    fn inverse_root(self, pivot: Self::V, limit: Self::V) -> Self::V;
    /// Whether any number of `v` is at least its counterpart in `bar`.
    fn any_at_least(self, v: Self::V, bar: Self::V) -> bool;
    /// The sum of all sixteen, always added in the same order.
    fn sum(self, v: Self::V) -> f32;

    /// Asks for the cache line that holds item number `at`, which will be read soon. The number may be out of range.
    #[inline(always)]
    fn prefetch<T>(self, items: &[T], at: usize) {
        let _ = (items, at);
    }

    /// The sums of four vectors.
    #[inline(always)]
    fn sums(self, v: [Self::V; 4]) -> [f32; 4] {
        [self.sum(v[0]), self.sum(v[1]), self.sum(v[2]), self.sum(v[3])]
    }

    /// Number j of line i becomes number i of vector j.
    #[inline(always)]
    fn transpose(self, lines: [&Line; LINE]) -> [Self::V; LINE] {
        let mut turned = [[0.0; LINE]; LINE];
        for (i, line) in lines.into_iter().enumerate() {
            for (j, &number) in line.iter().enumerate() {
                turned[j][i] = number;
            }
        }
        let mut v = [self.splat(0.0); LINE];
        for (v, line) in v.iter_mut().zip(&turned) {
            *v = self.load(line);
        }
        v
    }
}
