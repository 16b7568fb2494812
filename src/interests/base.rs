//! The immutable bulk of all interests: compressed sparse rows, eight bytes an interest.

use std::ops::Range;

use super::{Counts, Interest, Weights};
use crate::memory::give_back;

/// Counts in four bytes: up to 65,535 clicks and 32,767 purchases in place, more than that by position in a side table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackedCounts(u32);

const IN_SIDE_TABLE: u32 = 1 << 31;

/// Interests of all users as of one moment, one row a user, products ascending.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where each user's row starts; one entry more than there are users.
    starts: Vec<u64>,
    products: Vec<u32>,
    counts: Vec<PackedCounts>,
    large: Vec<Counts>,
    product_count: usize,
}

impl Drop for Base {
    fn drop(&mut self) {
        give_back(&mut self.products);
        give_back(&mut self.counts);
    }
}

impl Default for Base {
    fn default() -> Self {
        BaseBuilder::with_capacity(0, 0).finish(0)
    }
}

impl Base {
    /// How many users have a row.
    pub fn users(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many users have an interest.
    pub fn users_with_interests(&self) -> usize {
        self.starts.windows(2).filter(|row| row[0] < row[1]).count()
    }

    /// How many products there are: every product number is below it.
    pub fn products(&self) -> usize {
        self.product_count
    }

    /// How many (user, product) pairs there are.
    pub fn pairs(&self) -> usize {
        self.products.len()
    }

    /// Where each user's row starts in [`Base::product_column`] and [`Base::counts_column`]; one entry more than there are users.
    pub fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// The products of all rows, row after row.
    pub fn product_column(&self) -> &[u32] {
        &self.products
    }

    /// The counts of all rows, row after row; [`Base::unpack`] reads one.
    pub fn counts_column(&self) -> &[PackedCounts] {
        &self.counts
    }

    /// The counts behind their packed form.
    #[inline]
    pub fn unpack(&self, packed: PackedCounts) -> Counts {
        if packed.0 & IN_SIDE_TABLE == 0 {
            Counts { clicks: packed.0 & 0xffff, purchases: packed.0 >> 16 }
        } else {
            self.large[(packed.0 & !IN_SIDE_TABLE) as usize]
        }
    }

    /// The rating behind packed counts.
    #[inline]
    pub fn rating(&self, packed: PackedCounts, weights: Weights) -> f32 {
        self.unpack(packed).rating(weights)
    }

    /// The ratings behind a run of packed counts, written to `ratings` (as long as `packed`).
    #[inline]
    pub fn ratings(&self, packed: &[PackedCounts], weights: Weights, ratings: &mut [f32]) {
        // Without counts from the side table there is no branch and no table in the loop, so it is done several at a time.
        if packed.iter().fold(0, |any, packed| any | packed.0) & IN_SIDE_TABLE == 0 {
            for (rating, packed) in ratings.iter_mut().zip(packed) {
                // As signed integers, because those are what processors turn into floats in one step; neither count has its top bit set.
                let (clicks, purchases) = ((packed.0 & 0xffff) as i32, (packed.0 >> 16) as i32);
                *rating = weights.click * clicks as f32 + weights.purchase * purchases as f32;
            }
        } else {
            for (rating, &packed) in ratings.iter_mut().zip(packed) {
                *rating = self.rating(packed, weights);
            }
        }
    }

    /// The interests of one user, products ascending; none for a user without a row.
    pub fn row(&self, user: u32) -> impl Iterator<Item = Interest> + '_ {
        self.range(user).map(|at| Interest { product: self.products[at], counts: self.unpack(self.counts[at]) })
    }

    /// Where the interests of one user are; nowhere for a user without a row.
    fn range(&self, user: u32) -> Range<usize> {
        let user = user as usize;
        if user < self.users() { self.starts[user] as usize..self.starts[user + 1] as usize } else { 0..0 }
    }
}

/// Builds a [`Base`] row by row.
#[derive(Debug)]
pub struct BaseBuilder {
    base: Base,
}

impl BaseBuilder {
    /// A builder with room for that many users and pairs.
    pub fn with_capacity(users: usize, pairs: usize) -> Self {
        let mut starts = Vec::with_capacity(users + 1);
        starts.push(0);
        let base = Base {
            starts,
            products: Vec::with_capacity(pairs),
            counts: Vec::with_capacity(pairs),
            large: Vec::new(),
            product_count: 0,
        };
        Self { base }
    }

    /// Appends an interest to the row in progress; products must come in ascending order.
    #[inline]
    pub fn push(&mut self, interest: Interest) {
        let packed = self.pack(interest.counts);
        self.base.products.push(interest.product);
        self.base.counts.push(packed);
    }

    /// Appends a whole row of another base to the row in progress: the same as pushing its interests, and faster.
    pub fn push_row(&mut self, from: &Base, user: u32) {
        let range = from.range(user);
        self.base.products.extend_from_slice(&from.products[range.clone()]);
        if from.large.is_empty() {
            self.base.counts.extend_from_slice(&from.counts[range]);
        } else {
            for &packed in &from.counts[range] {
                let packed = self.pack(from.unpack(packed));
                self.base.counts.push(packed);
            }
        }
    }

    #[inline]
    fn pack(&mut self, counts: Counts) -> PackedCounts {
        let Counts { clicks, purchases } = counts;
        if clicks <= 0xffff && purchases <= 0x7fff {
            PackedCounts(purchases << 16 | clicks)
        } else {
            self.base.large.push(counts);
            // Fewer than 2^31 pairs can be this large: they would stand for more than 2^46 events.
            PackedCounts(IN_SIDE_TABLE | (self.base.large.len() - 1) as u32)
        }
    }

    /// Ends the row in progress; the next push belongs to the next user.
    #[inline]
    pub fn end_row(&mut self) {
        self.base.starts.push(self.base.products.len() as u64);
    }

    /// How many rows have ended.
    pub fn rows(&self) -> usize {
        self.base.users()
    }

    /// The finished base over products numbered below `product_count`, with spare memory given back.
    pub fn finish(mut self, product_count: usize) -> Base {
        self.base.product_count = product_count;
        self.base.starts.shrink_to_fit();
        self.base.products.shrink_to_fit();
        self.base.counts.shrink_to_fit();
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_any_size_are_kept_exactly() {
        let sizes = [(0, 0), (65_535, 32_767), (65_536, 0), (0, 32_768), (u32::MAX, u32::MAX), (1, 2)];
        let mut builder = BaseBuilder::with_capacity(1, sizes.len());
        for (product, &(clicks, purchases)) in sizes.iter().enumerate() {
            builder.push(Interest { product: product as u32, counts: Counts { clicks, purchases } });
        }
        builder.end_row();
        let base = builder.finish(sizes.len());
        assert!(base.row(0).map(|interest| (interest.counts.clicks, interest.counts.purchases)).eq(sizes));
        assert_eq!(base.row(1).count(), 0);
        let mut copied = BaseBuilder::with_capacity(1, 0);
        copied.push(Interest { product: 7, counts: Counts { clicks: 1 << 20, purchases: 0 } });
        copied.end_row();
        copied.push_row(&base, 0);
        copied.end_row();
        assert!(copied.finish(8).row(1).eq(base.row(0)));
        let weights = Weights { click: 0.25, purchase: 3.0 };
        for counts in [base.counts_column(), &base.counts_column()[..2], &[]] {
            let mut ratings = vec![0.0; counts.len()];
            base.ratings(counts, weights, &mut ratings);
            assert!(ratings.into_iter().eq(counts.iter().map(|&packed| base.rating(packed, weights))));
        }
    }
}
