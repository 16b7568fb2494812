//! What each interest weighs, worked out some hundreds at a time: faster than one by one, and still in the nearest cache when it is used.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use std::ops::Range;

use super::System;
use super::lanes::Lanes;
use crate::als::factors::LINE;

/// How many interests are unpacked at once, and added up in `f32` before a sum is put away: with millions of interests in a row, one running
/// sum would lose the small ones.
pub(super) const WINDOW: usize = 1024;

/// The weights of a run of interests.
pub(super) struct Window<'a, L> {
    lanes: L,
    system: &'a System<'a>,
    /// Which interests are unpacked.
    range: Range<usize>,
    /// Up to which interest it is worth unpacking ahead.
    end: usize,
    /// αr: how much more an interest counts than none.
    extra: [f32; WINDOW],
    /// 1 + αr where r > 0, else 0: confidence times preference.
    target: [f32; WINDOW],
    /// Whether all of them have r > 0, as is usual.
    all_positive: bool,
}

/// Weights of one piece of a row: for each interest αr, and 1 + αr where r > 0.
#[derive(Clone, Copy)]
pub(super) struct Piece<'w> {
    pub extra: &'w [f32],
    pub target: &'w [f32],
    all_positive: bool,
}

impl Piece<'_> {
    /// How many of the interests have r > 0.
    #[inline(always)]
    pub(super) fn positive(&self) -> u32 {
        if self.all_positive {
            self.target.len() as u32
        } else {
            self.target.iter().map(|&target| u32::from(target > 0.0)).sum()
        }
    }
}

impl<'a, L: Lanes> Window<'a, L> {
    /// A window for rows whose last interest is before `end`.
    pub(super) fn new(lanes: L, system: &'a System<'a>, end: usize) -> Self {
        Self { lanes, system, range: 0..0, end, extra: [0.0; WINDOW], target: [0.0; WINDOW], all_positive: false }
    }

    /// The weights of the interests of `piece`, at most [`WINDOW`] of them.
    #[inline(always)]
    pub(super) fn weights(&mut self, piece: &Range<usize>) -> Piece<'_> {
        if piece.start < self.range.start || piece.end > self.range.end {
            self.unpack(piece.start);
        }
        let at = piece.start - self.range.start..piece.end - self.range.start;
        Piece { extra: &self.extra[at.clone()], target: &self.target[at], all_positive: self.all_positive }
    }

    #[inline(always)]
    fn unpack(&mut self, from: usize) {
        self.range = from..(from + WINDOW).min(self.end);
        let System { side, alpha, weights, .. } = *self.system;
        let length = self.range.len();
        // The next window's counts arrive while this one's are used.
        for ahead in (self.range.end..self.range.end + WINDOW).step_by(LINE) {
            self.lanes.prefetch(side.counts, ahead);
        }
        side.base.ratings(&side.counts[self.range.clone()], weights, &mut self.extra[..length]);
        let mut not_positive = 0;
        for (extra, target) in self.extra[..length].iter_mut().zip(&mut self.target) {
            let (positive, scaled) = (*extra > 0.0, alpha * *extra);
            *target = if positive { 1.0 + scaled } else { 0.0 };
            *extra = scaled;
            not_positive |= u32::from(!positive);
        }
        self.all_positive = not_positive == 0;
    }
}

/// The pieces of at most [`WINDOW`] interests of one row.
#[inline]
pub(super) fn pieces(row: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    row.clone().step_by(WINDOW).map(move |from| from..(from + WINDOW).min(row.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_row_wherever_it_is() {
        for row in [0..0, 3..WINDOW + 3, (1 << 32) - 5..(1 << 32) + 2 * WINDOW] {
            let mut next = row.start;
            for piece in pieces(row.clone()) {
                assert!(piece.start == next && !piece.is_empty() && piece.len() <= WINDOW, "{piece:?} of {row:?}");
                next = piece.end;
            }
            assert_eq!(next, row.end);
        }
    }
}
