//! The node: connects the actors, builds one anew when it dies, and shuts down in the order of the flow.
//!
//! Readers never wait for any of this: they read what is in [`shared`](super::shared), which outlives every actor.

mod crew;
mod keep_alive;
mod start;

pub use start::{
    TRAINING_NICENESS, log_options, pair_settings, recipe, stream_settings, training_pool, training_settings,
};

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix::Arbiter;
use actix_web::dev::ServerHandle;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::messages::{
    Append, Checkpoint, CloseWindow, Compact, CountPairs, Flush, Introduce, Leave, ListWindows, Position, Promote,
    Publish, PublishLayer, StartBatch, StopTraining, Submit, TakeSnapshot, Train, TrainAgain, Untrained,
};
use super::port::Port;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::recover::RecoverError;
use crate::server::http::Site;

/// Why a node can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address can't be listened on.
    #[error(
        "cannot listen on {address} ({setting}): {source}; is another bdr running? choose another with --set {setting}=host:port"
    )]
    Listen {
        /// The address as it was given.
        address: String,
        /// The setting.
        setting: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is on the disk can't be used.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The file for refused lines can't be opened.
    #[error("cannot open {path} (ingest.dead_letter): {source}")]
    DeadLetter {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The training threads can't be made.
    #[error("cannot start the training threads: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    /// Something made it impossible to go on.
    #[error("the node cannot go on: {0}")]
    Fatal(String),
}

/// The ways between server and actors, and among actors.
#[derive(Debug, Clone)]
struct Ports {
    submit: Port<Submit>,
    introduce: Port<Introduce>,
    leave: Port<Leave>,
    append: Port<Append>,
    position: Port<Position>,
    close_window: Port<CloseWindow>,
    train_again: Port<TrainAgain>,
    checkpoint: Port<Checkpoint>,
    start_batch: Port<StartBatch>,
    compact: Port<Compact>,
    take_snapshot: Port<TakeSnapshot>,
    train: Port<Train>,
    count_pairs: Port<CountPairs>,
    stop_training: Port<StopTraining>,
    promote: Port<Promote>,
    publish: Port<Publish>,
    publish_layer: Port<PublishLayer>,
    untrained: Port<Untrained>,
    list_windows: Port<ListWindows>,
    flush: Port<Flush>,
}

impl Ports {
    fn new(metrics: &Metrics) -> Self {
        let depth = &metrics.mailbox_depth;
        Self {
            submit: Port::new(depth.ingest.clone()),
            introduce: Port::new(depth.ingest.clone()),
            leave: Port::new(depth.ingest.clone()),
            append: Port::new(depth.counter.clone()),
            position: Port::new(depth.counter.clone()),
            close_window: Port::new(depth.counter.clone()),
            train_again: Port::new(depth.counter.clone()),
            checkpoint: Port::new(depth.counter.clone()),
            start_batch: Port::new(depth.counter.clone()),
            compact: Port::new(depth.counter.clone()),
            take_snapshot: Port::new(depth.counter.clone()),
            train: Port::new(depth.trainer.clone()),
            count_pairs: Port::new(depth.trainer.clone()),
            stop_training: Port::new(depth.trainer.clone()),
            promote: Port::new(depth.publisher.clone()),
            publish: Port::new(depth.publisher.clone()),
            publish_layer: Port::new(depth.publisher.clone()),
            untrained: Port::new(depth.publisher.clone()),
            list_windows: Port::new(depth.publisher.clone()),
            flush: Port::new(depth.publisher.clone()),
        }
    }
}

/// A running node. Needs an actix system around it.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    site: Site,
    ports: Ports,
    events_address: SocketAddr,
    http_address: SocketAddr,
    http: ServerHandle,
    /// Tells connections to end.
    stop_connections: watch::Sender<bool>,
    connections: JoinHandle<std::io::Result<()>>,
    /// Tells the keepers that actors may end now.
    stopping: watch::Sender<bool>,
    keepers: Vec<JoinHandle<()>>,
    arbiters: Vec<Arbiter>,
    sockets: Option<Runtime>,
    fatal: mpsc::Receiver<String>,
    /// Locked as long as the node lives.
    _lock: File,
}

impl Node {
    /// Where events are taken over TCP.
    pub fn events_address(&self) -> SocketAddr {
        self.events_address
    }

    /// Where requests are answered.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// What requests work with: for a command that lives in the same process.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Waits until something makes it impossible to go on.
    pub async fn broken(&mut self) -> NodeError {
        let reason = self.fatal.recv().await.unwrap_or_else(|| "all actors have ended".to_owned());
        NodeError::Fatal(reason)
    }

    /// Stops in the order of the flow, each step a question with an answer: no new connections, what is in flight is committed and answered,
    /// a checkpoint is written, the model is kept. After `shutdown.grace` whatever is left is given up: the log has all that was acknowledged.
    pub async fn stop(mut self) {
        let grace = self.config.shutdown.grace;
        if timeout(grace, self.stop_in_order()).await.is_err() {
            tracing::warn!(
                "not everything ended within {} s (shutdown.grace); the next start reads more of the log",
                grace.as_secs_f64()
            );
        }
        self.stopping.send_replace(true);
        for keeper in &self.keepers {
            keeper.abort();
        }
        if let Some(sockets) = self.sockets.take() {
            sockets.shutdown_background();
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        let arbiters = std::mem::take(&mut self.arbiters);
        // The actors' threads end with them.
        let ended = tokio::task::spawn_blocking(move || arbiters.into_iter().for_each(|arbiter| drop(arbiter.join())));
        if timeout(grace, ended).await.is_err() {
            tracing::warn!("some threads did not end in time");
        }
    }

    async fn stop_in_order(&mut self) {
        self.stop_connections.send_replace(true);
        let (reply, no_training) = oneshot::channel();
        self.ports.stop_training.deliver(StopTraining { reply }).await;
        // A dropped reply means that the actor has just died: then there is nothing to wait for.
        let _ = no_training.await;
        self.http.stop(true).await;
        let _ = (&mut self.connections).await;
        let (reply, checkpointed) = oneshot::channel();
        self.ports.checkpoint.deliver(Checkpoint { reply }).await;
        let _ = checkpointed.await;
        let (reply, kept) = oneshot::channel();
        self.ports.flush.deliver(Flush { reply }).await;
        let _ = kept.await;
    }
}
