//! Taking forgotten users' events out of the log: the newest file is closed first, then all closed ones are compacted, on a thread of its own.

use std::path::PathBuf;

use actix::{AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::Counter;
use crate::actors::messages::Compact;
use crate::actors::port::Envelope;
use crate::actors::worker::{Panicked, Worker};
use crate::log::committer::Command;
use crate::log::compaction::{self, Compacted};
use crate::log::reading::ReadError;
use crate::recover::LOG_DIR;

/// Where compacting stands.
#[derive(Debug)]
pub(super) struct Compacting {
    pub(super) worker: Worker,
    waiters: Vec<oneshot::Sender<Result<Compacted, String>>>,
    running: bool,
}

/// From the compacting thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Done(Result<Result<Compacted, ReadError>, Panicked>);

impl Compacting {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { worker: Worker::start("compact")?, waiters: Vec::new(), running: false })
    }
}

impl Counter {
    /// Compacts where there may be something to take out.
    pub(super) fn compact_if_needed(&mut self, _: &mut Context<Self>) {
        if self.counters.read(|counters| counters.users().forgotten()) > 0 {
            self.ask_log(Command::CloseSegment);
        }
    }

    /// The newest file was closed.
    pub(super) fn compact(&mut self, context: &mut Context<Self>) {
        if self.compacting.running {
            return;
        }
        self.compacting.running = true;
        let dir: PathBuf = self.around.config.data.dir.join(LOG_DIR);
        let address = context.address();
        self.compacting.worker.run(
            move || compaction::compact(&dir),
            move |done| {
                // An actor that died meanwhile compacts another time.
                let _ = address.try_send(Done(done));
            },
        );
    }
}

impl Handler<Envelope<Compact>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Compact>, _: &mut Self::Context) {
        self.compacting.waiters.push(envelope.message.reply);
        self.ask_log(Command::CloseSegment);
    }
}

impl Handler<Done> for Counter {
    type Result = ();

    fn handle(&mut self, Done(done): Done, _: &mut Self::Context) {
        self.compacting.running = false;
        let outcome = match done {
            Ok(Ok(compacted)) => {
                self.ask_log(Command::Shrunk(compacted.bytes));
                tracing::info!("compacted: {} events of forgotten users are out of the log", compacted.events);
                Ok(compacted)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(panicked) => Err(panicked.to_string()),
        };
        if let Err(error) = &outcome {
            tracing::error!("cannot compact the event log: {error}");
        }
        for waiter in self.compacting.waiters.drain(..) {
            let _ = waiter.send(outcome.clone());
        }
    }
}
