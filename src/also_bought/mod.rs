//! "Users who bought this also bought": for each product the others that most users had beside it.
//!
//! The talk computes it twice. **Kappa** ([`kappa`]): over everything, at the end of each window; a pair of products counts once for each user
//! who had both. **Lambda** ([`lambda`]): a batch over everything now and then, and a stream over short windows, merged when it is read.
//!
//! [`baskets`] are who had what, [`count`] counts pairs in them (a sparse matrix product, one row at a time, as one array of counters a
//! thread), [`score`] decides which pairs are the best, [`table`] keeps them.

pub mod baskets;
pub mod count;
pub mod kappa;
pub mod lambda;
pub mod score;
pub mod table;

use serde::{Deserialize, Serialize};

pub use score::Score;
pub use table::{Also, Table};

/// So many other products are kept for each product: the largest `limit` that can be asked for.
pub const MOST: usize = 100;

/// How pairs are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What makes one pair better than another.
    pub score: Score,
    /// Clicks alone do not make a product one that the user had.
    pub only_purchases: bool,
    /// Of a user with more products than this only the newest ones (those that came into the shop last) are paired, for their pairs grow with
    /// the square.
    pub max_products_per_user: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { score: Score::Count, only_purchases: false, max_products_per_user: 1000 }
    }
}

#[cfg(test)]
mod tests;
