//! How X, the served model, and Y, the replayed one, compare.

use serde::Serialize;

use crate::event::encoding::Counted;
use crate::interests::counters::Counters;
use crate::model::{Model, Question};

/// The length of the lists that are compared, as the talk serves them.
const LENGTH: usize = 5;
/// So many users are asked for at most, evenly from all.
const ASKED_USERS: usize = 1000;

/// One model's side.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Side {
    /// The model's number; 0 for one that was never served.
    pub generation: u64,
    /// Events it was trained on.
    pub events: u64,
    /// The objective per interest. Under other settings it means something else: compare hit rates.
    pub loss: f64,
    /// How long training took.
    pub seconds: f64,
    /// Share of the judged events whose product was among the five recommended just before; `None` before the first was judged.
    pub hit_rate_at_5: Option<f64>,
    /// The checksum of the product factors: the same log under the same settings gives the same bits.
    pub crc32c: u32,
    #[serde(skip)]
    hits: u64,
}

impl Side {
    fn of(model: &Model) -> Self {
        let about = &model.about;
        let bits = model.factors().unpadded().fold(0, |sum, value| crc32c::crc32c_append(sum, &value.to_le_bytes()));
        let (generation, events, loss, seconds) = (about.generation, about.events, about.loss, about.seconds);
        Self { generation, events, loss, seconds, crc32c: bits, ..Self::default() }
    }

    fn judge(&mut self, hit: bool, judged: u64) {
        self.hits += u64::from(hit);
        self.hit_rate_at_5 = Some(self.hits as f64 / judged as f64);
    }
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Comparison {
    /// The served model, if there is one.
    pub x: Option<Side>,
    /// The replayed one.
    pub y: Side,
    /// Of the users asked for, how much of the five products is the same: 1 is all.
    pub overlap_at_5: Option<f64>,
    /// Events that came after both trainings and were the user's first with that product: whether it was foretold is the hit rate.
    pub judged_events: u64,
}

impl Comparison {
    /// Compares what both recommend to users of whom these counters know.
    pub fn new(x: Option<&Model>, y: &Model, counters: &Counters) -> Self {
        let overlap_at_5 = x.and_then(|x| overlap(x, y, counters));
        Self { x: x.map(Side::of), y: Side::of(y), overlap_at_5, judged_events: 0 }
    }

    /// Judges both by an event that is about to be counted, if both were trained before it and it is new to the user.
    pub fn judge(&mut self, x: Option<&Model>, y: &Model, counters: &Counters, event: &Counted<'_>) {
        let trained_before = |model: &Model| model.about.events <= counters.offset();
        if !trained_before(y) || !x.is_none_or(trained_before) {
            return;
        }
        let Some(interests) = counters.interests_of(&event.user) else { return };
        let product = counters.products().find(&event.product);
        if interests.is_empty() || interests.iter().any(|interest| Some(interest.product) == product) {
            return;
        }
        let question = Question { limit: LENGTH, exclude_seen: true, popular_fallback: false };
        let foretold = |model: &Model| {
            let (products, _) = model.recommend(&interests, question);
            products.iter().any(|&number| model.products().get(number) == event.product)
        };
        self.judged_events += 1;
        let judged = self.judged_events;
        self.y.judge(foretold(y), judged);
        if let (Some(side), Some(x)) = (&mut self.x, x) {
            side.judge(foretold(x), judged);
        }
    }

    /// Goes on with other models: what was judged so far stays judged.
    pub fn renew(&mut self, x: Option<&Model>, y: &Model, counters: &Counters) {
        let before = std::mem::replace(self, Self::new(x, y, counters));
        let keep =
            |side: &mut Side, before: Side| (side.hits, side.hit_rate_at_5) = (before.hits, before.hit_rate_at_5);
        keep(&mut self.y, before.y);
        if let (Some(side), Some(before)) = (&mut self.x, before.x) {
            keep(side, before);
        }
        self.judged_events = before.judged_events;
    }
}

fn overlap(x: &Model, y: &Model, counters: &Counters) -> Option<f64> {
    let question = Question { limit: LENGTH, exclude_seen: false, popular_fallback: false };
    let users = counters.users().len();
    let (mut asked, mut same) = (0usize, 0usize);
    for user in (0..users as u32).step_by((users / ASKED_USERS).max(1)) {
        let interests = counters.row(user);
        let (of_x, of_y) = (x.recommend(&interests, question).0, y.recommend(&interests, question).0);
        asked += of_x.len().max(of_y.len());
        let named = |&number: &u32| of_y.iter().any(|&other| y.products().get(other) == x.products().get(number));
        same += of_x.iter().filter(|number| named(number)).count();
    }
    (asked > 0).then(|| same as f64 / asked as f64)
}
