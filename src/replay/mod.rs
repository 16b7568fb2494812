//! Everything once more from the event log: job Y of the talk, which catches up beside job X, is compared with it, and takes over.
//!
//! [`Rebuild`] counts the log again up to some point, [`comparison`] judges two models, [`running`] does both beside a running node until it is
//! level with it and stays so.

pub mod comparison;
pub mod running;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::als;
use crate::also_bought::kappa::Kappa;
use crate::clock;
use crate::event::encoding::{self, Counted, Item};
use crate::interests::counters::{CountError, Counters};
use crate::log::reading::{self, Cursor, ReadError};
use crate::model::Model;
use crate::training::Recipe;

/// Up to where the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// So many events.
    Offset(u64),
    /// What was committed by this time, in microseconds since 1970 UTC.
    Time(i64),
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Its events can't be counted.
    #[error(transparent)]
    Count(#[from] CountError),
    /// There is nothing to train on.
    #[error("there are no events in the log up to there")]
    Nothing,
    /// Somebody asked for it.
    #[error("cancelled")]
    Cancelled,
}

impl From<als::Cancelled> for ReplayError {
    fn from(_: als::Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Counters that are built again from the log.
#[derive(Debug, Default)]
pub struct Rebuild {
    counters: Counters,
    cursor: Cursor,
}

impl Rebuild {
    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts on up to `until`, or to the end of the log. `before` is told about every event before it is counted; `progress` the offset now and
    /// then.
    pub fn advance(
        &mut self,
        log_dir: &Path,
        until: Until,
        cancel: &AtomicBool,
        mut before: impl FnMut(&Counters, &Counted<'_>),
        mut progress: impl FnMut(u64),
    ) -> Result<(), ReplayError> {
        let Self { counters, cursor } = self;
        let mut outcome = Ok(true);
        reading::read_on(log_dir, cursor, counters.offset(), |head, items| {
            let begins_behind = match until {
                // A request to forget behind the last event belongs to it.
                Until::Offset(end) => head.first_offset > end || (head.first_offset == end && head.events > 0),
                Until::Time(time) => head.committed_micros > time,
            };
            if begins_behind || cancel.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            if head.events > 0 && head.end_offset() <= counters.offset() {
                return ControlFlow::Continue(());
            }
            // A record in whose middle the last reading ended is gone on with.
            let counted = counters.offset().saturating_sub(head.first_offset);
            counters.skip_to(head.first_offset + counted);
            outcome = count(counters, items, counted, until, &mut before);
            if counters.merge_is_due() {
                merge(counters);
            }
            progress(counters.offset());
            if matches!(outcome, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome?;
        if cancel.load(Ordering::Relaxed) { Err(ReplayError::Cancelled) } else { Ok(()) }
    }

    /// Trains a model on what was counted so far.
    pub fn train(
        &mut self,
        recipe: &Recipe,
        pool: &rayon::ThreadPool,
        cancel: &AtomicBool,
    ) -> Result<Model, ReplayError> {
        merge(&mut self.counters);
        let started = Instant::now();
        let base = Arc::clone(self.counters.base());
        if base.pairs() == 0 {
            return Err(ReplayError::Nothing);
        }
        let ids = self.counters.products().list().prefix(base.products());
        let kappa = pool.install(|| Kappa::compute(&base, &ids, recipe.also_bought, None, cancel));
        let lists = kappa.map_err(|_| ReplayError::Cancelled)?.table().clone();
        let mut model = recipe.train(&base, ids, lists, None, pool, cancel)?;
        model.about.seconds = started.elapsed().as_secs_f64();
        model.about.trained_at_micros = clock::now_micros();
        model.about.events = self.counters.offset();
        Ok(model)
    }
}

/// Counts the items of one record, those before `until`, without the first events that are counted already; tells whether it came to the end.
fn count(
    counters: &mut Counters,
    mut items: &[u8],
    mut counted: u64,
    until: Until,
    before: &mut impl FnMut(&Counters, &Counted<'_>),
) -> Result<bool, CountError> {
    while !items.is_empty() {
        let whole = items;
        let item = encoding::read(&mut items)?;
        let is_behind = matches!(until, Until::Offset(end) if counters.offset() >= end);
        match item {
            _ if counted > 0 => {
                counted -= u64::from(!matches!(item, Item::Forget(_)));
                continue;
            }
            Item::Event(_) | Item::Nothing if is_behind => return Ok(false),
            Item::Event(event) => before(counters, &event),
            Item::Forget(_) | Item::Nothing => {}
        }
        counters.apply(&whole[..whole.len() - items.len()])?;
    }
    Ok(true)
}

fn merge(counters: &mut Counters) {
    if let Some(job) = counters.freeze() {
        counters.install(job.run());
    }
}
