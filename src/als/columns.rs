//! The interests once more, product by product: what the products' half of an iteration reads.
//!
//! Compressed sparse columns, eight bytes an interest, users ascending in each column. Every thread fills the columns of its own range of
//! products: a user's row is sorted by product, so the part a thread needs is one run of it. Nobody else writes there, and the result does
//! not depend on the number of threads.

use rayon::prelude::*;

use crate::interests::base::{Base, PackedCounts};

/// Interests of all products as of one moment, one column a product, users ascending.
#[derive(Debug)]
pub(super) struct Columns {
    starts: Vec<u64>,
    users: Vec<u32>,
    counts: Vec<PackedCounts>,
}

/// A run of columns that one thread fills.
struct Part<'a> {
    first_product: u32,
    /// Where each of the columns starts, and where the last one ends.
    starts: &'a [u64],
    users: &'a mut [u32],
    counts: &'a mut [PackedCounts],
}

impl Columns {
    /// Turns the rows of `base` into columns, on at most `threads` threads of the current pool.
    pub(super) fn new(base: &Base, threads: usize) -> Self {
        let starts = column_starts(base);
        let pairs = base.pairs();
        let mut columns = Self { starts, users: vec![0; pairs], counts: vec![PackedCounts::default(); pairs] };
        let parts = columns.parts(threads.max(1));
        if threads <= 1 {
            parts.into_iter().for_each(|part| part.fill(base));
        } else {
            parts.into_par_iter().for_each(|part| part.fill(base));
        }
        columns
    }

    /// Where each product's column starts in the other two columns; one entry more than there are products.
    pub(super) fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// The users of all columns, column after column.
    pub(super) fn users(&self) -> &[u32] {
        &self.users
    }

    /// The counts of all columns, column after column.
    pub(super) fn counts(&self) -> &[PackedCounts] {
        &self.counts
    }

    /// Cuts the columns into runs of about equally many interests.
    fn parts(&mut self, threads: usize) -> Vec<Part<'_>> {
        let share = (self.users.len() / threads) as u64 + 1;
        let (mut users, mut counts) = (&mut self.users[..], &mut self.counts[..]);
        let mut parts = Vec::with_capacity(threads);
        let mut first = 0;
        for part in 1..=threads as u64 {
            let end = (self.starts.partition_point(|&start| start < part * share)).clamp(first, self.starts.len() - 1);
            let interests = (self.starts[end] - self.starts[first]) as usize;
            let (own_users, own_counts);
            (own_users, users) = users.split_at_mut(interests);
            (own_counts, counts) = counts.split_at_mut(interests);
            let starts = &self.starts[first..=end];
            parts.push(Part { first_product: first as u32, starts, users: own_users, counts: own_counts });
            first = end;
        }
        parts
    }
}

impl Part<'_> {
    fn fill(self, base: &Base) {
        let (offset, columns) = (self.starts[0], self.starts.len() - 1);
        if columns == 0 {
            return;
        }
        let last_product = self.first_product + (columns - 1) as u32;
        let mut next: Vec<u64> = self.starts[..columns].iter().map(|start| start - offset).collect();
        for (user, row) in base.starts().windows(2).enumerate() {
            let (from, to) = (row[0] as usize, row[1] as usize);
            let products = &base.product_column()[from..to];
            let begin = products.partition_point(|&product| product < self.first_product);
            let counts = &base.counts_column()[from + begin..to];
            for (&product, &packed) in products[begin..].iter().zip(counts) {
                if product > last_product {
                    break;
                }
                let next = &mut next[(product - self.first_product) as usize];
                self.users[*next as usize] = user as u32;
                self.counts[*next as usize] = packed;
                *next += 1;
            }
        }
    }
}

/// Where each column will start: the running sum of the columns' lengths.
fn column_starts(base: &Base) -> Vec<u64> {
    let mut starts = vec![0u64; base.products() + 1];
    for &product in base.product_column() {
        starts[product as usize + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interests::base::BaseBuilder;
    use crate::interests::{Counts, Interest};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn columns_hold_what_the_rows_hold(
            pairs in prop::collection::btree_map((0u32..9, 0u32..12), 1u32..200_000, 0..60),
            threads in 1usize..6,
        ) {
            let mut builder = BaseBuilder::with_capacity(9, pairs.len());
            for user in 0..9 {
                for (&(_, product), &clicks) in pairs.range((user, 0)..(user + 1, 0)) {
                    builder.push(Interest { product, counts: Counts { clicks, purchases: 1 } });
                }
                builder.end_row();
            }
            let base = builder.finish(12);
            let columns = Columns::new(&base, threads);
            let mut found = BTreeMap::new();
            for product in 0..12 {
                let range = columns.starts()[product] as usize..columns.starts()[product + 1] as usize;
                prop_assert!(columns.users()[range.clone()].is_sorted());
                for at in range {
                    found.insert((columns.users()[at], product as u32), base.unpack(columns.counts()[at]).clicks);
                }
            }
            prop_assert_eq!(found, pairs);
        }
    }
}
