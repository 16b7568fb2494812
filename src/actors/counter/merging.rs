//! Counter's second half: from what is counted to an immutable base, and from there to a checkpoint. Both happen on threads of their own, while
//! counting goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use super::{Counter, Merging, Stage};
use crate::actors::messages::{Checkpoint, Closed, Train};
use crate::actors::port::Envelope;
use crate::actors::worker::Panicked;
use crate::interests::base::Base;
use crate::interests::counters::Counters;
use crate::store::checkpoint::{Changes, Frozen};
use crate::store::{StoreError, pages};
use crate::window::ClosedWindow;

/// From the merging thread: the next base.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Merged(Result<(Arc<Base>, Vec<u32>), Panicked>);

/// From the checkpoint thread: it is written, or not and what it would have held.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Saved {
    outcome: Result<Result<(), StoreError>, Panicked>,
    changes: Changes,
    number: u64,
}

impl Counter {
    /// Merges what was counted so far, on the merging thread.
    pub(super) fn merge(
        &mut self,
        window: Option<(ClosedWindow, Vec<oneshot::Sender<Closed>>)>,
        context: &mut Context<Self>,
    ) {
        let Some(job) = self.counters.write().freeze() else { return };
        let pairs = std::mem::take(&mut self.pairs_due);
        self.stage = Stage::Merging(Merging { window, marks: self.marks.clone(), offset: job.offset, pairs });
        let address = context.address();
        let run = move || {
            let mut pages: Vec<u32> = job.touched_users().map(|user| user / pages::USERS).collect();
            pages.dedup();
            (job.run(), pages)
        };
        self.merges.run(run, move |merged| {
            // An actor that died meanwhile is built anew from the log.
            let _ = address.try_send(Merged(merged));
        });
    }

    /// Does what waited for the merge to end.
    fn go_on(&mut self, context: &mut Context<Self>) {
        if let Some(waiters) = self.next_window.take() {
            self.close_window(waiters);
        } else if self.may_save() || self.pairs_due.any() || self.merge_is_due() {
            self.merge(None, context);
        }
    }

    pub(super) fn merge_is_due(&self) -> bool {
        self.counters.read(Counters::merge_is_due)
    }

    fn may_save(&self) -> bool {
        self.checkpoint_due && !self.saving
    }

    /// Sees to it that all that was counted is in the store, as soon as no window or merge is under way.
    pub(super) fn checkpoint(&mut self, context: &mut Context<Self>) {
        let same = self.counters.read(Counters::offset) == self.saved_offset;
        if same && self.changes.forgotten.is_empty() && self.changes.pages.is_empty() {
            self.tell_checkpoint_waiters();
            return;
        }
        self.checkpoint_due = true;
        if self.may_save() && matches!(self.stage, Stage::Counting) {
            self.merge(None, context);
        }
    }

    /// The same now and then, for a quicker start. Where others still read this base, a training above all, the next merge will do, at a window's end
    /// for example: yet another base beside this one would be eight bytes an interest more.
    pub(super) fn checkpoint_now_and_then(&mut self, context: &mut Context<Self>) {
        if self.counters.read(|counters| Arc::strong_count(counters.base()) > 1) {
            self.checkpoint_due = true;
        } else {
            self.checkpoint(context);
        }
    }

    fn tell_checkpoint_waiters(&mut self) {
        for waiter in self.checkpoint_waiters.drain(..) {
            let _ = waiter.send(());
        }
    }

    /// Writes the base that a merge just made.
    fn save(&mut self, frozen: Frozen, context: &mut Context<Self>) {
        let (base, offset) = (&frozen.base, frozen.offset);
        (self.checkpoint_due, self.saving) = (false, true);
        self.saves += 1;
        let number = self.saves;
        self.saved_offset = offset;
        let after = Changes {
            pages: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            users_before: base.users() as u32,
            products_before: base.products() as u32,
        };
        let changes = std::mem::replace(&mut self.changes, after);
        let (store, counters, metrics) =
            (self.around.store.clone(), self.counters.clone(), Arc::clone(&self.around.metrics));
        let address = context.address();
        let written = changes.clone();
        let run = move || {
            let _timer = metrics.checkpoint_seconds.start_timer();
            store.save_counters(&frozen, &written, |write| {
                counters.read(|counters| write(counters.users(), counters.products()));
            })
        };
        self.checkpoints.run(run, move |outcome| {
            let _ = address.try_send(Saved { outcome, changes, number });
        });
    }
}

impl Handler<Merged> for Counter {
    type Result = ();

    fn handle(&mut self, Merged(merged): Merged, context: &mut Self::Context) {
        let Stage::Merging(merging) = std::mem::replace(&mut self.stage, Stage::Counting) else { return };
        let (base, pages) = match merged {
            Ok(merged) => merged,
            Err(panicked) => {
                self.stop_node(format!("merging {panicked}"));
                return;
            }
        };
        let replaced = self.counters.write().install(Arc::clone(&base));
        // Freeing hundreds of megabytes takes its time.
        self.merges.run(move || drop(replaced), |_| ());
        self.changes.pages.extend(pages);
        self.around.metrics.interests.set(base.pairs() as i64);
        let Merging { window, marks, offset, pairs } = merging;
        let (last_window, window_offset) = (self.window, self.window_offset);
        let frozen = Frozen { base: Arc::clone(&base), marks, window: last_window, window_offset, offset };
        self.count_due(pairs, &frozen, context);
        if self.may_save() {
            self.save(frozen, context);
        }
        if let Some((window, waiters)) = window {
            let port = self.around.train.clone();
            context.spawn(async move { port.deliver(Train { window, base, waiters }).await }.into_actor(self));
        }
        self.go_on(context);
    }
}

impl Handler<Saved> for Counter {
    type Result = ();

    fn handle(&mut self, Saved { outcome, changes, number }: Saved, context: &mut Self::Context) {
        let problem = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panicked) => Some(panicked.to_string()),
        };
        if let Some(problem) = &problem {
            tracing::error!(
                "cannot write a checkpoint: {problem}; the event log has everything, the next start reads more of it"
            );
            self.changes.pages.extend(changes.pages);
            self.changes.forgotten.extend(changes.forgotten);
            self.changes.users_before = changes.users_before;
            self.changes.products_before = changes.products_before;
            self.saved_offset = 0;
        }
        self.saving = false;
        if !self.checkpoint_due {
            self.tell_checkpoint_waiters();
        } else if matches!(self.stage, Stage::Counting) {
            // Another was asked for after this one had begun.
            self.merge(None, context);
        }
        self.compact_after_checkpoint(number, problem.map_or(Ok(()), Err), context);
    }
}

impl Handler<Envelope<Checkpoint>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Checkpoint>, context: &mut Self::Context) {
        self.checkpoint_waiters.push(envelope.message.reply);
        self.checkpoint(context);
    }
}
