//! What Counter has to do with the lambda view: it knows which events belong to a stream window, and when everything is to be counted again. Who
//! wants all interests for something else gets them in the same way.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use super::{Counter, Stage};
use crate::actors::messages::{CountPairs, Layer, StartBatch, TakeSnapshot};
use crate::actors::port::Envelope;
use crate::also_bought::lambda::Batch;
use crate::clock;
use crate::config::Merge;
use crate::interests::counters::Counters;
use crate::log::committer::Command;
use crate::store::checkpoint::Frozen;

/// What is to be counted over all interests, as soon as they are merged.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// The batch view, and who waits for it.
    batch: Option<Vec<oneshot::Sender<u64>>>,
    /// What batch and later events are together.
    pub(super) sum: bool,
    /// Who wants the interests themselves.
    snapshots: Vec<oneshot::Sender<Frozen>>,
}

/// How often the log is asked for the time: often enough that a stream window is not served late by much of its own length.
pub(super) fn tick_every(stream_every: Duration) -> Duration {
    (stream_every / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

impl Due {
    pub(super) fn any(&self) -> bool {
        self.batch.is_some() || self.sum || !self.snapshots.is_empty()
    }
}

impl Counter {
    /// At start: counts what no restart keeps, and the batch that came due meanwhile.
    pub(super) fn start_pairs(&mut self, context: &mut Context<Self>) {
        if self.counters.read(Counters::offset) == 0 {
            return;
        }
        let lambda = self.around.served.lambda();
        let every = i64::try_from(self.around.config.lambda.batch_every.as_micros()).unwrap_or(i64::MAX);
        let age = |batch: &Batch| clock::now_micros().saturating_sub(batch.computed_micros);
        if lambda.batch.as_ref().is_none_or(|batch| age(batch) >= every) {
            self.pairs_due.batch.get_or_insert_default();
        }
        self.pairs_due.sum |= self.around.config.lambda.merge == Merge::Sum;
        if self.pairs_due.any() {
            self.merge_for_pairs(context);
        }
    }

    /// What follows was committed at this time or later: hands on the stream window that ends by that.
    pub(super) fn advance_stream(&mut self, committed_micros: i64, context: &mut Context<Self>) {
        let Some(ended) = self.stream.advance(committed_micros) else { return };
        let offset = self.counters.read(Counters::offset);
        match self.around.config.lambda.merge {
            Merge::Talk => self.count_pairs(Layer::Stream(ended), offset, Vec::new(), context),
            Merge::Sum => {
                self.pairs_due.sum = true;
                self.merge_for_pairs(context);
            }
        }
    }

    /// Asks the log for the time: only it knows that nothing is committed at an earlier one any more.
    pub(super) fn tick(&mut self, _: &mut Context<Self>) {
        if !self.stream.is_empty() {
            self.ask_log(Command::Tick);
        }
    }

    /// Counts everything for the batch view.
    pub(super) fn start_batch(&mut self, waiters: Vec<oneshot::Sender<u64>>, context: &mut Context<Self>) {
        self.pairs_due.batch.get_or_insert_default().extend(waiters);
        self.merge_for_pairs(context);
    }

    fn merge_for_pairs(&mut self, context: &mut Context<Self>) {
        if matches!(self.stage, Stage::Counting) {
            self.merge(None, context);
        }
    }

    /// The interests are merged: tells who waits for them, and Trainer what to count over them.
    pub(super) fn count_due(&self, due: Due, frozen: &Frozen, context: &mut Context<Self>) {
        for snapshot in due.snapshots {
            // Whoever asked may have gone.
            let _ = snapshot.send(frozen.clone());
        }
        let (base, offset) = (&frozen.base, frozen.offset);
        if let Some(waiters) = due.batch {
            self.count_pairs(Layer::Batch(base.clone()), offset, waiters, context);
        }
        if due.sum {
            self.count_pairs(Layer::Sum(base.clone()), offset, Vec::new(), context);
        }
    }

    pub(super) fn count_pairs(
        &self,
        layer: Layer,
        offset: u64,
        waiters: Vec<oneshot::Sender<u64>>,
        context: &mut Context<Self>,
    ) {
        let port = self.around.count_pairs.clone();
        let count = CountPairs { layer, offset, waiters };
        context.spawn(async move { port.deliver(count).await }.into_actor(self));
    }
}

impl Handler<Envelope<TakeSnapshot>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<TakeSnapshot>, context: &mut Self::Context) {
        self.pairs_due.snapshots.push(envelope.message.reply);
        self.merge_for_pairs(context);
    }
}

impl Handler<Envelope<StartBatch>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<StartBatch>, context: &mut Self::Context) {
        self.start_batch(envelope.message.reply.into_iter().collect(), context);
    }
}
