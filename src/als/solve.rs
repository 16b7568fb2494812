//! One user's vector, solved when somebody asks for recommendations.
//!
//! The same least-squares problem as in the last half-step of training, so a user whose interests did not change since gets the same vector,
//! and a new user or a fresh click counts at once. In `f64`, by nalgebra's dense Cholesky decomposition: microseconds at common ranks.

use nalgebra::{DMatrix, DVector};

use super::factors::Factors;

/// A pivot below this part of the largest diagonal element is rounding of the `f32` Gram matrix, not information.
const SINGULAR: f64 = 1e-7;

/// The vector of a user with these interests: x = A⁻¹b with A = `gram` + Σ αr vvᵀ + λnI and b = Σ (1 + αr) v over the interests with r > 0,
/// n of them (Hu, Koren, Volinsky 2008, equation 4, with MLlib's scaling of λ).
///
/// `products` are the product factors and `gram` their YᵀY (rank × rank) as [`super::train`] gives them; `interests` are pairs of product and
/// rating r. Interests in products without factors, and ratings that are not positive, count as none. Where A is singular (λ = 0 and too few
/// products) the shortest of the equally good vectors is given; without interests, zeros.
pub fn solve_row(products: &Factors, gram: &[f32], interests: &[(u32, f32)], lambda: f32, alpha: f32) -> Vec<f32> {
    match system(products, gram, interests, lambda, alpha) {
        Some((a, b)) => narrowed(solve(a, &b), products.rank()),
        None => vec![0.0; products.rank()],
    }
}

/// What each interest adds to the score of one product, in the interests' order; the sum is the score.
///
/// The vector that [`solve_row`] gives is linear in the interests: x = A⁻¹ Σ (1 + αr) v. So the score of product p is a sum over the
/// interests of (1 + αr) vᵀA⁻¹p (Hu, Koren, Volinsky 2008, section 5). Arguments are those of [`solve_row`]; what counts as no interest adds 0.
pub fn explain_row(
    products: &Factors,
    gram: &[f32],
    interests: &[(u32, f32)],
    lambda: f32,
    alpha: f32,
    product: u32,
) -> Vec<f32> {
    let target = DVector::from_iterator(products.rank(), products.row(product as usize).iter().copied().map(f64::from));
    let toward = match system(products, gram, interests, lambda, alpha) {
        Some((a, _)) => narrowed(solve(a, &target), products.rank()),
        None => vec![0.0; products.rank()],
    };
    let share = |&(other, rating): &(u32, f32)| {
        if rating > 0.0 && (other as usize) < products.rows() {
            let dot: f32 = products.row(other as usize).iter().zip(&toward).map(|(v, w)| v * w).sum();
            (1.0 + alpha * rating) * dot
        } else {
            0.0
        }
    };
    interests.iter().map(share).collect()
}

/// A (its lower triangle) and b of one user, or nothing without an interest.
fn system(
    products: &Factors,
    gram: &[f32],
    interests: &[(u32, f32)],
    lambda: f32,
    alpha: f32,
) -> Option<(DMatrix<f64>, DVector<f64>)> {
    let rank = products.rank();
    let mut a = DMatrix::from_iterator(rank, rank, gram.iter().map(|&number| f64::from(number)));
    let mut b = DVector::zeros(rank);
    let mut count = 0.0;
    for &(product, rating) in interests.iter().filter(|&&(product, _)| (product as usize) < products.rows()) {
        if rating > 0.0 {
            let v =
                DVector::from_iterator(rank, products.row(product as usize).iter().map(|&number| f64::from(number)));
            let extra = f64::from(alpha) * f64::from(rating);
            a.syger(extra, &v, &v, 1.0);
            b.axpy(1.0 + extra, &v, 1.0);
            count += 1.0;
        }
    }
    for i in 0..rank {
        a[(i, i)] += f64::from(lambda) * count;
    }
    (count > 0.0).then_some((a, b))
}

/// The solution in `f32`, zeros where there is none.
fn narrowed(x: Option<DVector<f64>>, rank: usize) -> Vec<f32> {
    x.map_or_else(|| vec![0.0; rank], |x| x.iter().map(|&number| number as f32).collect())
}

/// Solves Ax = b, of which only the lower triangle of `a` is valid; nothing if that gives no finite numbers.
fn solve(mut a: DMatrix<f64>, b: &DVector<f64>) -> Option<DVector<f64>> {
    let limit = a.diagonal().max() * SINGULAR;
    let x = match a.clone().cholesky() {
        Some(factor) if factor.l_dirty().diagonal().iter().all(|root| root * root > limit) => factor.solve(b),
        _ => {
            a.fill_upper_triangle_with_lower_triangle();
            a.svd(true, true).solve(b, limit).ok()?
        }
    };
    x.iter().all(|number| number.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_product_at_rank_one_is_a_division() {
        let products = Factors::from_unpadded(1, &[2.0]);
        // A = 4 + 0.5 × 3 × 4 + 0.1 × 1, b = (1 + 0.5 × 3) × 2
        let x = solve_row(&products, &[4.0], &[(0, 3.0)], 0.1, 0.5);
        assert!((x[0] - 5.0 / 10.1).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn what_is_no_interest_counts_as_none() {
        let products = Factors::from_unpadded(2, &[1.0, 0.0, 0.0, 1.0]);
        let gram = [1.0, 0.0, 0.0, 1.0];
        let plain = solve_row(&products, &gram, &[(0, 1.0)], 0.1, 1.0);
        assert_eq!(solve_row(&products, &gram, &[(0, 1.0), (1, 0.0), (7, 5.0), (1, f32::NAN)], 0.1, 1.0), plain);
        assert_eq!(solve_row(&products, &gram, &[(1, 0.0)], 0.1, 1.0), [0.0; 2]);
        assert_eq!(solve_row(&products, &gram, &[], 0.0, 1.0), [0.0; 2]);
    }

    #[test]
    fn what_the_interests_add_sums_to_the_score() {
        let products = Factors::from_unpadded(2, &[1.0, 0.5, 0.2, 1.0, -0.5, 0.3]);
        let gram = [1.29, 0.55, 0.55, 1.34];
        let interests = [(0, 1.0), (1, 3.0), (9, 1.0), (2, 0.0)];
        let x = solve_row(&products, &gram, &interests, 0.1, 0.5);
        for product in 0..3 {
            let score: f32 = products.row(product as usize).iter().zip(&x).map(|(v, x)| v * x).sum();
            let shares = explain_row(&products, &gram, &interests, 0.1, 0.5, product);
            assert!((shares.iter().sum::<f32>() - score).abs() < 1e-5, "{shares:?} is not {score}");
            assert_eq!(shares[2..], [0.0, 0.0]);
        }
    }

    #[test]
    fn a_singular_system_gets_the_shortest_solution() {
        let products = Factors::from_unpadded(3, &[1.0, 1.0, 0.0]);
        let gram = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let x = solve_row(&products, &gram, &[(0, 2.0)], 0.0, 1.0);
        for (found, expected) in x.iter().zip([0.5, 0.5, 0.0]) {
            assert!((found - expected).abs() < 1e-5, "{x:?}");
        }
    }
}
