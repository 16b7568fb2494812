//! Where training begins: every row a random direction of length one, as MLlib begins.
//!
//! Measured elsewhere: such rows reach a lower loss within five iterations than small uniform noise does. Each row has a random stream of
//! its own, so the factors do not depend on the order in which rows are filled, nor on how many others there are.

use super::factors::Factors;
use crate::random::SplitMix64;

/// Fills one row with the unit-norm gaussian vector that belongs to `seed` and `row`.
pub(super) fn random_row(factors: &mut Factors, seed: u64, row: usize) {
    let mut random = SplitMix64::for_row(seed, row as u64);
    let numbers = factors.row_mut(row);
    let mut squares = 0.0;
    for number in &mut *numbers {
        let gaussian = random.gaussian();
        squares += gaussian * gaussian;
        *number = gaussian as f32;
    }
    // A sum of zero would need a gaussian of exactly zero in every place; such a row stays zero.
    let scale = if squares > 0.0 { (1.0 / squares.sqrt()) as f32 } else { 0.0 };
    for number in numbers {
        *number *= scale;
    }
}

/// Random rows where `starts` (one entry more than there are rows) gives the row any interest, zeros elsewhere: a row without interests
/// must not weigh in the sum over all rows.
pub(super) fn random(starts: &[u64], rank: usize, seed: u64) -> Factors {
    let mut factors = Factors::zeros(starts.len() - 1, rank);
    for (row, bounds) in starts.windows(2).enumerate() {
        if bounds[0] < bounds[1] {
            random_row(&mut factors, seed, row);
        }
    }
    factors
}

/// Factors of an earlier training for the products known then, random rows for the products that came since.
pub(super) fn continued(earlier: &Factors, starts: &[u64], seed: u64) -> Factors {
    let mut factors = Factors::zeros(starts.len() - 1, earlier.rank());
    for (row, bounds) in starts.windows(2).enumerate() {
        if row < earlier.rows() {
            factors.row_mut(row).copy_from_slice(earlier.row(row));
        } else if bounds[0] < bounds[1] {
            random_row(&mut factors, seed, row);
        }
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_interests_have_length_one_and_others_are_zero() {
        let factors = random(&[0, 3, 3, 7], 10, 42);
        let norms: Vec<f32> = (0..3).map(|row| factors.row(row).iter().map(|x| x * x).sum()).collect();
        assert!((norms[0] - 1.0).abs() < 1e-5 && (norms[2] - 1.0).abs() < 1e-5, "{norms:?}");
        assert_eq!(norms[1], 0.0);
        assert_ne!(factors.row(0), factors.row(2));
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        assert_eq!(random(&[0, 1, 2], 5, 7).row(1), random(&[0, 0, 1, 9], 5, 7).row(1));
    }

    #[test]
    fn known_products_keep_their_factors() {
        let earlier = random(&[0, 1, 2], 3, 1);
        let factors = continued(&earlier, &[0, 1, 2, 3, 3], 9);
        assert_eq!((factors.row(0), factors.row(1)), (earlier.row(0), earlier.row(1)));
        assert!(factors.row(2).iter().any(|&x| x != 0.0));
        assert!(factors.row(3).iter().all(|&x| x == 0.0));
    }
}
