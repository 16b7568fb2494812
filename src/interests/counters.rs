//! All that is counted: who, what, how often, up to which event.
//!
//! Counting appends to a live delta. When a merge is due the delta is frozen and a new one begins, so the merge can run elsewhere on what no
//! longer changes; readers see base, frozen and live delta as one.

use std::sync::Arc;

use super::Interest;
use super::base::Base;
use super::delta::{self, Delta};
use crate::event::encoding::{self, Item};
use crate::ids::{Full, Id, IdTable};
use crate::varint::Malformed;

/// A delta is merged when it holds this many events, or [`MERGED_PART_OF_BASE`] of the base, whichever is more: so memory is bounded and
/// merging stays cheap.
const LEAST_MERGED_EVENTS: usize = 1 << 20;
/// One part in so many.
const MERGED_PART_OF_BASE: usize = 8;

/// Why events could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The bytes are not encoded events.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No more ids fit.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Interests of all users, and the events behind them.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    users: IdTable,
    products: IdTable,
    base: Arc<Base>,
    frozen: Option<Arc<Delta>>,
    live: Delta,
    /// Users who were forgotten and may still have a row in the base or events in the deltas.
    gone: Vec<u32>,
    offset: u64,
}

/// What was counted of one item of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// An event.
    Event {
        /// The user's dense number.
        user: u32,
        /// The product's dense number.
        product: u32,
        /// A purchase, or else a click.
        is_purchase: bool,
    },
    /// A user was forgotten.
    Forgotten {
        /// The dense number that was the user's.
        user: u32,
        /// The products of which the user had an interest.
        products: Vec<u32>,
    },
}

/// What a merge needs; it can run on another thread.
#[derive(Debug, Clone)]
pub struct MergeJob {
    base: Arc<Base>,
    frozen: Arc<Delta>,
    gone: Vec<u32>,
    users: usize,
    products: usize,
    /// How many events the merged base will stand for.
    pub offset: u64,
}

impl MergeJob {
    /// The base that holds all that was counted when the job was made.
    pub fn run(&self) -> Arc<Base> {
        if self.frozen.is_empty() && self.gone.is_empty() {
            return Arc::clone(&self.base);
        }
        Arc::new(delta::merge(&self.base, &self.frozen, &self.gone, self.users, self.products))
    }

    /// The users whose rows the merge changes, ascending.
    pub fn touched_users(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.users as u32).filter(|&user| self.frozen.touches(user) || self.gone.binary_search(&user).is_ok())
    }
}

impl Counters {
    /// Counters as a checkpoint kept them: `offset` events long, all of them in `base`.
    pub fn restore(users: IdTable, products: IdTable, base: Base, offset: u64) -> Self {
        // The ids may be newer than the rows.
        let has_row = |user: &u32| base.starts()[*user as usize] < base.starts()[*user as usize + 1];
        let gone = (0..base.users() as u32).filter(|&user| users.list().is_forgotten(user)).filter(has_row).collect();
        Self { users, products, base: Arc::new(base), frozen: None, live: Delta::default(), gone, offset }
    }

    /// Counts all events of `encoded`; tells how many there were.
    pub fn apply(&mut self, encoded: &[u8]) -> Result<u64, CountError> {
        self.apply_each(encoded, |_| ())
    }

    /// The same; `each` is told what was counted, item by item.
    pub fn apply_each(&mut self, mut encoded: &[u8], mut each: impl FnMut(Applied)) -> Result<u64, CountError> {
        let before = self.offset;
        while !encoded.is_empty() {
            let event = match encoding::read(&mut encoded)? {
                Item::Event(event) => event,
                Item::Forget(user) => {
                    self.forget(&user).into_iter().for_each(&mut each);
                    continue;
                }
                Item::Nothing => {
                    self.offset += 1;
                    continue;
                }
            };
            let user = self.users.intern(&event.user)?;
            let product = self.products.intern(&event.product)?;
            if product as usize >= Delta::MAX_PRODUCTS || self.live.len() >= Delta::MAX_EVENTS {
                return Err(Full.into());
            }
            self.live.push(user, product, event.is_purchase);
            each(Applied::Event { user, product, is_purchase: event.is_purchase });
            self.offset += 1;
        }
        Ok(self.offset - before)
    }

    /// Forgets a user, if known: nobody finds the interests any more, and the next merge drops them.
    fn forget(&mut self, user: &Id<'_>) -> Option<Applied> {
        let dense = self.users.forget(user)?;
        let products = self.row(dense).iter().map(|interest| interest.product).collect();
        self.gone.push(dense);
        Some(Applied::Forgotten { user: dense, products })
    }

    /// How many events were counted since the beginning: the offset of the next one in the event log.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The ids of all users.
    pub fn users(&self) -> &IdTable {
        &self.users
    }

    /// The ids of all products.
    pub fn products(&self) -> &IdTable {
        &self.products
    }

    /// The merged bulk; complete when [`Counters::unmerged`] is 0.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// How many events are not in the base yet.
    pub fn unmerged(&self) -> usize {
        self.live.len() + self.frozen.as_ref().map_or(0, |frozen| frozen.len())
    }

