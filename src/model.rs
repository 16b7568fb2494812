//! The served model: product factors and also-bought lists of one generation, and how recommendations come from them.
//!
//! A user has no place in the model. The user's vector is one row solve (the last half-step of ALS) from the live interests at the time of the
//! question, so fresh clicks and new users count at once, and the model stays small enough to keep and to load in milliseconds.

use crate::als::{self, Factors};
use crate::also_bought::Table;
use crate::ids::IdList;
use crate::interests::Interest;
use crate::interests::base::Base;
use crate::ranking::Index;

/// How many of the most popular products a model remembers: the largest `limit` that can be asked for.
pub const MOST_POPULAR: usize = 100;

/// What is known about a model beside its factors.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The number of the swapped-in model, counted from 1.
    pub generation: u64,
    /// The window whose end it was trained at.
    pub window: u64,
    /// Events up to the end of that window.
    pub events: u64,
    /// When its training ended, in microseconds since 1970 UTC.
    pub trained_at_micros: i64,
    /// Users with interests.
    pub users: u64,
    /// Products with interests.
    pub products: u64,
    /// (user, product) pairs it was trained on.
    pub interests: u64,
    /// The objective per interest after the last half-step.
    pub loss: f64,
    /// How long the training took.
    pub seconds: f64,
    /// The settings it was trained with.
    pub settings: als::Settings,
}

/// One generation, immutable.
#[derive(Debug, Clone)]
pub struct Model {
    /// What is known about it.
    pub about: About,
    products: IdList,
    factors: Factors,
    gram: Vec<f32>,
    popular: Vec<u32>,
    also_bought: Table,
    index: Index,
}

/// What a list of recommendations comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The factors of this model.
    Als,
    /// Counted pairs of products.
    AlsoBought,
    /// The products that most users have an interest in.
    Popular,
    /// Nothing: there is no recommendation.
    None,
}

impl Source {
    /// The value of the header `X-Source` and of the metrics' label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Als => "als",
            Self::AlsoBought => "also-bought",
            Self::Popular => "popular",
            Self::None => "none",
        }
    }
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// How many products at most.
    pub limit: usize,
    /// Leave out what the user has an interest in already.
    pub exclude_seen: bool,
    /// Answer with popular products where nothing is known of the user.
    pub popular_fallback: bool,
}

impl Model {
    /// A model from trained product factors and their Gram matrix (rank × rank), `products` naming the factors' rows in order, `popular` the
    /// most popular ones first, `also_bought` the kappa view over the same interests.
    pub fn new(
        about: About,
        products: IdList,
        factors: Factors,
        gram: Vec<f32>,
        popular: Vec<u32>,
        also_bought: Table,
    ) -> Self {
        let index = Index::new(&factors);
        Self { about, products, factors, gram, popular, also_bought, index }
    }

    /// The names of the products, in the order of the factors' rows.
    pub fn products(&self) -> &IdList {
        &self.products
    }

    /// The product factors, one row a product.
    pub fn factors(&self) -> &Factors {
        &self.factors
    }

    /// The product factors' Gram matrix, rank × rank.
    pub fn gram(&self) -> &[f32] {
        &self.gram
    }

    /// The most popular products, best first.
    pub fn popular(&self) -> &[u32] {
        &self.popular
    }

    /// For each product the others that most users had beside it.
    pub fn also_bought(&self) -> &Table {
        &self.also_bought
    }

    /// Why this product of the model is recommended to a user with these interests: each interest's share of the score, largest first; the shares
    /// sum to 1 (single ones can be negative).
    pub fn explain(&self, interests: &[Interest], product: u32) -> Vec<(u32, f32)> {
        let settings = &self.about.settings;
        let ratings = self.ratings(interests);
        let parts = als::explain_row(&self.factors, &self.gram, &ratings, settings.lambda, settings.alpha, product);
        let score: f32 = parts.iter().sum();
        let mut shares: Vec<(u32, f32)> = ratings
            .iter()
            .zip(parts)
            .map(|(&(product, _), part)| (product, if score == 0.0 { 0.0 } else { part / score }))
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| self.products.get(a.0).cmp(&self.products.get(b.0))));
        shares
    }

    /// The interests that the model knows of, as products and ratings.
    fn ratings(&self, interests: &[Interest]) -> Vec<(u32, f32)> {
        let known = interests.iter().filter(|interest| (interest.product as usize) < self.factors.rows());
        let ratings = known.map(|interest| (interest.product, interest.counts.rating(self.about.settings.weights)));
        ratings.filter(|&(_, rating)| rating > 0.0).collect()
    }

    /// The factors of a user with these interests: the row solve of Hu, Koren and Volinsky (2008). `None` where no interest counts (products
    /// newer than the model, or weights of 0).
    pub fn user_vector(&self, interests: &[Interest]) -> Option<Vec<f32>> {
        let settings = &self.about.settings;
        let ratings = self.ratings(interests);
        if ratings.is_empty() {
            return None;
        }
        let vector = als::solve_row(&self.factors, &self.gram, &ratings, settings.lambda, settings.alpha);
        vector.iter().any(|&value| value != 0.0).then_some(vector)
    }

    /// Appends the scores of all products for a user's vector, in the order of their numbers.
    pub fn score_all(&self, vector: &[f32], scores: &mut Vec<f32>) {
        self.index.score_all(vector, scores);
    }

    /// Recommendations for a user with these interests (products ascending), best first, as numbers of [`Model::products`].
    pub fn recommend(&self, interests: &[Interest], question: Question) -> (Vec<u32>, Source) {
        let seen: Vec<u32> = if question.exclude_seen {
            interests.iter().map(|interest| interest.product).collect()
        } else {
            Vec::new()
        };
        if let Some(vector) = self.user_vector(interests) {
            let top = self.index.top(&vector, question.limit, &seen, &self.products);
            return (top.iter().map(|scored| scored.product).collect(), Source::Als);
        }
        if !question.popular_fallback {
            return (Vec::new(), Source::None);
        }
        let unseen = self.popular.iter().filter(|product| seen.binary_search(product).is_err());
        (unseen.take(question.limit).copied().collect(), Source::Popular)
    }
}

/// The products with the most users, best first, equal numbers by smaller id first; at most [`MOST_POPULAR`].
pub fn most_popular(base: &Base, ids: &IdList) -> Vec<u32> {
    let mut users = vec![0u32; base.products()];
    for &product in base.product_column() {
        users[product as usize] += 1;
    }
    let mut products: Vec<u32> = (0..base.products() as u32).filter(|&product| users[product as usize] > 0).collect();
    let order =
        |a: &u32, b: &u32| users[*b as usize].cmp(&users[*a as usize]).then_with(|| ids.get(*a).cmp(&ids.get(*b)));
    if products.len() > MOST_POPULAR {
        products.select_nth_unstable_by(MOST_POPULAR - 1, order);
        products.truncate(MOST_POPULAR);
    }
    products.sort_by(order);
    products
}
