//! The interests once more, product by product: what the products' half of an iteration reads.
//!
//! Compressed sparse columns, eight bytes an interest, users ascending in each column. A long column is cut into cells, one for each block of
//! users, and the cells of a block lie side by side: whoever goes through them block by block finds the users' vectors in the cache, where a
//! whole column at a time would read each from memory (8 ns an interest and thread against 2, 500 k users at rank 10).
//!
//! Each part, a run of products, is filled by one thread: a user's row is sorted by product, so what belongs to a part is one run of it, and
//! nobody else writes there. How many parts there are depends on the interests alone, not on the number of threads.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::interests::base::{Base, PackedCounts};
use crate::memory::give_back;

/// A column is long if its cells have so many interests on average. Those of shorter ones would not be worth putting their sums away.
const LEAST_IN_CELL: u64 = 16;
/// How many interests are worth a part, and the most parts: for each of them all users' rows are searched for its beginning.
const PART: usize = 1 << 20;
const MOST_PARTS: usize = 4;

/// Interests of all products as of one moment, one column a product, users ascending.
#[derive(Debug)]
pub(super) struct Columns {
    lengths: Vec<u64>,
    parts: Vec<Part>,
    users: Vec<u32>,
    counts: Vec<PackedCounts>,
}

/// The columns of a run of products.
#[derive(Debug)]
pub(super) struct Part {
    /// The products.
    pub products: Range<usize>,
    /// Those of them with long columns, ascending.
    pub long: Vec<u32>,
    /// Where their interests start: first those of each product's column (none in a long one), then block by block the cells of the long ones;
    /// at last where they end.
    pub starts: Vec<u64>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        give_back(&mut self.users);
        give_back(&mut self.counts);
    }
}

impl Columns {
    /// Turns the rows of `base` into columns, with long ones cut where another `block` users begin; on the threads of `pool` if
    /// there is more than a handful of interests.
    pub(super) fn new(base: &Base, block: usize, pool: &ThreadPool) -> Self {
        let pairs = base.pairs();
        let count = (pairs / PART).clamp(1, MOST_PARTS);
        let block = block.max(1);
        let lengths = lengths(base);
        let cells = CellSizes::new(base, block, &lengths, pool);
        let mut columns = Self {
            parts: parts(&lengths, &cells, count),
            lengths,
            users: vec![0; pairs],
            counts: vec![PackedCounts::default(); pairs],
        };
        let (mut users, mut counts) = (&mut columns.users[..], &mut columns.counts[..]);
        let mut fills = Vec::with_capacity(columns.parts.len());
        for part in &columns.parts {
            let interests = (part.starts[part.starts.len() - 1] - part.starts[0]) as usize;
            let (own_users, own_counts);
            (own_users, users) = users.split_at_mut(interests);
            (own_counts, counts) = counts.split_at_mut(interests);
            fills.push(Fill { part, block, users: own_users, counts: own_counts });
        }
        if count <= 1 {
            fills.into_iter().for_each(|fill| fill.fill(base));
        } else {
            pool.install(|| fills.into_par_iter().for_each(|fill| fill.fill(base)));
        }
        columns
    }

    /// All products, in runs.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many interests each product has.
    pub(super) fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// The users of all interests; the parts say where those of a column are.
    pub(super) fn users(&self) -> &[u32] {
        &self.users
    }

    /// The counts of all interests, in the same order.
    pub(super) fn counts(&self) -> &[PackedCounts] {
        &self.counts
    }
}

impl Part {
    /// The rows of `starts` that are the long columns' cells, block by block.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let cells = self.products.len()..self.starts.len() - 1;
        cells.step_by(self.long.len().max(1)).map(|first| first..first + self.long.len())
    }
}

/// How many interests each product has.
fn lengths(base: &Base) -> Vec<u64> {
    let mut lengths = vec![0; base.products()];
    for &product in base.product_column() {
        lengths[product as usize] += 1;
    }
    lengths
}

/// Which columns are long, and how they are cut.
struct CellSizes {
    /// Whether each product's column is long.
    long: Vec<bool>,
    /// How many interests the cells have: a list a block, with an entry for each long column. Their number is bounded by that of interests,
    /// which one for every product and block would not be.
    sizes: Vec<Vec<u32>>,
}

impl CellSizes {
    fn new(base: &Base, block: usize, lengths: &[u64], pool: &ThreadPool) -> Self {
        let blocks: Vec<usize> = (0..base.users()).step_by(block).collect();
        let is_long = |&length: &u64| blocks.len() > 1 && length >= LEAST_IN_CELL * blocks.len() as u64;
        let long: Vec<bool> = lengths.iter().map(is_long).collect();
        let count = long.iter().filter(|&&long| long).count();
        // Short columns are counted behind the last long one.
        let mut next = 0..count;
        let places: Vec<usize> =
            long.iter().map(|&long| if long { next.next().unwrap_or(count) } else { count }).collect();
        let sizes_of = |first: usize| {
            let last = (first + block).min(base.users());
            let mut sizes = vec![0; count + 1];
            for &product in &base.product_column()[base.starts()[first] as usize..base.starts()[last] as usize] {
                sizes[places[product as usize]] += 1;
            }
            sizes.truncate(count);
            sizes
        };
        let sizes =
            if count > 0 { pool.install(|| blocks.into_par_iter().map(sizes_of).collect()) } else { Vec::new() };
        Self { long, sizes }
    }
}

