//! Counter: makes events durable, counts them, and ends windows.
//!
//! Owns the counters (it is their only writer), the thread that commits to the event log, and the checkpoints. Is told to append events and to
//! close windows; tells Trainer what to train on. An event is first durable, then counted, then acknowledged; where a window ends is a record
//! in the log, so the log alone decides which events belong to it.

mod compaction;
mod forget;
mod merging;
mod pairs;
mod windows;

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use self::compaction::Compacting;
use self::forget::Forgotten;
use self::pairs::Due;
use super::messages::{Append, Closed, CountPairs, NotCounted, Position, Ticket, Train};
use super::port::{Envelope, Port};
use super::shared::{Live, Served, Writable};
use super::worker::Worker;
use crate::also_bought::lambda::Stream;
use crate::config::Config;
use crate::interests::counters::CountError;
use crate::log::committer::{Command, Committed, Committer, Entry};
use crate::log::writer::{Marks, Writer};
use crate::metrics::{Listener, Metrics};
use crate::recover::Recovered;
use crate::store::Store;
use crate::store::checkpoint::{Changes, State};
use crate::window::ClosedWindow;

/// What Counter works with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Settings.
    pub config: Arc<Config>,
    /// Where readers see the counters.
    pub live: Arc<Live>,
    /// What is served, to know whether it is up to date.
    pub served: Arc<Served>,
    /// Where checkpoints go.
    pub store: Store,
    /// Where the end of a window is told.
    pub train: Port<Train>,
    /// Where pairs of products are counted.
    pub count_pairs: Port<CountPairs>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Messages that can wait.
    pub mailbox: usize,
    /// Told what makes it impossible to go on.
    pub fatal: tokio::sync::mpsc::Sender<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Counter {
    around: Surroundings,
    counters: Writable,
    marks: Marks,
    /// The last window that was closed.
    window: u64,
    /// The offset at its end.
    window_offset: u64,
    /// The served model does not know the last window.
    stale: bool,
    stage: Stage,
    /// Who waits for the window that is asked for while another is being closed or merged.
    next_window: Option<Vec<oneshot::Sender<Closed>>>,
    /// The stream window in progress.
    stream: Stream,
    pairs_due: Due,
    /// What the next checkpoint must write.
    changes: Changes,
    /// Events in the last checkpoint.
    saved_offset: u64,
    /// Checkpoints begun.
    saves: u64,
    /// One is being written. Another must wait for how it ends: if it fails, what it would have held belongs into the next.
    saving: bool,
    checkpoint_due: bool,
    checkpoint_waiters: Vec<oneshot::Sender<()>>,
    writer: Option<Writer>,
    // The threads end before the line below tells that the actor has ended.
    committer: Option<Committer<Tagged>>,
    merges: Worker,
    compacting: Compacting,
    checkpoints: Worker,
    _ended: oneshot::Sender<()>,
}

/// Where closing a window or merging stands: one at a time.
#[derive(Debug)]
enum Stage {
    Counting,
    /// The end of a window is on its way through the log.
    Closing(Vec<oneshot::Sender<Closed>>),
    /// What was counted up to some offset is being merged.
    Merging(Merging),
}

#[derive(Debug)]
struct Merging {
    /// The window at whose end it is, and who waits for it.
    window: Option<(ClosedWindow, Vec<oneshot::Sender<Closed>>)>,
    marks: Marks,
    offset: u64,
    pairs: Due,
}

type Tagged = (Ticket, Listener);

/// From the log's thread: a group was committed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Durable(Committed<Tagged>);

impl Counter {
    /// A counter that goes on from what was recovered from store and log.
    pub fn new(around: Surroundings, recovered: Recovered, ended: oneshot::Sender<()>) -> std::io::Result<Self> {
        let Recovered { state, saved_offset, changes, writer, stream, forgotten, .. } = recovered;
        let State { counters, marks, window, window_offset } = state;
        let offset = counters.offset();
        let served_window = around.served.model().map_or(0, |model| model.about.window);
        around.metrics.log_bytes.set(writer.bytes() as i64);
        around.metrics.users.set((counters.users().len() - counters.users().forgotten()) as i64);
        around.metrics.products.set(counters.products().len() as i64);
        around.metrics.interests.set(counters.base().pairs() as i64);
        Ok(Self {
            counters: around.live.replace(counters),
            marks,
            window,
            window_offset,
            stale: offset > 0 && (forgotten || served_window < window.max(1)),
            stage: Stage::Counting,
            next_window: None,
            stream,
            pairs_due: Due::default(),
            changes,
            saved_offset,
            saves: 0,
            saving: false,
            checkpoint_due: false,
            checkpoint_waiters: Vec::new(),
            writer: Some(writer),
            committer: None,
            merges: Worker::start("merge")?,
            compacting: Compacting::new()?,
            checkpoints: Worker::start("checkpoint")?,
            around,
            _ended: ended,
        })
    }

