//! Counts pairs of products: for a product, add up the baskets of its users, then keep the best.
//!
//! That is one row of the sparse product of the interests' matrix with itself. Only one row of counters exists at a time on each thread, so
//! memory does not grow with the number of pairs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::baskets::Baskets;
use super::score::Margins;
use super::{Also, MOST, Score};
use crate::ids::IdList;
use crate::memory::give_back;

/// Users whose baskets are asked for together, so that the memory answers several at a time.
const AHEAD: usize = 32;
/// Where fewer counters than one in so many are touched, they are remembered one by one instead of looking at all.
const SPARSE: usize = 8;
/// How many counters are looked at together, whether any of them can matter.
const RUN: usize = 16;

/// The counting was given up because it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("counting was cancelled")]
pub struct Cancelled;

/// Products in the order of their ids, for equal scores.
#[derive(Debug)]
struct IdOrder {
    /// Of each product, how many have smaller ids.
    place: Vec<u32>,
    /// The product at each place.
    product: Vec<u32>,
}

impl IdOrder {
    fn new(ids: &IdList, products: usize) -> Self {
        let mut product: Vec<u32> = (0..products as u32).collect();
        product.sort_unstable_by(|&one, &other| ids.get(one).cmp(&ids.get(other)));
        let mut place = vec![0; products];
        for (at, &product) in (0u32..).zip(&product) {
            place[product as usize] = at;
        }
        Self { place, product }
    }
}

/// The lists of the products for which `wanted` says so, in no particular order. `ids` names all products; works on the current pool.
pub fn best_of_each(
    baskets: &Baskets<'_>,
    wanted: impl Fn(u32) -> bool + Sync,
    ids: &IdList,
    score: Score,
    cancel: &AtomicBool,
) -> Result<Vec<(u32, Vec<Also>)>, Cancelled> {
    let sizes = sizes(baskets);
    let columns = Columns::new(baskets, &sizes, &wanted);
    let users = (0..baskets.users() as u32).filter(|&user| baskets.size(user) > 0).count() as u64;
    let order = IdOrder::new(ids, baskets.products());
    let work = Work { baskets, columns: &columns, order: &order, score, margins: Margins { users, sizes: &sizes } };
    let mut products: Vec<u32> = (0..baskets.products() as u32).filter(|&product| wanted(product)).collect();
    // The longest first, so that no thread is left with one at the end.
    products.sort_unstable_by_key(|&product| std::cmp::Reverse(sizes[product as usize]));
    let next = AtomicUsize::new(0);
    let lists: Vec<Vec<(u32, Vec<Also>)>> = (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let (mut counting, mut lists) = (Counting::new(baskets.products()), Vec::new());
            while let Some(&product) = products.get(next.fetch_add(1, Ordering::Relaxed))
                && !cancel.load(Ordering::Relaxed)
            {
                lists.push((product, counting.best(&work, product)));
            }
            lists
        })
        .collect();
    if cancel.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(lists.into_iter().flatten().collect()) }
}

/// In how many baskets each product is.
fn sizes(baskets: &Baskets<'_>) -> Vec<u32> {
    let mut sizes = vec![0; baskets.products()];
    for user in 0..baskets.users() as u32 {
        for &product in baskets.row(user) {
            sizes[product as usize] += 1;
        }
    }
    sizes
}

/// The users of each wanted product, ascending.
struct Columns {
    starts: Vec<u64>,
    users: Vec<u32>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        give_back(&mut self.users);
    }
}

impl Columns {
    /// Every thread fills the columns of its own range of products: a basket is sorted, so the part a thread needs is one run of it.
    fn new(baskets: &Baskets<'_>, sizes: &[u32], wanted: &(impl Fn(u32) -> bool + Sync)) -> Self {
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        starts.push(0);
        let mut end = 0;
        for (product, &size) in (0u32..).zip(sizes) {
            end += if wanted(product) { u64::from(size) } else { 0 };
            starts.push(end);
        }
        let mut users = vec![0; end as usize];
        let threads = rayon::current_num_threads() as u64;
        let (mut parts, mut rest, mut first) = (Vec::new(), &mut users[..], 0);
        for part in 1..=threads {
            let last = starts.partition_point(|&start| start < part * (end / threads + 1)).clamp(first, sizes.len());
            let (own, others) = rest.split_at_mut((starts[last] - starts[first]) as usize);
            parts.push((first, last, own));
            (rest, first) = (others, last);
        }
        parts.into_par_iter().for_each(|(first, last, own)| {
            let mut next: Vec<usize> =
                starts[first..last].iter().map(|start| (start - starts[first]) as usize).collect();
            for user in 0..baskets.users() as u32 {
                let row = baskets.row(user);
                let begin = row.partition_point(|&product| (product as usize) < first);
                for &product in row[begin..].iter().take_while(|&&product| (product as usize) < last) {
                    if starts[product as usize] < starts[product as usize + 1] {
                        own[next[product as usize - first]] = user;
                        next[product as usize - first] += 1;
                    }
                }
            }
        });
        Self { starts, users }
    }

    fn of(&self, product: u32) -> &[u32] {
        &self.users[self.starts[product as usize] as usize..self.starts[product as usize + 1] as usize]
    }
}

/// What all threads read.
struct Work<'a> {
    baskets: &'a Baskets<'a>,
    columns: &'a Columns,
    order: &'a IdOrder,
    score: Score,
    margins: Margins<'a>,
}

