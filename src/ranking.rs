//! The best N products for a vector: an exact scan, products sixteen abreast, the N-th best score as the bar to pass.
//!
//! Products lie in the order of their vectors' lengths, longest first. No score is larger than the product of both lengths (Cauchy and
//! Schwarz), so the scan ends where even that is below the bar: in trained models, where popular products have long vectors, that is early.
//!
//! Equal scores are ordered by id, integers before strings, so an answer depends on nothing but the model and the interests.

use crate::als::factors::LINE;
use crate::als::kernel::MOST_BLOCKS;
use crate::als::{Factors, Kernel};
use crate::ids::IdList;

/// How much larger than the product of both lengths a score can come out by rounding: at most the rank's number of roundings of 2⁻²⁴ each.
const ROUNDING: f32 = 1.0 + 1e-4;

/// Product factors laid out for scanning: blocks of sixteen products, within a block one line per dimension and one lane per product.
#[derive(Debug, Clone)]
pub struct Index {
    kernel: Kernel,
    rank: usize,
    /// The product in each lane, by descending length of its vector.
    order: Vec<u32>,
    /// The length of the first, and so the longest, vector of each block.
    lengths: Vec<f32>,
    /// One row a line, so that lines are aligned.
    lines: Factors,
}

/// A product and its score, the predicted preference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The product's dense number.
    pub product: u32,
    /// Dot product of the user's and the product's factors.
    pub score: f32,
}

impl Index {
    /// Lays out product factors (one row a product) for scanning.
    pub fn new(factors: &Factors) -> Self {
        let (rank, products) = (factors.rank(), factors.rows());
        let length = |product: u32| length(factors.row(product as usize));
        let mut by_length: Vec<(f32, u32)> = (0..products as u32).map(|product| (length(product), product)).collect();
        by_length.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut lines = Factors::zeros(products.div_ceil(LINE) * rank, LINE);
        for (at, &(_, product)) in by_length.iter().enumerate() {
            for (dimension, &value) in factors.row(product as usize).iter().enumerate() {
                lines.row_mut(at / LINE * rank + dimension)[at % LINE] = value;
            }
        }
        let lengths = by_length.iter().step_by(LINE).map(|&(length, _)| length).collect();
        let order = by_length.into_iter().map(|(_, product)| product).collect();
        Self { kernel: Kernel::detect(), rank, order, lengths, lines }
    }

    /// The scores of all products for `vector`, in the order of their numbers, replacing what was in `scores`.
    pub fn score_all(&self, vector: &[f32], scores: &mut Vec<f32>) {
        scores.clear();
        scores.resize(self.order.len(), 0.0);
        let mut put = |first: usize, found: &[f32]| {
            for (&product, &score) in self.order[first..].iter().zip(found) {
                scores[product as usize] = score;
            }
        };
        let mut found = [[0.0; LINE]; MOST_BLOCKS];
        for (run, blocks) in self.runs().enumerate() {
            self.kernel.scan(blocks, vector, f32::INFINITY, &mut found);
            put(run * MOST_BLOCKS * LINE, found.as_flattened());
        }
    }

    /// The `limit` products with the largest scores for `vector`, best first, without those in `excluded` (ascending numbers).
    pub fn top(&self, vector: &[f32], limit: usize, excluded: &[u32], ids: &IdList) -> Vec<Scored> {
        let mut best = Best { limit, ids, list: Vec::with_capacity(limit + 1) };
        if limit == 0 || vector.len() != self.rank {
            return best.list;
        }
        let most = length(vector) * ROUNDING;
        let mut found = [[0.0; LINE]; MOST_BLOCKS];
        for (run, blocks) in self.runs().enumerate() {
            if self.lengths[run * MOST_BLOCKS] * most < best.bar() {
                break;
            }
            let mut reached = self.kernel.scan(blocks, vector, best.bar(), &mut found);
            while reached != 0 {
                let block = reached.trailing_zeros() as usize;
                reached &= reached - 1;
                let products = &self.order[(run * MOST_BLOCKS + block) * LINE..];
                for (&product, &score) in products.iter().zip(&found[block]) {
                    if score >= best.bar() && excluded.binary_search(&product).is_err() {
                        best.offer(Scored { product, score });
                    }
                }
            }
        }
        best.list
    }

    /// The blocks, as many at a time as the kernel takes.
    fn runs(&self) -> impl Iterator<Item = &[[f32; LINE]]> {
        self.lines.lines().chunks((MOST_BLOCKS * self.rank).max(1))
    }
}

/// |v|
fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// The best so far, best first.
struct Best<'a> {
    limit: usize,
    ids: &'a IdList,
    list: Vec<Scored>,
}

impl Best<'_> {
    /// A score below this is not among the best.
    fn bar(&self) -> f32 {
        if self.list.len() < self.limit {
            f32::NEG_INFINITY
        } else {
            self.list.last().map_or(f32::INFINITY, |last| last.score)
        }
    }

    fn offer(&mut self, candidate: Scored) {
        let at = self.list.partition_point(|other| {
            other.score > candidate.score
                || (other.score == candidate.score && self.ids.get(other.product) < self.ids.get(candidate.product))
        });
        if at < self.limit {
            self.list.insert(at, candidate);
            self.list.truncate(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_sorting_everything(
            // Few distinct values, so that equal scores are common.
            values in prop::collection::vec(-2i8..3, 0..6000),
            vector in prop::collection::vec(-2i8..3, 3),
            limit in 0usize..12,
            excluded in prop::collection::btree_set(0u32..60, 0..20),
        ) {
            let rank = vector.len();
            let rows = values.len() / rank;
            let values: Vec<f32> = values[..rows * rank].iter().map(|&value| f32::from(value)).collect();
            let vector: Vec<f32> = vector.into_iter().map(f32::from).collect();
            let mut ids = IdList::default();
            for row in 0..rows {
                // Numbers descend while products ascend, and every third id is a text.
                let number = 1000 - row as i64;
                ids.push(&if row % 3 == 0 { Id::Text(format!("p{number}").into()) } else { Id::Number(number) }).unwrap();
            }
            let mut naive: Vec<(f32, Id<'_>, u32)> = (0..rows)
                .filter(|&row| !excluded.contains(&(row as u32)))
                .map(|row| {
                    let score = (0..rank).map(|at| vector[at] * values[row * rank + at]).sum();
                    (score, ids.get(row as u32), row as u32)
                })
                .collect();
            naive.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then_with(|| a.1.cmp(&b.1)));
            let expected: Vec<u32> = naive.into_iter().take(limit).map(|(_, _, product)| product).collect();
            let mut index = Index::new(&Factors::from_unpadded(rank, &values));
            let excluded: Vec<u32> = excluded.into_iter().collect();
            let mut scores = Vec::new();
            for kernel in Kernel::available() {
                index.kernel = kernel;
                let top = index.top(&vector, limit, &excluded, &ids);
                prop_assert_eq!(&top.iter().map(|scored| scored.product).collect::<Vec<_>>(), &expected);
                index.score_all(&vector, &mut scores);
                prop_assert!(top.iter().all(|scored| scores[scored.product as usize] == scored.score));
            }
        }
    }
}
