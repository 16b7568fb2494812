//! The Lambda view: a batch over everything now and then, a stream over the newest events, merged when it is read.
//!
//! Which events belong to one stream window is decided by the time of their commit alone, which the event log keeps: so reading the log again
//! gives the same windows. The stream joins *events* as the talk does: somebody who clicks twice on one product and once on another makes two
//! pairs of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::baskets::Baskets;
use super::count::{self, Cancelled};
use super::{Also, Score, Table};
use crate::ids::IdList;

/// One stream window holds so many events at most, 64 MiB; further ones are not joined, and counted as such.
pub const MOST_EVENTS: usize = 8 << 20;

/// How batch and stream become one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// As the talk does: the batch's products, then the stream's, without repeats.
    Talk,
    /// What the batch counted plus what came after it: the answer of the Kappa view, a stream window old at most.
    Sum,
}

/// How events are joined in stream windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long a window is.
    pub every: Duration,
    /// Clicks are not joined.
    pub only_purchases: bool,
    /// Of a user with more products within a window only the newest ones are joined.
    pub max_products_per_user: usize,
}

/// A stream window in the making.
#[derive(Debug, Clone)]
pub struct Stream {
    every_micros: i64,
    only_purchases: bool,
    slot: i64,
    events: Vec<(u32, u32)>,
    /// Events beyond [`MOST_EVENTS`].
    skipped: u64,
}

/// A stream window that has ended: who had to do with what, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Users and products, by their dense numbers.
    pub events: Vec<(u32, u32)>,
    /// Events beyond [`MOST_EVENTS`].
    pub skipped: u64,
}

impl Stream {
    /// A stream in which nothing has happened yet.
    pub fn new(settings: StreamSettings) -> Self {
        let every_micros = i64::try_from(settings.every.as_micros()).unwrap_or(i64::MAX).max(1);
        let only_purchases = settings.only_purchases;
        Self { every_micros, only_purchases, slot: i64::MIN, events: Vec::new(), skipped: 0 }
    }

    /// All that follows was committed at this time or later. Gives the window that ends by that, unless it is empty.
    pub fn advance(&mut self, committed_micros: i64) -> Option<Ended> {
        let slot = committed_micros.div_euclid(self.every_micros);
        // A clock that was set back makes a window longer.
        if slot <= self.slot {
            return None;
        }
        self.slot = slot;
        if self.events.is_empty() {
            return None;
        }
        Some(Ended { events: std::mem::take(&mut self.events), skipped: std::mem::take(&mut self.skipped) })
    }

    /// Whether nothing happened in the window so far.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event to the window.
    #[inline]
    pub fn push(&mut self, user: u32, product: u32, is_purchase: bool) {
        if self.only_purchases && !is_purchase {
            return;
        }
        if self.events.len() < MOST_EVENTS {
            self.events.push((user, product));
        } else {
            self.skipped += 1;
        }
    }

    /// Takes a user's events out of the window.
    pub fn forget(&mut self, user: u32) {
        self.events.retain(|event| event.0 != user);
    }
}

impl Ended {
    /// The lists of the products in this window: pairs of events of the same user. Of a user with more than `most` products only the newest
    /// are paired. Works on the current pool of threads.
    pub fn join(mut self, ids: &IdList, most: usize, cancel: &AtomicBool) -> Result<Vec<(u32, Vec<Also>)>, Cancelled> {
        self.events.par_sort_unstable();
        let baskets = Baskets::of_events(&self.events, ids.len(), most);
        let mut there = vec![false; ids.len()];
        self.events.iter().for_each(|&(_, product)| there[product as usize] = true);
        count::best_of_each(&baskets, |product| there[product as usize], ids, Score::Count, cancel)
    }
}

/// Both layers, immutable: an answer comes from one of these as a whole.
#[derive(Debug, Clone, Default)]
pub struct Lambda {
    /// How often a layer was replaced, counted from 1.
    pub number: u64,
    /// The batch view.
    pub batch: Option<Batch>,
    /// The stream view: the last list of each product that was not empty.
    pub stream: Table,
    /// The event log's offset up to which the stream view knows all.
    pub stream_offset: u64,
    /// What batch and later events are together, where [`Merge::Sum`] is asked for.
    pub sum: Option<Arc<Table>>,
}

/// The batch view.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The lists.
    pub table: Arc<Table>,
    /// Events in it.
    pub offset: u64,
    /// When it was computed, in microseconds since 1970 UTC.
    pub computed_micros: i64,
}

impl Lambda {
    /// Puts the lists of a stream window that ended at `offset` in the place of those that the products had. What has no pairs keeps its list.
    pub fn replace_lists(&mut self, lists: &[(u32, Vec<Also>)], offset: u64) {
        let lists = lists.iter().filter(|(_, list)| !list.is_empty());
        lists.for_each(|(product, list)| self.stream.set(*product, list));
        self.stream_offset = offset;
    }

    /// Takes these products' stream lists away: somebody whose events are in them was forgotten.
    pub fn forget_lists(&mut self, products: &[u32]) {
        products.iter().for_each(|&product| self.stream.set(product, &[]));
    }

    /// The best other products of this one, at most `limit`.
    pub fn answer(&self, product: u32, merge: Merge, limit: usize) -> Vec<Also> {
        let batch = self.batch.as_ref().map_or(&[][..], |batch| batch.table.get(product));
        match (merge, &self.sum) {
            (Merge::Sum, Some(sum)) => sum.get(product).iter().take(limit).copied().collect(),
            (Merge::Sum, None) => batch.iter().take(limit).copied().collect(),
            (Merge::Talk, _) => {
                let stream = self.stream.get(product).iter();
                let new = stream.filter(|also| batch.iter().all(|known| known.product != also.product));
                batch.iter().chain(new).take(limit).copied().collect()
            }
        }
    }
}
