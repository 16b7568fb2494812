//! Taking forgotten users' events out of the log, one step after the other: a checkpoint that knows of the requests to forget is made durable, for
//! they go out of the log too; the newest file is closed; then all closed ones are compacted, on a thread of its own.

use std::path::PathBuf;

use actix::{AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::{Counter, Stage};
use crate::actors::messages::Compact;
use crate::actors::port::Envelope;
use crate::actors::worker::{Panicked, Worker};
use crate::log::committer::Command;
use crate::log::compaction::{self, Compacted};
use crate::log::reading::ReadError;
use crate::recover::LOG_DIR;

type Waiter = oneshot::Sender<Result<Compacted, String>>;

/// Where compacting stands.
#[derive(Debug)]
pub(super) struct Compacting {
    pub(super) worker: Worker,
    step: Step,
    waiters: Vec<Waiter>,
    /// Another one is asked for, and by whom.
    next: Option<Vec<Waiter>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Idle,
    /// Until the checkpoint of this number is written.
    Checkpoint(u64),
    /// Until the newest file is closed.
    Closing,
    Compacting,
}

/// From the compacting thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Done(Result<Result<Compacted, ReadError>, Panicked>);

impl Compacting {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { worker: Worker::start("compact")?, step: Step::Idle, waiters: Vec::new(), next: None })
    }
}

impl Counter {
    /// Compacts where there may be something to take out.
    pub(super) fn compact_if_needed(&mut self, context: &mut Context<Self>) {
        if self.counters.read(|counters| counters.users().forgotten()) > 0 {
            self.compacting.next.get_or_insert_default();
            self.begin_compaction(context);
        }
    }

    fn begin_compaction(&mut self, context: &mut Context<Self>) {
        if self.compacting.step != Step::Idle {
            return;
        }
        let Some(waiters) = self.compacting.next.take() else { return };
        self.compacting.waiters = waiters;
        // One that begins from here on.
        self.compacting.step = Step::Checkpoint(self.saves + 1);
        self.checkpoint_due = true;
        if !self.saving && matches!(self.stage, Stage::Counting) {
            self.merge(None, context);
        }
    }

    /// A checkpoint is written, or why it is not.
    pub(super) fn compact_after_checkpoint(
        &mut self,
        number: u64,
        written: Result<(), String>,
        context: &mut Context<Self>,
    ) {
        if !matches!(self.compacting.step, Step::Checkpoint(awaited) if number >= awaited) {
            return;
        }
        match written {
            Ok(()) => {
                self.compacting.step = Step::Closing;
                self.ask_log(Command::CloseSegment);
            }
            Err(error) => self.end_compaction(&Err(error), context),
        }
    }

    /// The newest file was closed, or why it was not.
    pub(super) fn compact_closed(&mut self, closed: Result<(), String>, context: &mut Context<Self>) {
        if self.compacting.step != Step::Closing {
            return;
        }
        if let Err(error) = closed {
            self.end_compaction(&Err(error), context);
            return;
        }
        self.compacting.step = Step::Compacting;
        let dir: PathBuf = self.around.config.data.dir.join(LOG_DIR);
        let address = context.address();
        let job = move || {
            // What sled wrote is only with the operating system so far, and about to be all that knows of the requests.
            rustix::fs::sync();
            compaction::compact(&dir)
        };
        self.compacting.worker.run(job, move |done| {
            // An actor that died meanwhile compacts another time.
            let _ = address.try_send(Done(done));
        });
    }

    fn end_compaction(&mut self, outcome: &Result<Compacted, String>, context: &mut Context<Self>) {
        match outcome {
            Ok(compacted) => {
                tracing::info!("compacted: {} events of forgotten users are out of the log", compacted.events);
            }
            Err(error) => tracing::error!("cannot compact the event log: {error}"),
        }
        self.compacting.step = Step::Idle;
        for waiter in self.compacting.waiters.drain(..) {
            let _ = waiter.send(outcome.clone());
        }
        self.begin_compaction(context);
    }
}

impl Handler<Envelope<Compact>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Compact>, context: &mut Self::Context) {
        self.compacting.next.get_or_insert_default().push(envelope.message.reply);
        self.begin_compaction(context);
    }
}

impl Handler<Done> for Counter {
    type Result = ();

    fn handle(&mut self, Done(done): Done, context: &mut Self::Context) {
        let outcome = match done {
            Ok(Ok(compacted)) => {
                self.ask_log(Command::Shrunk(compacted.bytes));
                Ok(compacted)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(panicked) => Err(panicked.to_string()),
        };
        self.end_compaction(&outcome, context);
    }
}