    fn ask_log(&self, command: Command<Tagged>) {
        // Without a log thread the tickets and replies in the command are dropped, which tells who waits for them.
        if let Some(committer) = &self.committer {
            let _ = committer.ask(command);
        }
    }

    /// Counts what became durable, then acknowledges it.
    fn count(&mut self, entries: Vec<Entry<Tagged>>, context: &mut Context<Self>) -> Result<(), CountError> {
        let mut counters = self.counters.write();
        let mut forgotten = Forgotten::default();
        for entry in &entries {
            let (stream, forgotten) = (&mut self.stream, &mut forgotten);
            counters.apply_each(&entry.events, |applied| Self::take(stream, forgotten, applied))?;
        }
        self.around.metrics.users.set((counters.users().len() - counters.users().forgotten()) as i64);
        self.around.metrics.products.set(counters.products().len() as i64);
        drop(counters);
        self.forget(forgotten, context);
        for Entry { count, mark, ticket: (ticket, source), .. } in entries {
            if let Some(mark) = mark {
                self.marks.insert(mark.producer, mark.last);
            }
            self.around.metrics.events_accepted.of(source).inc_by(count);
            self.around.metrics.event_to_servable_seconds.observe(ticket.arrived.elapsed().as_secs_f64());
            // A connection that ended meanwhile needs no answer.
            let _ = ticket.done.send(Ok(()));
        }
        Ok(())
    }

    fn stop_node(&self, reason: String) {
        tracing::error!("{reason}");
        // The channel is only full when the node is stopping already.
        let _ = self.around.fatal.try_send(reason);
    }
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(self.around.mailbox);
        let address = context.address();
        let done = move |committed| {
            // An actor that died meanwhile reads it from the log again.
            let _ = address.try_send(Durable(committed));
        };
        let started = self.writer.take().map(|writer| Committer::start(writer, self.around.mailbox, done));
        match started {
            Some(Ok(committer)) => self.committer = Some(committer),
            Some(Err(error)) => self.stop_node(format!("cannot start the event log's thread: {error}")),
            None => {}
        }
        context.run_interval(self.around.config.window.every, |counter, _| counter.close_window(Vec::new()));
        context.run_interval(self.around.config.checkpoint.every, |counter, context| {
            counter.checkpoint_now_and_then(context);
        });
        context.run_interval(self.around.config.event_log.compact_every, Self::compact_if_needed);
        context.run_interval(pairs::tick_every(self.around.config.lambda.stream_every), Self::tick);
        context.run_interval(self.around.config.lambda.batch_every, |counter, context| {
            counter.start_batch(Vec::new(), context);
        });
        if self.stale {
            self.close_window(Vec::new());
        }
        self.start_pairs(context);
    }
}

impl Handler<Envelope<Append>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Append>, _: &mut Self::Context) {
        fail::fail_point!("counter::append");
        let Append { events, count, source, mark, ticket } = envelope.message;
        self.ask_log(Command::Append(Entry { events, count, mark, ticket: (ticket, source) }));
    }
}

impl Handler<Envelope<Position>> for Counter {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Position>, _: &mut Self::Context) {
        let Position { producer, reply } = envelope.message;
        self.ask_log(Command::Position { producer, reply });
    }
}

impl Handler<Durable> for Counter {
    type Result = ();

    fn handle(&mut self, Durable(committed): Durable, context: &mut Self::Context) {
        fail::fail_point!("counter::durable");
        let metrics = &self.around.metrics;
        if !committed.entries.is_empty() {
            metrics.commit_seconds.observe(committed.took.as_secs_f64());
            metrics.commit_events.observe(committed.entries.iter().map(|entry| entry.count).sum::<u64>() as f64);
        }
        metrics.log_bytes.set(committed.log_bytes as i64);
        if let Some(closed) = committed.closed_segment {
            self.compact_closed(closed, context);
        }
        for ((ticket, _), reason) in committed.unplaced {
            let _ = ticket.done.send(Err(NotCounted::Unplaced(reason)));
        }
        self.advance_stream(committed.committed_micros, context);
        if let Err(error) = self.count(committed.entries, context) {
            // What is durable can't be counted: going on would acknowledge what no answer ever shows.
            self.stop_node(format!("cannot count: {error}"));
            context.stop();
            return;
        }
        if committed.window_refused
            && let Stage::Closing(waiters) = std::mem::replace(&mut self.stage, Stage::Counting)
        {
            for waiter in waiters {
                let error = "the event log could not be written".to_owned();
                let _ = waiter.send(Closed::Failed { window: self.window + 1, error });
            }
        }
        if let Some(error) = committed.broken {
            self.stop_node(format!("{error}: restart to find out what is on the disk"));
            context.stop();
        } else if let Some(number) = committed.window {
            self.end_window(number, committed.end_offset, context);
        } else if matches!(self.stage, Stage::Counting) && self.merge_is_due() {
            self.merge(None, context);
        }
    }
}
