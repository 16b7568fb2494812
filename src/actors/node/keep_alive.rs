//! What actix's supervisor does not do: notices that an actor's handler panicked, and has the actor built anew from durable state.
//!
//! Every actor holds a sender that is dropped with it, whatever ends it; that wakes its keeper.

use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// The pause before an actor is built anew, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause, for one that dies again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An actor that lived this long starts with the first pause again.
const HEALTHY: Duration = Duration::from_secs(60);

/// Who is kept, and how the rest of the node hears of it.
pub(super) struct Keeper {
    /// For the logs.
    pub(super) actor: &'static str,
    /// Counts how often it was built anew.
    pub(super) restarts: IntCounter,
    /// The node is shutting down: ends are meant.
    pub(super) stopping: watch::Receiver<bool>,
    /// Where it is told that the actor can't be built.
    pub(super) fatal: mpsc::Sender<String>,
}

impl Keeper {
    /// Waits for the running actor's end, builds another, and so on. `build` gets whether this is the first and the sender that the actor must
    /// hold; it fails only for good.
    pub(super) async fn keep<B, F>(self, mut ended: oneshot::Receiver<()>, mut build: B)
    where
        B: FnMut(oneshot::Sender<()>) -> F,
        F: Future<Output = Result<(), String>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut born = Instant::now();
        loop {
            // The sender is never used, only dropped.
            let _ = ended.await;
            if *self.stopping.borrow() {
                return;
            }
            if born.elapsed() >= HEALTHY {
                pause = FIRST_PAUSE;
            }
            tracing::error!("{} died: built anew from durable state in {} ms", self.actor, pause.as_millis());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let (sender, next) = oneshot::channel();
            ended = next;
            if let Err(reason) = build(sender).await {
                // The channel is only full when the node is stopping already.
                let _ = self.fatal.try_send(format!("{} cannot be built anew: {reason}", self.actor));
                return;
            }
            born = Instant::now();
            self.restarts.inc();
        }
    }
}