    /// Whether so many events came since the last freeze that they should be merged, whatever the windows do.
    pub fn merge_is_due(&self) -> bool {
        self.live.len() >= LEAST_MERGED_EVENTS.max(self.base.pairs() / MERGED_PART_OF_BASE)
    }

    /// Goes on counting at this offset: the events in between are lost.
    pub fn skip_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Freezes what came so far and hands out the work of merging it, or nothing while an earlier job is not installed yet.
    pub fn freeze(&mut self) -> Option<MergeJob> {
        if self.frozen.is_some() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut self.live));
        let mut gone = std::mem::take(&mut self.gone);
        gone.sort_unstable();
        self.frozen = Some(Arc::clone(&frozen));
        let (users, products) = (self.users.len(), self.products.len());
        Some(MergeJob { base: Arc::clone(&self.base), frozen, gone, users, products, offset: self.offset })
    }

    /// Puts the outcome of the job that [`Counters::freeze`] gave in the place of the base and the frozen delta. What it replaces is handed
    /// back, so that its memory can be freed where nobody waits.
    pub fn install(&mut self, merged: Arc<Base>) -> (Arc<Base>, Option<Arc<Delta>>) {
        (std::mem::replace(&mut self.base, merged), self.frozen.take())
    }

    /// The live interests of one user, products ascending; `None` for a user never seen.
    pub fn interests_of(&self, user: &Id<'_>) -> Option<Vec<Interest>> {
        self.users.find(user).map(|dense| self.row(dense))
    }

    /// The live interests of the user with this dense number, products ascending.
    pub fn row(&self, user: u32) -> Vec<Interest> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.events(user));
        let mut interests = Vec::new();
        let events = frozen.chain(self.live.events(user));
        delta::merge_row(self.base.row(user), events, &mut Vec::new(), |interest| interests.push(interest));
        interests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::interests::Counts;

    fn encoded(events: &[(i64, i64, bool)]) -> Vec<u8> {
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        for &(user, product, is_purchase) in events {
            let event = Event {
                user: Id::Number(user),
                product: Id::Number(product),
                is_purchase,
                time_micros: 0,
                attributes: [None; 8],
                further: "".into(),
            };
            encoding::write(&mut out, &mut scratch, &event);
        }
        out
    }

    #[test]
    fn a_reader_sees_base_frozen_and_live_events_as_one() {
        let mut counters = Counters::default();
        counters.apply(&encoded(&[(7, 1, false), (7, 2, true), (8, 1, false)])).unwrap();
        let job = counters.freeze().unwrap();
        let merged = job.run();
        counters.apply(&encoded(&[(7, 1, false)])).unwrap();
        let expected = [(0, 2, 0), (1, 0, 1)];
        let of_seven = |counters: &Counters| -> Vec<_> {
            let row = counters.interests_of(&Id::Number(7)).unwrap();
            row.iter().map(|i| (i.product, i.counts.clicks, i.counts.purchases)).collect()
        };
        assert_eq!(of_seven(&counters), expected);
        assert!(counters.freeze().is_none(), "one merge at a time");
        counters.install(merged);
        assert_eq!(of_seven(&counters), expected);
        let merged = counters.freeze().unwrap().run();
        counters.install(merged);
        assert_eq!(counters.base().row(0).next().unwrap().counts, Counts { clicks: 2, purchases: 0 });
        assert_eq!((counters.offset(), counters.interests_of(&Id::Number(9))), (4, None));
    }

    #[test]
    fn a_forgotten_user_is_gone_at_once_and_after_the_next_merge_everywhere() {
        let mut counters = Counters::default();
        counters.apply(&encoded(&[(7, 1, false), (7, 2, true), (8, 1, false)])).unwrap();
        let merged = counters.freeze().unwrap().run();
        counters.install(merged);
        // Forgotten while a merge that began before is under way.
        counters.apply(&encoded(&[(7, 3, false)])).unwrap();
        let job = counters.freeze().unwrap();
        let mut request = Vec::new();
        encoding::write_forget(&mut request, &Id::Number(7));
        let mut told = Vec::new();
        counters.apply_each(&request, |applied| told.push(applied)).unwrap();
        assert_eq!(told, [Applied::Forgotten { user: 0, products: vec![0, 1, 2] }]);
        assert_eq!(counters.interests_of(&Id::Number(7)), None);
        counters.install(job.run());
        assert_eq!(counters.interests_of(&Id::Number(7)), None);
        counters.apply(&encoded(&[(7, 9, true)])).unwrap();
        let job = counters.freeze().unwrap();
        assert_eq!(job.touched_users().collect::<Vec<_>>(), [0, 2]);
        counters.install(job.run());
        assert_eq!((counters.base().row(0).count(), counters.base().pairs()), (0, 2));
        assert_eq!(counters.interests_of(&Id::Number(7)).unwrap().len(), 1, "who comes back is somebody new");
        assert_eq!(counters.offset(), 5);
    }

    #[test]
    fn malformed_events_are_refused() {
        assert!(matches!(Counters::default().apply(&[0xff]), Err(CountError::Malformed(_))));
    }
}
