//! The best N products for a vector: an exact scan, products sixteen abreast, the N-th best score as the bar to pass.
//!
//! Equal scores are ordered by id, integers before strings, so an answer depends on nothing but the model and the interests.

use crate::als::Factors;
use crate::ids::IdList;

/// Products scored side by side.
const LANES: usize = 16;

/// Product factors laid out for scanning: blocks of [`LANES`] products, within a block one row of lanes per dimension.
#[derive(Debug, Clone)]
pub struct Index {
    rank: usize,
    products: usize,
    blocks: Vec<f32>,
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
        let mut blocks = vec![0.0; products.div_ceil(LANES) * LANES * rank];
        for product in 0..products {
            let block = product / LANES * LANES * rank;
            for (dimension, &value) in factors.row(product).iter().enumerate() {
                blocks[block + dimension * LANES + product % LANES] = value;
            }
        }
        Self { rank, products, blocks }
    }

    /// Appends the scores of all products for `vector`, in the order of their numbers.
    pub fn score_all(&self, vector: &[f32], scores: &mut Vec<f32>) {
        for rows in self.blocks.chunks_exact(LANES * self.rank) {
            scores.extend_from_slice(&scores_of_block(rows, vector));
        }
        scores.truncate(self.products);
    }

    /// The `limit` products with the largest scores for `vector`, best first, without those in `excluded` (ascending numbers).
    pub fn top(&self, vector: &[f32], limit: usize, excluded: &[u32], ids: &IdList) -> Vec<Scored> {
        let mut best = Best { limit, ids, list: Vec::with_capacity(limit + 1) };
        if limit == 0 || vector.len() != self.rank {
            return best.list;
        }
        for (block, rows) in self.blocks.chunks_exact(LANES * self.rank).enumerate() {
            let scores = scores_of_block(rows, vector);
            let bar = best.bar();
            if scores.iter().all(|&score| score < bar) {
                continue;
            }
            let first = block * LANES;
            for (lane, &score) in scores.iter().enumerate().take(self.products - first) {
                let product = (first + lane) as u32;
                if score >= best.bar() && excluded.binary_search(&product).is_err() {
                    best.offer(Scored { product, score });
                }
            }
        }
        best.list
    }
}

#[inline]
fn scores_of_block(rows: &[f32], vector: &[f32]) -> [f32; LANES] {
    let mut scores = [0.0; LANES];
    for (row, &weight) in rows.chunks_exact(LANES).zip(vector) {
        for (score, &value) in scores.iter_mut().zip(row) {
            *score += weight * value;
        }
    }
    scores
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
            values in prop::collection::vec(-2i8..3, 0..200),
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
            let index = Index::new(&Factors::from_unpadded(rank, &values));
            let excluded: Vec<u32> = excluded.into_iter().collect();
            let top = index.top(&vector, limit, &excluded, &ids);
            prop_assert_eq!(top.iter().map(|scored| scored.product).collect::<Vec<_>>(), expected);
        }
    }
}
