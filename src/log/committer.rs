//! Group commit: one thread that takes everything that waits, makes it durable with one sync, and says so; what arrives meanwhile is the next
//! group. So the busier the node, the more events share a sync, and an idle node answers after one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use super::writer::{Mark, Marks, WriteError, Writer};
use crate::clock;

/// A group is closed when it holds this many bytes of events, so that no acknowledgement waits for an endless one.
const MAX_GROUP_BYTES: usize = 4 << 20;
/// So many producers are remembered at most.
const MAX_PRODUCERS: usize = 1_000_000;

/// Events that arrived together, with whatever the caller wants back when they are durable.
#[derive(Debug)]
pub struct Entry<T> {
    /// The encoded events.
    pub events: Vec<u8>,
    /// How many they are.
    pub count: u64,
    /// Which lines of which producer they came in, where acknowledged lines are spoken.
    pub mark: Option<Mark>,
    /// Given back with the outcome.
    pub ticket: T,
}

/// What the thread is asked to do, in order.
#[derive(Debug)]
pub enum Command<T> {
    /// Make these events durable.
    Append(Entry<T>),
    /// End the window with this number behind all that was asked before.
    CloseWindow(u64),
    /// Tell how far a producer has come, once everything asked before is durable.
    Position {
        /// Whose position.
        producer: Arc<str>,
        /// Where to.
        reply: oneshot::Sender<Result<u64, Unplaced>>,
    },
    /// End the newest segment, if it holds an event.
    CloseSegment,
    /// Closed segments were made so many bytes shorter.
    Shrunk(u64),
    /// Tell the time, once everything asked before is durable: nothing is committed at an earlier time after that.
    Tick,
}

/// Why entries were not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unplaced {
    /// The producer's lines before them did not become durable.
    #[error("earlier lines of this connection were lost on the way; connect again and resume")]
    Gap,
    /// The log can't be written.
    #[error("{0}")]
    Log(Arc<WriteError>),
    /// Too many names.
    #[error("1000000 producers are known already; reuse a producer's name")]
    TooManyProducers,
}

/// One group, durable or not.
#[derive(Debug)]
pub struct Committed<T> {
    /// What is durable now, in the log's order.
    pub entries: Vec<Entry<T>>,
    /// What is not, and why.
    pub unplaced: Vec<(T, Unplaced)>,
    /// The window that ends behind the entries.
    pub window: Option<u64>,
    /// The end of a window was asked for and could not be written.
    pub window_refused: bool,
    /// The offset behind the entries.
    pub end_offset: u64,
    /// When, in microseconds since 1970 UTC, as the log says.
    pub committed_micros: i64,
    /// That the newest segment be ended was asked for: whether it was, or why not.
    pub closed_segment: Option<Result<(), String>>,
    /// Bytes of the whole log.
    pub log_bytes: u64,
    /// How long writing and syncing took.
    pub took: Duration,
    /// The log's state is unknown: the node must stop.
    pub broken: Option<Arc<WriteError>>,
}

