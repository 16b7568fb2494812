//! Who had what: for each user the products to pair, ascending.

use std::borrow::Cow;

use super::Settings;
use crate::interests::base::Base;

/// The baskets of all users, row after row.
#[derive(Debug)]
pub struct Baskets<'a> {
    starts: Cow<'a, [u64]>,
    products: Cow<'a, [u32]>,
    /// How often each product is in its basket; empty where each counts once.
    weights: Vec<u32>,
    /// Products are numbered below this.
    product_count: usize,
    most: usize,
}

impl<'a> Baskets<'a> {
    /// What every user clicked on or bought (or only bought) since the beginning.
    pub fn of_interests(base: &'a Base, settings: Settings) -> Self {
        let (starts, products) = if settings.only_purchases {
            let (starts, products) = purchases(base);
            (Cow::Owned(starts), Cow::Owned(products))
        } else {
            (Cow::Borrowed(base.starts()), Cow::Borrowed(base.product_column()))
        };
        let most = settings.max_products_per_user;
        Self { starts, products, weights: Vec::new(), product_count: base.products(), most }
    }

    /// What every user did within some time, from single events as pairs of user and product, sorted: a product counts as often as it was there.
    pub fn of_events(events: &[(u32, u32)], product_count: usize, most: usize) -> Self {
        let (mut starts, mut products, mut weights) = (vec![0], Vec::<u32>::new(), Vec::<u32>::new());
        for user in events.chunk_by(|one, next| one.0 == next.0) {
            for same in user.chunk_by(|one, next| one.1 == next.1) {
                products.push(same[0].1);
                weights.push(same.len() as u32);
            }
            starts.push(products.len() as u64);
        }
        Self { starts: starts.into(), products: products.into(), weights, product_count, most }
    }

    /// How many users there are, those with an empty basket too.
    pub fn users(&self) -> usize {
        self.starts.len() - 1
    }

    /// Products are numbered below this.
    pub fn products(&self) -> usize {
        self.product_count
    }

    /// How many products this user has in all, those that are not paired too.
    pub fn size(&self, user: u32) -> u32 {
        (self.starts[user as usize + 1] - self.starts[user as usize]) as u32
    }

    /// All products of this user, ascending.
    pub fn whole(&self, user: u32) -> &[u32] {
        &self.products[self.starts[user as usize] as usize..self.starts[user as usize + 1] as usize]
    }

    /// Where the products of this user that are paired stand: all, or the newest ones, which have the highest numbers.
    #[inline]
    fn range(&self, user: u32) -> std::ops::Range<usize> {
        let (start, end) = (self.starts[user as usize] as usize, self.starts[user as usize + 1] as usize);
        start.max(end.saturating_sub(self.most))..end
    }

    /// The products of this user that are paired, ascending.
    #[inline]
    pub fn row(&self, user: u32) -> &[u32] {
        &self.products[self.range(user)]
    }

    /// How often each product of [`Baskets::row`] counts; empty where each counts once.
    #[inline]
    pub(super) fn row_weights(&self, user: u32) -> &[u32] {
        if self.weights.is_empty() { &[] } else { &self.weights[self.range(user)] }
    }

    /// How many users have more products than are paired.
    pub fn cut(&self) -> u64 {
        (0..self.users() as u32).filter(|&user| self.size(user) as usize > self.most).count() as u64
    }
}

/// The rows of all users without the products that were only clicked on.
fn purchases(base: &Base) -> (Vec<u64>, Vec<u32>) {
    let (mut starts, mut products) = (Vec::with_capacity(base.users() + 1), Vec::new());
    starts.push(0);
    for row in base.starts().windows(2) {
        for at in row[0] as usize..row[1] as usize {
            if base.unpack(base.counts_column()[at]).purchases > 0 {
                products.push(base.product_column()[at]);
            }
        }
        starts.push(products.len() as u64);
    }
    (starts, products)
}
