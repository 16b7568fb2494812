//! Events over TCP: accepts connections, and runs each as two halves.
//!
//! The reading half takes bytes as they come, cuts them into lines, parses them into batches and submits those; it pauses when the in-flight
//! budget is used up, and TCP tells the sender. The answering half waits for each batch to be durable and counted, and says so. One queue of
//! things to answer, in order, is between them.

pub mod answering;
pub mod reading;

use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::actors::budget::Budget;
use crate::actors::messages::{Introduce, Leave, NotCounted, Submit};
use crate::actors::port::Port;
use crate::config::Config;
use crate::event::Schema;
use crate::metrics::Metrics;
use crate::protocol::session::Answer;

/// Batches of one connection that wait to be durable; beyond that its reading pauses.
const UNANSWERED: usize = 64;
/// How long accepting pauses when the system has no more files or memory to give.
const PAUSE_WHEN_EXHAUSTED: Duration = Duration::from_millis(100);
/// How many connections for which there is no place hear so at a time; further ones are just closed.
const TURNED_AWAY: usize = 64;
/// How long a sender that goes on sending is given to hear the last words.
const LINGER: Duration = Duration::from_secs(2);

/// What connections work with.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Where batches go.
    pub submit: Port<Submit>,
    /// Where producers introduce themselves.
    pub introduce: Port<Introduce>,
    /// Where producers leave.
    pub leave: Port<Leave>,
    /// The bound on what is under way.
    pub budget: Budget,
    /// Settings.
    pub config: Arc<Config>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Entrance {
    /// Which members an event must have.
    pub fn schema(&self) -> Schema {
        match self.config.events.schema {
            crate::config::Schema::Talk => Schema::Talk,
            crate::config::Schema::Minimal => Schema::Minimal,
        }
    }
}

/// What a batch's submitter hears of it.
pub type Outcome = oneshot::Receiver<Result<(), NotCounted>>;

/// Accepts connections until `stop` says so, then waits until all have ended. Run it on the runtime that is to serve them.
pub async fn serve(
    listener: StdTcpListener,
    entrance: Entrance,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(entrance.config.ingest.max_connections));
    let turning_away = Arc::new(Semaphore::new(TURNED_AWAY));
    let numbers = Arc::new(AtomicU64::new(1));
    // Every connection holds a sender; when all are gone, so are the connections.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE_WHEN_EXHAUSTED).await;
                continue;
            }
        };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (entrance, stop, alive) = (entrance.clone(), stop.clone(), alive.clone());
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(async move {
                connection(socket, number, entrance, stop).await;
                drop((place, alive));
            })),
            Err(_) => {
                if let Ok(turn) = Arc::clone(&turning_away).try_acquire_owned() {
                    tokio::spawn(async move {
                        turn_away(socket, entrance.config.ingest.max_connections).await;
                        drop(turn);
                    });
                }
            }
        }
    }
    drop((alive, listener));
    all_gone.recv().await;
    Ok(())
}

/// Says why there is no place, for as long as a sender that listens needs to hear it.
async fn turn_away(mut socket: TcpStream, limit: usize) {
    let mut line = Vec::new();
    let reason = format!("too many connections: the limit is {limit} (ingest.max_connections)");
    Answer::Error(&reason).write(&mut line);
    let said = async {
        socket.write_all(&line).await?;
        socket.shutdown().await?;
        linger(&mut socket).await;
        Ok::<(), std::io::Error>(())
    };
    // Whoever does not listen does not learn it.
    let _ = tokio::time::timeout(LINGER, said).await;
}

/// Takes what the other side still sends and throws it away. A socket that is closed with unread bytes in it resets the
/// connection, and a reset may overtake the last words: who was taken over would connect again and fight.
async fn linger(input: &mut (impl AsyncRead + Unpin)) {
    // However that ends, there is nobody left to tell.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(input, &mut tokio::io::sink())).await;
}

/// Shows a connection in the metrics as long as it lives.
struct Shown(IntGauge);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn connection(socket: TcpStream, number: u64, entrance: Entrance, mut stop: watch::Receiver<bool>) {
    let gauge = entrance.metrics.connections.tcp.clone();
    gauge.inc();
    let _shown = Shown(gauge);
    // Acknowledgements are small and somebody waits for them.
    let _ = socket.set_nodelay(true);
    let (mut input, output) = socket.into_split();
    let (to_answer, answers) = mpsc::channel(UNANSWERED);
    // The answering half tells the reading half to end when there is nobody to answer to or nothing more to be counted.
    let (give_up, given_up) = oneshot::channel();
    let ack_every = entrance.config.ingest.ack_every;
    let answering = tokio::spawn(answering::run(output, answers, ack_every, give_up));
    reading::Reading::new(entrance, number, to_answer).run(&mut input, stop.clone(), given_up).await;
    // A panic there was reported by the panic hook.
    let _ = answering.await;
    tokio::select! {
        () = linger(&mut input) => {}
        // A sender that misses the last words of a node that stops learns from the next one how far it was counted.
        _ = stop.wait_for(|&stop| stop) => {}
    }
}
