//! Everything that actors say to each other and that the server says to them: plain data.
//!
//! No message has a result of its own: who wants an answer puts a [`oneshot::Sender`] in. If the actor dies before it answers, the sender is
//! dropped, and the asker knows.

mod pairs;

use std::sync::Arc;
use std::time::Instant;

use actix::Message;
use tokio::sync::oneshot;

pub use self::pairs::{CountPairs, Layer, NewLayer, PublishLayer, StartBatch};
use super::budget::Share;
use crate::interests::base::Base;
use crate::log::committer::Unplaced;
use crate::log::compaction::Compacted;
use crate::log::writer::Mark;
use crate::metrics::Listener;
use crate::model::Model;
use crate::protocol::batch::Batch;
use crate::protocol::session::TAKEN_OVER;
use crate::store::checkpoint::Frozen;
use crate::training::Recipe;
use crate::window::{ClosedWindow, Outcome, WindowReport};

/// Why events were not counted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotCounted {
    /// A newer connection uses the producer's name.
    #[error("{TAKEN_OVER}")]
    TakenOver,
    /// The log did not take them.
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    /// An actor died with them on its hands.
    #[error("an internal failure interrupted these events; connect again and resume")]
    Interrupted,
}

/// To Ingest: a connection introduces a producer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Introduce {
    /// The producer's name.
    pub producer: Arc<str>,
    /// A number that no other connection has.
    pub connection: u64,
    /// Told when another connection takes the name over.
    pub evict: oneshot::Sender<()>,
    /// The number of the producer's last durable line.
    pub reply: oneshot::Sender<Result<u64, Unplaced>>,
}

/// To Ingest: a connection that introduced a producer has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// The producer's name.
    pub producer: Arc<str>,
    /// The connection.
    pub connection: u64,
}

/// To Ingest: lines that arrived together.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// Their events and refusals.
    pub batch: Batch,
    /// Where they came in.
    pub source: Listener,
    /// Which lines of which producer they are, and on which connection; `None` for plain lines and requests.
    pub lines: Option<(Mark, u64)>,
    /// Given back when they are counted.
    pub ticket: Ticket,
}

/// What travels with events until they are counted.
#[derive(Debug)]
pub struct Ticket {
    /// When their bytes were read.
    pub arrived: Instant,
    /// Their share of the in-flight budget.
    pub share: Share,
    /// Told when they are durable and counted, or why they are not.
    pub done: oneshot::Sender<Result<(), NotCounted>>,
}

/// To Counter: make these events durable, count them, tell the ticket.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The encoded events.
    pub events: Vec<u8>,
    /// How many they are.
    pub count: u64,
    /// Where they came in.
    pub source: Listener,
    /// Which lines of which producer they came in.
    pub mark: Option<Mark>,
    /// Given back when they are counted.
    pub ticket: Ticket,
}

/// To Counter: how far has this producer come, once everything before is durable?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Position {
    /// The producer's name.
    pub producer: Arc<str>,
    /// The number of its last durable line.
    pub reply: oneshot::Sender<Result<u64, Unplaced>>,
}

/// What became of a request to close the window.
#[derive(Debug, Clone)]
pub enum Closed {
    /// A model of it is served.
    Trained {
        /// The window's number.
        window: u64,
        /// The model's number.
        generation: u64,
    },
    /// Nothing had happened since the last window, which the served model knows.
    Empty {
        /// The last window's number, 0 before the first.
        window: u64,
        /// The served model's number, 0 before the first.
        generation: u64,
    },
    /// The training failed.
    Failed {
        /// The window's number.
        window: u64,
        /// Why.
        error: String,
    },
}

/// To Counter: close the window now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseWindow {
    /// Told when the window's model is served, or why there is none.
    pub reply: Option<oneshot::Sender<Closed>>,
}

/// To Counter: the last window's model is lost; another window must be closed though nothing happened since.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TrainAgain {
    /// Now, or else when the next is due.
    pub at_once: bool,
}

/// To Counter: no more events will come; write a checkpoint.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Checkpoint {
    /// Told when it is written, or could not be.
    pub reply: oneshot::Sender<()>,
}

/// To Trainer: train on these interests.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Train {
    /// The window that ended.
    pub window: ClosedWindow,
    /// All interests as of its end.
    pub base: Arc<Base>,
    /// Who waits for the window's model.
    pub waiters: Vec<oneshot::Sender<Closed>>,
}

/// To Counter: all interests as of now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// Told the interests, when they are merged.
    pub reply: oneshot::Sender<Frozen>,
}

/// To Counter: take forgotten users' events out of the log now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Compact {
    /// Told what was done, or why it could not be.
    pub reply: oneshot::Sender<Result<Compacted, String>>,
}

/// To Trainer: give up the training under way; no other follows.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopTraining {
    /// Told when nothing runs any more.
    pub reply: oneshot::Sender<()>,
}

/// To Publisher: swap this model in.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Publish {
    /// The model; its generation is set by the publisher.
    pub model: Box<Model>,
    /// How it was made.
    pub recipe: Arc<Recipe>,
    /// The window it was trained at the end of.
    pub window: ClosedWindow,
    /// Who waits for it.
    pub waiters: Vec<oneshot::Sender<Closed>>,
}

/// To Publisher: make these settings the running ones, and swap their model in.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Promote {
    /// The model; without one, the next window's is the first.
    pub model: Option<Box<Model>>,
    /// The settings.
    pub recipe: Recipe,
    /// Told the generation that is served then.
    pub reply: oneshot::Sender<u64>,
}

/// To Publisher: a window that got no model.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Untrained {
    /// The window.
    pub window: ClosedWindow,
    /// Why.
    pub outcome: Outcome,
    /// Who waits for it.
    pub waiters: Vec<oneshot::Sender<Closed>>,
}

/// To Publisher: which windows were there lately?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ListWindows {
    /// The newest windows, newest first.
    pub reply: oneshot::Sender<Vec<WindowReport>>,
}

/// To Publisher: is everything kept?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Flush {
    /// Told when it is.
    pub reply: oneshot::Sender<()>,
}
