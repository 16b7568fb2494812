//! The ends of windows: asked for, written into the log, and handed on.

use actix::{Context, Handler};
use tokio::sync::oneshot;

use super::{Counter, Stage};
use crate::actors::messages::{CloseWindow, Closed, TrainAgain};
use crate::actors::port::Envelope;
use crate::clock;
use crate::interests::counters::Counters;
use crate::log::committer::Command;
use crate::window::ClosedWindow;

impl Counter {
    /// Ends the window behind all that was appended so far, or says that there is nothing to end.
    pub(super) fn close_window(&mut self, waiters: Vec<oneshot::Sender<Closed>>) {
        if !matches!(self.stage, Stage::Counting) {
            self.next_window.get_or_insert_default().extend(waiters);
            return;
        }
        let offset = self.counters.read(Counters::offset);
        let served = self.around.served.model().map_or(0, |model| model.about.window);
        // Who waits for a model gets another window while the last one's is still being trained.
        let awaited = !waiters.is_empty() && served < self.window;
        if offset == self.window_offset && !self.stale && !awaited {
            self.around.metrics.windows.empty.inc();
            tracing::debug!("no new events since window {}: nothing is trained", self.window);
            let generation = self.around.served.model().map_or(0, |model| model.about.generation);
            for waiter in waiters {
                let _ = waiter.send(Closed::Empty { window: self.window, generation });
            }
            return;
        }
        self.stage = Stage::Closing(waiters);
        self.ask_log(Command::CloseWindow(self.window + 1));
    }

    /// The window's end has come out of the log.
    pub(super) fn end_window(&mut self, number: u64, end_offset: u64, context: &mut Context<Self>) {
        let Stage::Closing(waiters) = std::mem::replace(&mut self.stage, Stage::Counting) else { return };
        let events = end_offset - self.window_offset;
        let window = ClosedWindow { number, closed_at_micros: clock::now_micros(), events, offset: end_offset };
        (self.window, self.window_offset, self.stale) = (number, end_offset, false);
        self.merge(Some((window, waiters)), context);
    }
}

impl Handler<Envelope<CloseWindow>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<CloseWindow>, _: &mut Self::Context) {
        self.close_window(envelope.message.reply.into_iter().collect());
    }
}

impl Handler<Envelope<TrainAgain>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<TrainAgain>, _: &mut Self::Context) {
        self.stale = self.window_offset > 0;
        if envelope.message.at_once {
            self.close_window(Vec::new());
        }
    }
}
