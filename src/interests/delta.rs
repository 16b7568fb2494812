//! What came since the base was built: eight bytes an event, chained by user.
//!
//! Appending costs one write at the end and one at the user's head, whatever the number of interests or users; a user's events are found by
//! walking the chain. Merging sorts each user's few events and zips them with the user's row of the base.

use super::base::{Base, BaseBuilder};
use super::{Counts, Interest};

/// No event: the end of a chain.
const NONE: u32 = u32::MAX;
/// How many users' heads lie together. A list of all users' would be made anew by the first event after each freeze, which took 12 to 24 ms
/// with five million users.
const HEADS: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The product's dense number, doubled, plus one for a purchase.
    product_and_kind: u32,
    /// The same user's event before this one, or [`NONE`].
    previous: u32,
}

/// Events since the base, in arrival order.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// The newest event of each user, or [`NONE`]; nothing where none of those users has any.
    heads: Vec<Option<Box<[u32; HEADS]>>>,
    entries: Vec<Entry>,
}

impl Delta {
    /// The most events a delta can hold.
    pub const MAX_EVENTS: usize = NONE as usize - 1;
    /// Product numbers must be below this.
    pub const MAX_PRODUCTS: usize = 1 << 31;

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends one event. Must not be called with [`Delta::MAX_EVENTS`] events in it; the counter merges long before.
    #[inline]
    pub fn push(&mut self, user: u32, product: u32, is_purchase: bool) {
        let (chunk, within) = (user as usize / HEADS, user as usize % HEADS);
        if chunk >= self.heads.len() {
            self.heads.resize(chunk + 1, None);
        }
        let heads = self.heads[chunk].get_or_insert_with(|| Box::new([NONE; HEADS]));
        let at = self.entries.len() as u32;
        let previous = std::mem::replace(&mut heads[within], at);
        self.entries.push(Entry { product_and_kind: product << 1 | u32::from(is_purchase), previous });
    }

    /// The products of one user's events, newest first, and whether each is a purchase.
    pub fn events(&self, user: u32) -> impl Iterator<Item = (u32, bool)> + '_ {
        let mut at = self.head(user);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.previous;
            Some((entry.product_and_kind >> 1, entry.product_and_kind & 1 == 1))
        })
    }

    /// Whether the user has any event here.
    #[inline]
    pub fn touches(&self, user: u32) -> bool {
        self.head(user) != NONE
    }

    #[inline]
    fn head(&self, user: u32) -> u32 {
        let (chunk, within) = (user as usize / HEADS, user as usize % HEADS);
        self.heads.get(chunk).and_then(Option::as_ref).map_or(NONE, |heads| heads[within])
    }
}

/// The base that holds everything of `base` and `delta` but for the users `gone` (ascending), with a row for each of `users` users and products
/// numbered below `products`.
pub fn merge(base: &Base, delta: &Delta, gone: &[u32], users: usize, products: usize) -> Base {
    let mut builder = BaseBuilder::with_capacity(users, base.pairs() + delta.len());
    let mut scratch = Vec::new();
    for user in 0..users as u32 {
        if gone.binary_search(&user).is_ok() {
            // Nothing of the row is kept.
        } else if delta.touches(user) {
            merge_row(base.row(user), delta.events(user), &mut scratch, |interest| builder.push(interest));
        } else {
            builder.push_row(base, user);
        }
        builder.end_row();
    }
    builder.finish(products)
}

/// Joins one user's row (products ascending) with newer events (any order), calling `push` with the joined interests, products ascending.
pub fn merge_row(
    row: impl Iterator<Item = Interest>,
    events: impl Iterator<Item = (u32, bool)>,
    scratch: &mut Vec<(u32, bool)>,
    mut push: impl FnMut(Interest),
) {
    scratch.clear();
    scratch.extend(events);
    scratch.sort_unstable();
    let mut events = scratch.iter().copied().peekable();
    let mut add_events_of = |product: u32, counts: &mut Counts| {
        while let Some((_, is_purchase)) = events.next_if(|event| event.0 == product) {
            counts.add(is_purchase);
        }
        events.peek().map(|event| event.0)
    };
    let mut next_new = add_events_of(NONE, &mut Counts::default());
    for mut interest in row {
        while let Some(product) = next_new.filter(|&product| product < interest.product) {
            let mut counts = Counts::default();
            next_new = add_events_of(product, &mut counts);
            push(Interest { product, counts });
        }
        next_new = add_events_of(interest.product, &mut interest.counts);
        push(interest);
    }
    while let Some(product) = next_new {
        let mut counts = Counts::default();
        next_new = add_events_of(product, &mut counts);
        push(Interest { product, counts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn merging_equals_counting_in_a_map(
            rounds in prop::collection::vec(prop::collection::vec((0u32..12, 0u32..9, any::<bool>()), 0..60), 0..5),
            // Neighbours, or some of them far away.
            stride in prop::sample::select(vec![1, HEADS as u32 / 3]),
        ) {
            let users = 12 * stride;
            let mut naive: BTreeMap<(u32, u32), Counts> = BTreeMap::new();
            let mut base = Base::default();
            for events in rounds {
                let mut delta = Delta::default();
                for (user, product, is_purchase) in events {
                    delta.push(user * stride, product, is_purchase);
                    naive.entry((user * stride, product)).or_default().add(is_purchase);
                }
                base = merge(&base, &delta, &[], users as usize, 9);
            }
            let merged: Vec<_> = (0..users).flat_map(|user| base.row(user).map(move |i| ((user, i.product), i.counts))).collect();
            prop_assert_eq!(merged, naive.into_iter().collect::<Vec<_>>());
        }
    }
}
