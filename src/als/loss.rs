//! The objective that training lowers, added up from its definition: the yardstick for the cheap figure training gives on its way.

use super::factors::Factors;
use crate::interests::Weights;
use crate::interests::base::Base;

/// Σ over all users u and products i of c (p − x·y)², plus λ (Σ n_u |x_u|² + Σ n_i |y_i|²), with c = 1 + αr, p = 1 where r > 0 and n the
/// number of a row's or column's interests with r > 0 (Hu, Koren, Volinsky 2008, equation 3, with MLlib's scaling of λ). The sum itself, not
/// yet divided by the number of interests.
///
/// The pairs without interest are not visited: Σ (x·y)² over all pairs is Σ of the elements of XᵀX times those of YᵀY. In `f64`, on the
/// calling thread: seconds for ten million interests.
pub fn objective(base: &Base, users: &Factors, products: &Factors, weights: Weights, lambda: f32, alpha: f32) -> f64 {
    let everywhere: f64 = gram(users).iter().zip(gram(products)).map(|(x, y)| x * y).sum();
    let mut product_counts = vec![0u32; base.products()];
    let (mut at_interests, mut penalty) = (0.0, 0.0);
    for user in 0..base.users() {
        let x = users.row(user);
        let mut count = 0.0;
        for interest in base.row(user as u32) {
            let rating = interest.counts.rating(weights);
            if rating > 0.0 {
                let extra = f64::from(alpha) * f64::from(rating);
                let score = dot(x, products.row(interest.product as usize));
                at_interests += (1.0 + extra) * (1.0 - score).powi(2) - score * score;
                product_counts[interest.product as usize] += 1;
                count += 1.0;
            }
        }
        penalty += count * dot(x, x);
    }
    for (product, &count) in product_counts.iter().enumerate() {
        penalty += f64::from(count) * dot(products.row(product), products.row(product));
    }
    everywhere + at_interests + f64::from(lambda) * penalty
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn gram(factors: &Factors) -> Vec<f64> {
    let rank = factors.rank();
    let mut sum = vec![0.0; rank * rank];
    for row in (0..factors.rows()).map(|row| factors.row(row)) {
        for (sums, &left) in sum.chunks_mut(rank.max(1)).zip(row) {
            for (sum, &right) in sums.iter_mut().zip(row) {
                *sum += f64::from(left) * f64::from(right);
            }
        }
    }
    sum
}
