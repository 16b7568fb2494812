//! Interests: clicks and purchases of each (user, product), counted since the beginning.
//!
//! [`base`] is the immutable bulk, one sorted row a user; [`delta`] is what came since, in arrival order; [`counters`] joins the two, names
//! users and products, and is what the counter actor owns. Closing a window merges the delta into the next base, which training then reads
//! without a copy while counting goes on.

pub mod base;
pub mod counters;
pub mod delta;

use serde::{Deserialize, Serialize};

/// Clicks and purchases of one user on one product. They stop at 2^32 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Counts {
    /// How often the user clicked on it.
    pub clicks: u32,
    /// How often the user bought it.
    pub purchases: u32,
}

impl Counts {
    /// The counts after one more event.
    #[inline]
    pub fn add(&mut self, is_purchase: bool) {
        let count = if is_purchase { &mut self.purchases } else { &mut self.clicks };
        *count = count.saturating_add(1);
    }

    /// How much this interest weighs: the rating r of Hu, Koren and Volinsky (2008).
    #[inline]
    pub fn rating(self, weights: Weights) -> f32 {
        weights.click * self.clicks as f32 + weights.purchase * self.purchases as f32
    }
}

/// How much a click and a purchase weigh in a rating.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Rating of one click.
    pub click: f32,
    /// Rating of one purchase.
    pub purchase: f32,
}

/// One user's interest in one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// The product's dense number.
    pub product: u32,
    /// What the user did with it.
    pub counts: Counts,
}
