//! How good recommendations are: hide each user's last event, train on the rest, and see where the hidden product ranks among all products.
//!
//! The hit rate at k is the share of users whose hidden product is among the first k; NDCG at k (Järvelin, Kekäläinen 2002) with one relevant
//! product is 1 / log2(rank + 1) for a hit, so that a hit further up counts more. All products are ranked, none are sampled: with sampled
//! candidates methods can change places (Krichene, Rendle 2020).

use rayon::prelude::*;
use serde::Serialize;

use crate::ids::IdList;
use crate::interests::Interest;
use crate::interests::base::Base;
use crate::model::Model;

/// The lengths of lists that are judged.
pub const LENGTHS: [usize; 3] = [5, 10, 20];

/// A hidden event: what this user did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// The user's dense number.
    pub user: u32,
    /// The product's dense number; products that only occur in hidden events have numbers beyond the model's.
    pub product: u32,
}

/// Hit rate and NDCG at each of [`LENGTHS`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Quality {
    /// Share of users whose hidden product is among the first k.
    pub hit_rate: [f64; LENGTHS.len()],
    /// The same, weighted by how far up.
    pub ndcg: [f64; LENGTHS.len()],
}

impl Quality {
    /// The quality of lists in which the hidden products have these ranks (1 is the first; `None` is nowhere).
    pub fn of(ranks: &[Option<usize>]) -> Self {
        let mut quality = Self::default();
        for (at, &length) in LENGTHS.iter().enumerate() {
            let hits = ranks.iter().flatten().filter(|&&rank| rank <= length);
            // An empty sum of floats is −0.
            let gains = 0.0 + hits.clone().map(|&rank| 1.0 / (rank as f64 + 1.0).log2()).sum::<f64>();
            quality.hit_rate[at] = hits.count() as f64 / ranks.len().max(1) as f64;
            quality.ndcg[at] = gains / ranks.len().max(1) as f64;
        }
        quality
    }
}

/// What is judged: a model, the most popular products for everybody, and also-bought lists, each with and without what the user already had.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// How many users were judged.
    pub users: usize,
    /// The model, as the talk serves it.
    pub als: Quality,
    /// The model, leaving out what the user had (`exclude_seen=true`). A hidden product that the user had before can't be hit.
    pub als_unseen: Quality,
    /// The products with the most users.
    pub popular: Quality,
    /// Those, leaving out what the user had.
    pub popular_unseen: Quality,
    /// The products on the also-bought lists of what the user had, by the sum of their counts there.
    pub also_bought: Quality,
    /// Those, leaving out what the user had.
    pub also_bought_unseen: Quality,
}

/// Judges a model that was trained on `base` by the hidden events. The model's products must be named by `ids` in the same order.
pub fn evaluate(model: &Model, base: &Base, ids: &IdList, hidden: &[Hidden]) -> Report {
    let mut popularity = vec![0.0f32; base.products()];
    for &product in base.product_column() {
        popularity[product as usize] += 1.0;
    }
    let ranks: Vec<[Option<usize>; 6]> = hidden
        .par_iter()
        .map_init(<(Vec<f32>, Vec<f32>)>::default, |(scores, together), hidden| {
            let interests: Vec<_> = base.row(hidden.user).collect();
            let seen: Vec<u32> = interests.iter().map(|interest| interest.product).collect();
            scores.clear();
            if let Some(vector) = model.user_vector(&interests) {
                model.score_all(&vector, scores);
            }
            let rank = |scores: &[f32], seen: &[u32]| rank_of(hidden.product, scores, seen, ids);
            add_up_lists(model, &interests, together);
            // What is on no list is nowhere.
            let paired = |seen: &[u32]| {
                rank(together, seen).filter(|_| together.get(hidden.product as usize).is_some_and(|&count| count > 0.0))
            };
            let (als, popular) =
                ([rank(scores, &[]), rank(scores, &seen)], [rank(&popularity, &[]), rank(&popularity, &seen)]);
            [als[0], als[1], popular[0], popular[1], paired(&[]), paired(&seen)]
        })
        .collect();
    let quality = |at: usize| Quality::of(&ranks.iter().map(|ranks| ranks[at]).collect::<Vec<_>>());
    Report {
        users: hidden.len(),
        als: quality(0),
        als_unseen: quality(1),
        popular: quality(2),
        popular_unseen: quality(3),
        also_bought: quality(4),
        also_bought_unseen: quality(5),
    }
}

/// For each product the sum of its counts on the also-bought lists of these interests.
fn add_up_lists(model: &Model, interests: &[Interest], together: &mut Vec<f32>) {
    together.clear();
    together.resize(model.products().len(), 0.0);
    for interest in interests {
        for also in model.also_bought().get(interest.product) {
            together[also.product as usize] += also.count as f32;
        }
    }
}

/// The rank of a product by scores, equal scores by smaller id first, among all but the excluded ones (ascending). `None` if it has no score or
/// is excluded itself.
fn rank_of(product: u32, scores: &[f32], excluded: &[u32], ids: &IdList) -> Option<usize> {
    let own = *scores.get(product as usize)?;
    if excluded.binary_search(&product).is_ok() {
        return None;
    }
    let better = |other: u32, score: f32| score > own || (score == own && ids.get(other) < ids.get(product));
    let all = scores.iter().enumerate().filter(|&(other, &score)| better(other as u32, score)).count();
    let left_out =
        excluded.iter().filter(|&&other| scores.get(other as usize).is_some_and(|&score| better(other, score)));
    Some(1 + all - left_out.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;
    use proptest::prelude::*;

    #[test]
    fn hit_rate_and_ndcg_are_as_defined() {
        let quality = Quality::of(&[Some(1), Some(3), Some(11), None]);
        assert_eq!(quality.hit_rate, [0.5, 0.5, 0.75]);
        let expected = (1.0 + 0.5 + 1.0 / 12f64.log2()) / 4.0;
        assert!((quality.ndcg[2] - expected).abs() < 1e-12);
        assert_eq!(Quality::of(&[]), Quality::default());
    }

    proptest! {
        #[test]
        fn a_rank_equals_the_place_after_sorting(
            scores in prop::collection::vec(0u8..4, 1..40),
            excluded in prop::collection::btree_set(0u32..40, 0..10),
            product in 0u32..45,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut ids = IdList::default();
            for number in 0..scores.len() {
                ids.push(&Id::Number(-(number as i64))).unwrap();
            }
            let mut sorted: Vec<u32> = (0..scores.len() as u32).filter(|other| !excluded.contains(other)).collect();
            sorted.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(b.cmp(&a)));
            let expected = sorted.iter().position(|&other| other == product).map(|at| at + 1);
            let excluded: Vec<u32> = excluded.into_iter().collect();
            prop_assert_eq!(rank_of(product, &scores, &excluded, &ids), expected);
        }
    }
}