/// The thread's handle. Dropping it lets the thread finish what was asked and waits for that.
#[derive(Debug)]
pub struct Committer<T> {
    commands: Option<Sender<Command<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Committer<T> {
    /// Starts the thread; at most `queue` commands wait. `done` is called on the thread with each group.
    pub fn start(
        writer: Writer,
        queue: usize,
        done: impl FnMut(Committed<T>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = crossbeam_channel::bounded(queue);
        let thread = thread::Builder::new().name("event-log".into()).spawn(move || run(writer, &receiver, done))?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Asks for something; gives it back when the thread is gone.
    pub fn ask(&self, command: Command<T>) -> Result<(), Command<T>> {
        match &self.commands {
            Some(commands) => commands.send(command).map_err(|error| error.0),
            None => Err(command),
        }
    }
}

impl<T> Drop for Committer<T> {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn run<T>(mut writer: Writer, commands: &Receiver<Command<T>>, mut done: impl FnMut(Committed<T>)) {
    while let Ok(first) = commands.recv() {
        let group = Group::gather(first, commands, &writer);
        let (committed, questions) = group.commit(&mut writer);
        let broken = committed.broken.is_some();
        done(committed);
        for (producer, reply) in questions {
            // A connection that does not wait any more needs no answer.
            let _ = reply.send(position(&writer, &producer));
        }
        if broken {
            return;
        }
    }
}

fn position(writer: &Writer, producer: &str) -> Result<u64, Unplaced> {
    match writer.marks().get(producer) {
        Some(&last) => Ok(last),
        None if writer.marks().len() >= MAX_PRODUCERS => Err(Unplaced::TooManyProducers),
        None => Ok(0),
    }
}

type Question = (Arc<str>, oneshot::Sender<Result<u64, Unplaced>>);

/// What is committed together.
struct Group<T> {
    entries: Vec<Entry<T>>,
    unplaced: Vec<(T, Unplaced)>,
    marks: Marks,
    questions: Vec<Question>,
    window: Option<u64>,
    close_segment: bool,
    shrunk: u64,
    bytes: usize,
}

impl<T> Group<T> {
    /// The first command and all that wait behind it, up to a full group or the end of a window.
    fn gather(first: Command<T>, commands: &Receiver<Command<T>>, writer: &Writer) -> Self {
        let mut group = Self {
            entries: Vec::new(),
            unplaced: Vec::new(),
            marks: Marks::new(),
            questions: Vec::new(),
            window: None,
            close_segment: false,
            shrunk: 0,
            bytes: 0,
        };
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append(entry) => group.append(entry, writer),
                Command::Position { producer, reply } => group.questions.push((producer, reply)),
                Command::CloseWindow(number) => group.window = Some(number),
                Command::CloseSegment => group.close_segment = true,
                Command::Shrunk(bytes) => group.shrunk += bytes,
                Command::Tick => {}
            }
            let open = group.window.is_none() && group.bytes < MAX_GROUP_BYTES;
            next = if open { commands.try_recv().ok() } else { None };
        }
        group
    }

    fn append(&mut self, entry: Entry<T>, writer: &Writer) {
        if let Some(mark) = &entry.mark {
            let continues = match self.marks.get(&mark.producer) {
                Some(&last) => last == mark.after,
                None => writer.continues(mark),
            };
            if !continues {
                self.unplaced.push((entry.ticket, Unplaced::Gap));
                return;
            }
            self.marks.insert(Arc::clone(&mark.producer), mark.last);
        }
        self.bytes += entry.events.len();
        self.entries.push(entry);
    }

    fn commit(mut self, writer: &mut Writer) -> (Committed<T>, Vec<Question>) {
        let started = Instant::now();
        let committed_micros = clock::now_micros();
        let mut broken = None;
        let mut window_refused = false;
        if !self.entries.is_empty() || self.window.is_some() {
            let events = self.entries.iter().map(|entry| entry.count).sum();
            let parts = self.entries.iter().map(|entry| entry.events.as_slice());
            if let Err(error) = writer.commit(events, parts, &self.marks, self.window, committed_micros) {
                tracing::error!("{error}: nothing of this commit is acknowledged");
                let error = Arc::new(error);
                broken = matches!(*error, WriteError::Unknown { .. }).then(|| Arc::clone(&error));
                let refused = self.entries.drain(..).map(|entry| (entry.ticket, Unplaced::Log(Arc::clone(&error))));
                self.unplaced.extend(refused);
                window_refused = self.window.take().is_some();
            }
        }
        writer.shrink(self.shrunk);
        let closed_segment = self.close_segment.then(|| writer.close_segment().map_err(|error| error.to_string()));
        let committed = Committed {
            entries: self.entries,
            unplaced: self.unplaced,
            window: self.window,
            window_refused,
            end_offset: writer.offset(),
            committed_micros,
            closed_segment,
            log_bytes: writer.bytes(),
            took: started.elapsed(),
            broken,
        };
        (committed, self.questions)
    }
}