/// Cuts the products into at most `count` runs with about equally many interests.
fn parts(lengths: &[u64], cells: &CellSizes, count: usize) -> Vec<Part> {
    let share = lengths.iter().sum::<u64>() / count as u64 + 1;
    let mut parts = Vec::with_capacity(count);
    let (mut first, mut at, mut long_before) = (0, 0, 0);
    while first < lengths.len() {
        let mut starts = Vec::new();
        let (mut end, mut interests) = (first, 0);
        while end < lengths.len() && interests < share {
            interests += lengths[end];
            starts.push(at);
            at += if cells.long[end] { 0 } else { lengths[end] };
            end += 1;
        }
        let long: Vec<u32> =
            (first..end).filter(|&product| cells.long[product]).map(|product| product as u32).collect();
        for sizes in &cells.sizes {
            for &size in &sizes[long_before..long_before + long.len()] {
                starts.push(at);
                at += u64::from(size);
            }
        }
        starts.push(at);
        long_before += long.len();
        parts.push(Part { products: first..end, long, starts });
        first = end;
    }
    parts
}

/// A run of columns that one thread fills.
struct Fill<'a> {
    part: &'a Part,
    /// How many users a block has.
    block: usize,
    users: &'a mut [u32],
    counts: &'a mut [PackedCounts],
}

impl Fill<'_> {
    fn fill(self, base: &Base) {
        let Part { products, long, starts } = self.part;
        let offset = starts[0];
        let mut next: Vec<u64> = starts[..products.len()].iter().map(|start| start - offset).collect();
        let mut cells = self.part.blocks();
        for first in (0..base.users()).step_by(self.block) {
            for (&product, cell) in long.iter().zip(cells.next().into_iter().flatten()) {
                next[product as usize - products.start] = starts[cell] - offset;
            }
            for user in first..(first + self.block).min(base.users()) {
                let (from, to) = (base.starts()[user] as usize, base.starts()[user + 1] as usize);
                let row = &base.product_column()[from..to];
                let begin = row.partition_point(|&product| (product as usize) < products.start);
                let counts = &base.counts_column()[from + begin..to];
                for (&product, &packed) in row[begin..].iter().zip(counts) {
                    if product as usize >= products.end {
                        break;
                    }
                    let next = &mut next[product as usize - products.start];
                    self.users[*next as usize] = user as u32;
                    self.counts[*next as usize] = packed;
                    *next += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interests::base::BaseBuilder;
    use crate::interests::{Counts, Interest};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn more_than_four_billion_interests_have_their_places() {
        let lengths = [3 << 31, 5, 1 << 33, 7];
        // The second column is long, with cells of two and three interests.
        let cells = CellSizes { long: vec![false, true, false, false], sizes: vec![vec![2], vec![3]] };
        let parts = parts(&lengths, &cells, 2);
        let end = (3 << 31) + (1 << 33);
        assert_eq!(parts[0].products, 0..3);
        assert_eq!(parts[0].starts, [0, 3 << 31, 3 << 31, end, end + 2, end + 5]);
        assert_eq!(parts[1].starts[..2], [end + 5, end + 12]);
    }

    proptest! {
        #[test]
        fn columns_hold_what_the_rows_hold(
            pairs in prop::collection::btree_map((0u32..99, 0u32..4), 1u32..200_000, 0..390),
            block in 1usize..10,
        ) {
            let mut builder = BaseBuilder::with_capacity(99, pairs.len());
            for user in 0..99 {
                for (&(_, product), &clicks) in pairs.range((user, 0)..(user + 1, 0)) {
                    builder.push(Interest { product, counts: Counts { clicks, purchases: 1 } });
                }
                builder.end_row();
            }
            let base = builder.finish(4);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let columns = Columns::new(&base, 10 * block, &pool);
            let mut lengths = [0; 4];
            pairs.keys().for_each(|&(_, product)| lengths[product as usize] += 1);
            prop_assert_eq!(columns.lengths(), lengths);
            let mut found = BTreeMap::new();
            let mut check = |product: u32, users: Range<u32>, interests: Range<u64>| {
                let range = interests.start as usize..interests.end as usize;
                prop_assert!(columns.users()[range.clone()].is_sorted());
                for at in range {
                    prop_assert!(users.contains(&columns.users()[at]));
                    found.insert((columns.users()[at], product), base.unpack(columns.counts()[at]).clicks);
                }
                Ok(())
            };
            for part in columns.parts() {
                for (row, product) in part.products.clone().enumerate() {
                    check(product as u32, 0..99, part.starts[row]..part.starts[row + 1])?;
                }
                for (number, cells) in part.blocks().enumerate() {
                    let first = 10 * (number * block) as u32;
                    for (&product, cell) in part.long.iter().zip(cells) {
                        check(product, first..first + 10 * block as u32, part.starts[cell]..part.starts[cell + 1])?;
                    }
                }
            }
            prop_assert_eq!(found, pairs);
        }
    }
}
