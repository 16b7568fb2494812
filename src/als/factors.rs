//! A tall matrix of factors: one short vector of `f32` a user or a product.
//!
//! Rows are padded with zeros to whole cache lines and begin at a cache line, so that reading a row never touches a line too many and a
//! kernel never needs a special case for the last few numbers. That is bought with memory at small ranks: 64 bytes a row at rank 10.

use crate::memory::give_back;

/// How many numbers fill a cache line, and how many a kernel handles at once.
pub const LINE: usize = 16;

/// One cache line of numbers.
pub(crate) type Line = [f32; LINE];

/// Factors of all users or of all products, one row each.
#[derive(Debug)]
pub struct Factors {
    rank: usize,
    stride: usize,
    rows: usize,
    /// Some numbers more than needed, so that the first row can begin at a cache line.
    data: Box<[f32]>,
    first: usize,
}

impl Drop for Factors {
    fn drop(&mut self) {
        give_back(&mut std::mem::take(&mut self.data).into_vec());
    }
}

impl Factors {
    /// `rows` rows of `rank` zeros.
    pub fn zeros(rows: usize, rank: usize) -> Self {
        let stride = rank.next_multiple_of(LINE);
        let data = vec![0.0; rows * stride + LINE - 1].into_boxed_slice();
        // A heap block never moves, so what is aligned now stays so. Should the offset be unknown, the rows are merely slower to read.
        let first =
            Some(data.as_ptr().align_offset(LINE * size_of::<f32>())).filter(|&first| first < LINE).unwrap_or(0);
        Self { rank, stride, rows, data, first }
    }

    /// Factors from rows without padding, `rank` numbers each, one after another (as [`Factors::unpadded`] gives them). Numbers behind the
    /// last whole row are ignored; rank 0 has no rows.
    pub fn from_unpadded(rank: usize, numbers: &[f32]) -> Self {
        let mut factors = Self::zeros(numbers.len().checked_div(rank).unwrap_or(0), rank);
        for (row, numbers) in numbers.chunks_exact(rank.max(1)).enumerate().take(factors.rows) {
            factors.row_mut(row).copy_from_slice(numbers);
        }
        factors
    }

    /// How many factors a row has.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many numbers a row takes with its padding: the rank, rounded up to a multiple of [`LINE`].
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The factors of one row, as many as the rank.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.padded_row(row)[..self.rank]
    }

    /// The factors of one row and the zeros behind them, [`Factors::stride`] numbers.
    pub fn padded_row(&self, row: usize) -> &[f32] {
        let from = self.first + row * self.stride;
        &self.data[from..from + self.stride]
    }

    /// The factors of one row, to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let from = self.first + row * self.stride;
        &mut self.data[from..from + self.rank]
    }

    /// All rows with their padding, one after another.
    pub fn padded(&self) -> &[f32] {
        &self.data[self.first..self.first + self.rows * self.stride]
    }

    /// All rows with their padding, to be changed; the padding must stay zero.
    pub(super) fn padded_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.first..self.first + self.rows * self.stride]
    }

    /// All numbers without padding, row after row: what is worth storing.
    pub fn unpadded(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.rows).flat_map(|row| self.row(row).iter().copied())
    }

    /// All cache lines; a row takes `stride / LINE` of them.
    pub(crate) fn lines(&self) -> &[Line] {
        self.padded().as_chunks().0
    }

    /// All cache lines, to be changed; the padding must stay zero.
    pub(crate) fn lines_mut(&mut self) -> &mut [Line] {
        self.padded_mut().as_chunks_mut().0
    }
}

impl Clone for Factors {
    /// A copy whose rows begin at cache lines too.
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.rows, self.rank);
        copy.lines_mut().copy_from_slice(self.lines());
        copy
    }
}

impl PartialEq for Factors {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank && self.padded() == other.padded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_padded_with_zeros() {
        for rank in [1, 10, 16, 17, 256] {
            let numbers: Vec<f32> = (0..rank * 3).map(|number| number as f32 + 1.0).collect();
            let factors = Factors::from_unpadded(rank, &numbers).clone();
            assert_eq!((factors.rows(), factors.stride() % LINE), (3, 0));
            assert!(factors.unpadded().eq(numbers.iter().copied()));
            assert_eq!(factors.row(1), &numbers[rank..2 * rank]);
            assert!(factors.padded_row(2)[rank..].iter().all(|&number| number == 0.0));
            assert_eq!(factors.padded().as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    fn no_rows_and_no_rank_are_fine() {
        assert_eq!(Factors::zeros(0, 10).unpadded().count(), 0);
        assert_eq!(Factors::from_unpadded(0, &[1.0]).rows(), 0);
        assert_eq!(Factors::from_unpadded(2, &[1.0, 2.0, 3.0]).rows(), 1);
    }
}