/// What one thread writes: a counter for each product, all zero between two products.
struct Counting {
    counts: Vec<u32>,
    touched: Vec<u32>,
    best: Best,
}

/// The best others of one product so far.
struct Best {
    /// The score above, the complement of the id's place below, so that the largest is the best.
    candidates: Vec<u64>,
    /// Candidates below this are not among the best.
    bar: u64,
    /// Nor are products that have less than this in common, at least 1.
    least: u32,
}

impl Best {
    fn new() -> Self {
        Self { candidates: Vec::with_capacity(2 * MOST), bar: 0, least: 1 }
    }

    fn clear(&mut self) {
        self.candidates.clear();
        (self.bar, self.least) = (0, 1);
    }

    /// Considers a product with `count` in common.
    #[inline]
    fn consider(&mut self, work: &Work<'_>, product: u32, other: u32, count: u32) {
        if count < self.least {
            return;
        }
        let key = u64::from(work.score.key(work.margins, product, other, count)) << 32;
        let candidate = key | u64::from(!work.order.place[other as usize]);
        if candidate < self.bar {
            return;
        }
        self.candidates.push(candidate);
        if self.candidates.len() == 2 * MOST {
            self.candidates.select_nth_unstable_by(MOST - 1, |one, other| other.cmp(one));
            self.candidates.truncate(MOST);
            self.bar = self.candidates[MOST - 1];
            if work.score == Score::Count {
                self.least = (self.bar >> 32) as u32;
            }
        }
    }

    /// The best, best first.
    fn sorted(&mut self) -> &[u64] {
        self.candidates.sort_unstable_by(|one, other| other.cmp(one));
        self.candidates.truncate(MOST);
        &self.candidates
    }
}

impl Counting {
    fn new(products: usize) -> Self {
        Self { counts: vec![0; products], touched: Vec::new(), best: Best::new() }
    }

    /// The best other products of this one.
    fn best(&mut self, work: &Work<'_>, product: u32) -> Vec<Also> {
        let users = work.columns.of(product);
        let sparse = self.add(work.baskets, users, product);
        // A product is not bought together with itself.
        self.counts[product as usize] = 0;
        self.best.clear();
        if sparse {
            for &other in &self.touched {
                self.best.consider(work, product, other, self.counts[other as usize]);
            }
        } else {
            self.consider_all(work, product);
        }
        let also = |&candidate: &u64| {
            let product = work.order.product[!(candidate as u32) as usize];
            Also { product, count: self.counts[product as usize] }
        };
        let list = self.best.sorted().iter().map(also).collect();
        self.clear(sparse);
        list
    }

    /// Adds up the baskets of these users; tells whether the touched counters were remembered.
    fn add(&mut self, baskets: &Baskets<'_>, users: &[u32], product: u32) -> bool {
        let counters = self.counts.len() / SPARSE;
        let sparse =
            users.iter().try_fold(0, |sum, &user| Some(sum + baskets.row(user).len()).filter(|&sum| sum < counters));
        for users in users.chunks(AHEAD) {
            // The first and the last of each row, only so that all of them are on their way before the first is needed.
            let ends = |&user: &u32| baskets.row(user).first().unwrap_or(&0) ^ baskets.row(user).last().unwrap_or(&0);
            std::hint::black_box(users.iter().map(ends).fold(0, |all, one| all ^ one));
            for &user in users {
                let (row, weights) = (baskets.row(user), baskets.row_weights(user));
                if sparse.is_some() {
                    self.add_remembering(row, weights, product);
                } else if weights.is_empty() {
                    row.iter().for_each(|&other| self.counts[other as usize] += 1);
                } else {
                    let own = own_weight(row, weights, product);
                    for (&other, &weight) in row.iter().zip(weights) {
                        let count = &mut self.counts[other as usize];
                        *count = count.saturating_add(own.saturating_mul(weight));
                    }
                }
            }
        }
        sparse.is_some()
    }

    fn add_remembering(&mut self, row: &[u32], weights: &[u32], product: u32) {
        let own = own_weight(row, weights, product);
        for (at, &other) in row.iter().enumerate() {
            let weight = weights.get(at).copied().unwrap_or(1);
            let count = &mut self.counts[other as usize];
            if *count == 0 {
                self.touched.push(other);
            }
            *count = count.saturating_add(own.saturating_mul(weight));
        }
    }

    /// Considers every product with a count; passes over runs of those that can't be among the best quickly.
    fn consider_all(&mut self, work: &Work<'_>, product: u32) {
        let (runs, rest) = self.counts.as_chunks::<RUN>();
        for (first, counts) in (0u32..).step_by(RUN).zip(runs) {
            let least = self.best.least;
            // All of a run are compared at once, because nothing ends early.
            if counts.iter().filter(|&&count| count >= least).count() > 0 {
                for (other, &count) in (first..).zip(counts) {
                    self.best.consider(work, product, other, count);
                }
            }
        }
        for (other, &count) in ((runs.len() * RUN) as u32..).zip(rest) {
            self.best.consider(work, product, other, count);
        }
    }

    fn clear(&mut self, sparse: bool) {
        if sparse {
            for other in self.touched.drain(..) {
                self.counts[other as usize] = 0;
            }
        } else {
            self.counts.fill(0);
        }
    }
}

/// How often `product` is in a basket in which it is.
fn own_weight(row: &[u32], weights: &[u32], product: u32) -> u32 {
    let at = row.binary_search(&product).ok();
    at.and_then(|at| weights.get(at)).copied().unwrap_or(1)
}
