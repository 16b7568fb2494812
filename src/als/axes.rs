//! What one side's systems need of all vectors of the other: VᵀV, and at large ranks coordinates in which it is diagonal.
//!
//! Turning both sides' vectors alike changes no scalar product and no length, so neither the objective nor where its minimum is. The factors'
//! order and signs mean nothing anyway.

use nalgebra::DMatrix;

use super::factors::{Factors, LINE};
use super::half_step::Workers;
use super::kernel::{Axes, Gram, LARGEST_DIRECT_RANK};

/// VᵀV of `factors`, which are turned onto its eigenvectors if the rank is large.
pub(super) fn prepare(workers: Workers<'_>, factors: &mut Factors) -> Gram {
    let gram = workers.gram(factors);
    let (rank, stride) = (factors.rank(), factors.stride());
    if rank > LARGEST_DIRECT_RANK {
        let axes = axes(DMatrix::from_fn(rank, rank, |row, column| gram[row * stride + column]));
        workers.turn(factors.lines_mut(), &axes);
        return Gram::Turned(axes);
    }
    let mut gram: Vec<f32> = gram.into_iter().map(|number| number as f32).collect();
    for padding in rank..stride {
        gram[padding * stride + padding] = 1.0;
    }
    Gram::Whole(gram)
}

/// The eigenvectors and eigenvalues of a VᵀV without padding.
fn axes(gram: DMatrix<f64>) -> Axes {
    let rank = gram.nrows();
    let width = rank.div_ceil(LINE);
    let mut eigenvalues = vec![[1.0; LINE]; width];
    let mut turn = vec![[0.0; LINE]; width * width * LINE];
    // With finite numbers the search for eigenvalues always ends (Wilkinson's shift). Without, there would be nothing to save.
    if gram.iter().all(|number| number.is_finite()) {
        let eigen = gram.symmetric_eigen();
        // What is smaller is rounding: the vectors have `f32` numbers. One is as good as any where there are no vectors.
        let largest = eigen.eigenvalues.iter().copied().fold(0.0, f64::max);
        let rounding = (largest * f64::from(f32::EPSILON)).max(f64::from(f32::MIN_POSITIVE));
        let least = if largest > 0.0 { rounding } else { 1.0 };
        for (to, from) in eigenvalues.as_flattened_mut().iter_mut().zip(&eigen.eigenvalues) {
            *to = from.max(least) as f32;
        }
        for (to, from) in turn.chunks_exact_mut(width).zip(eigen.eigenvectors.row_iter()) {
            for (to, from) in to.as_flattened_mut().iter_mut().zip(from.iter()) {
                *to = *from as f32;
            }
        }
    }
    Axes { eigenvalues, turn }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::als::kernel::Kernel;
    use crate::random::SplitMix64;

    #[test]
    fn turned_vectors_have_a_diagonal_gram_and_the_same_products() {
        let mut random = SplitMix64::new(3);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let never = AtomicBool::new(false);
        for (rank, rows) in [(17, 300), (64, 2_000), (100, 40), (250, 1)] {
            let numbers: Vec<f32> = (0..rank * rows).map(|_| (random.unit() - 0.3) as f32).collect();
            let before = Factors::from_unpadded(rank, &numbers);
            for kernel in Kernel::available() {
                let workers = Workers { kernel, pool: &pool, cancel: &never };
                let mut after = before.clone();
                let Gram::Turned(axes) = prepare(workers, &mut after) else { panic!("rank {rank} is large") };
                let (gram, stride) = (workers.gram(&after), after.stride());
                let largest = (0..rank).map(|i| gram[i * stride + i]).fold(0.0, f64::max);
                for (at, &found) in gram.iter().enumerate() {
                    let (row, column) = (at / stride, at % stride);
                    let eigenvalue = f64::from(axes.eigenvalues.as_flattened()[row]);
                    let expected = if row == column && row < rank { eigenvalue } else { 0.0 };
                    assert!((found - expected).abs() < 1e-5 * largest, "{kernel:?} {rank}: {row} {column} {found}");
                }
                let product = |factors: &Factors, row, other| -> f32 {
                    factors.row(row).iter().zip(factors.row(other)).map(|(x, y)| x * y).sum()
                };
                for row in 0..rows {
                    let (found, expected) = (product(&after, row, rows / 2), product(&before, row, rows / 2));
                    assert!((found - expected).abs() < 1e-4 * rank as f32, "{kernel:?}: {found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn without_vectors_or_with_numbers_that_are_none_nothing_is_divided_by_zero() {
        for numbers in [0.0, f64::NAN, f64::INFINITY] {
            let axes = axes(DMatrix::from_element(20, 20, numbers));
            assert!(axes.eigenvalues.as_flattened().iter().all(|&eigenvalue| eigenvalue > 0.0));
            assert!(axes.turn.as_flattened().iter().all(|number| number.is_finite()));
        }
    }
}
