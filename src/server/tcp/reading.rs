//! The reading half of a connection: bytes to batches, in the way that the first line chose.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot, watch};

use super::answering::ToAnswer;
use super::{Entrance, Outcome};
use crate::actors::budget::Share;
use crate::actors::messages::{Introduce, Leave, Submit, Ticket};
use crate::clock;
use crate::log::writer::Mark;
use crate::metrics::Listener;
use crate::protocol::batch::{Batch, BatchReader};
use crate::protocol::lines::{Line, LineBuffer};
use crate::protocol::session::{self, Opening, TAKEN_OVER};

/// One connection's reading half.
pub struct Reading {
    entrance: Entrance,
    connection: u64,
    to_answer: mpsc::Sender<ToAnswer>,
    lines: LineBuffer,
    batches: BatchReader,
    way: Way,
}

/// How the connection speaks.
enum Way {
    /// The first line has not come yet.
    Undecided,
    Plain,
    Acknowledged {
        producer: Arc<str>,
        /// The last line that was submitted.
        submitted: u64,
    },
}

/// Why reading ends; all but the first two are told to the other side.
enum End {
    /// The other side has sent all it wanted.
    Finished,
    /// The other side is gone, or nobody answers it any more.
    Gone,
    Said(String),
}

impl Reading {
    /// The reading half of the connection with this number.
    pub fn new(entrance: Entrance, connection: u64, to_answer: mpsc::Sender<ToAnswer>) -> Self {
        let max_line = entrance.config.ingest.max_line_bytes;
        let batches = BatchReader::new(entrance.schema(), max_line);
        Self { entrance, connection, to_answer, lines: LineBuffer::new(max_line), batches, way: Way::Undecided }
    }

    /// Reads until there is a reason to end, and hands that to the answering half.
    pub async fn run(
        mut self,
        input: &mut OwnedReadHalf,
        stop: watch::Receiver<bool>,
        given_up: oneshot::Receiver<()>,
    ) {
        let (evict, evicted) = oneshot::channel();
        let end = tokio::select! {
            end = self.read_all(input, evict) => end,
            end = told_to_end(stop, given_up, evicted) => end,
        };
        if let Way::Acknowledged { producer, .. } = &self.way {
            let leave = Leave { producer: Arc::clone(producer), connection: self.connection };
            self.entrance.leave.deliver(leave).await;
        }
        let last = match end {
            End::Finished => ToAnswer::End { error: None },
            End::Gone => return,
            End::Said(error) => ToAnswer::End { error: Some(error) },
        };
        // The answering half ends only after it heard this, or when the other side is gone.
        let _ = self.to_answer.send(last).await;
    }

    async fn read_all(&mut self, input: &mut OwnedReadHalf, evict: oneshot::Sender<()>) -> End {
        let mut evict = Some(evict);
        let idle_timeout = self.entrance.config.ingest.idle_timeout;
        let mut deadline = tokio::time::Instant::now() + idle_timeout;
        loop {
            let room = self.lines.room();
            let read = match tokio::time::timeout_at(deadline, input.read_buf(room)).await {
                Err(_) => return End::Said(idle(idle_timeout)),
                Ok(Err(_)) => return End::Gone,
                Ok(Ok(read)) => read,
            };
            let before = self.lines.cut_so_far();
            if let Err(end) = self.take_lines(read == 0, &mut evict).await {
                return end;
            }
            if read == 0 {
                return End::Finished;
            }
            if self.lines.cut_so_far() > before {
                deadline = tokio::time::Instant::now() + idle_timeout;
            }
        }
    }

    /// Turns the whole lines in the buffer into a batch and submits it.
    async fn take_lines(&mut self, at_end: bool, evict: &mut Option<oneshot::Sender<()>>) -> Result<(), End> {
        let arrived = Instant::now();
        let now = clock::now_micros();
        if matches!(self.way, Way::Undecided) {
            self.decide(at_end, now, evict).await?;
        }
        while let Some(line) = self.lines.next_line() {
            self.batches.add(&line, now);
        }
        if at_end && let Some(line) = self.lines.last_line() {
            self.batches.add(&line, now);
        }
        let batch = self.batches.take();
        let share = self.entrance.budget.take(batch.size()).await.ok_or(End::Gone)?;
        self.submit(batch, share, arrived).await
    }

    /// Looks at the first line, if it is there.
    async fn decide(&mut self, at_end: bool, now: i64, evict: &mut Option<oneshot::Sender<()>>) -> Result<(), End> {
        let first = self.lines.next_line();
        let opening = match &first {
            None if at_end => Opening::Plain,
            None => return Ok(()),
            Some(Line::TooLong) => Opening::Plain,
            Some(Line::Complete(line)) => session::open(line),
        };
        match opening {
            Opening::Plain => {
                if let Some(line) = &first {
                    self.batches.add(line, now);
                }
                self.way = Way::Plain;
                Ok(())
            }
            Opening::Refused(reason) => Err(End::Said(reason.to_owned())),
            Opening::Acknowledged { producer } => match evict.take() {
                Some(evict) => self.introduce(producer.into(), evict).await,
                None => Err(End::Gone),
            },
        }
    }

    async fn introduce(&mut self, producer: Arc<str>, evict: oneshot::Sender<()>) -> Result<(), End> {
        let (reply, answer) = oneshot::channel();
        let introduce = Introduce { producer: Arc::clone(&producer), connection: self.connection, evict, reply };
        self.entrance.introduce.deliver(introduce).await;
        self.way = Way::Acknowledged { producer: Arc::clone(&producer), submitted: 0 };
        let last = match answer.await {
            Ok(Ok(last)) => last,
            Ok(Err(reason)) => return Err(End::Said(reason.to_string())),
            Err(_) => {
                return Err(End::Said("an internal failure interrupted the introduction; connect again".to_owned()));
            }
        };
        self.batches.continue_after(last);
        self.way = Way::Acknowledged { producer: Arc::clone(&producer), submitted: last };
        self.tell(ToAnswer::Welcome { producer, last }).await
    }

    async fn submit(&mut self, batch: Batch, share: Share, arrived: Instant) -> Result<(), End> {
        let last = self.batches.lines();
        let lines = match &mut self.way {
            Way::Acknowledged { producer, submitted } if *submitted < last => {
                let mark = Mark { producer: Arc::clone(producer), after: *submitted, last };
                *submitted = last;
                Some((mark, self.connection))
            }
            Way::Plain if batch.accepted > 0 || !batch.refused.is_empty() => None,
            _ => return Ok(()),
        };
        let (done, outcome): (_, Outcome) = oneshot::channel();
        let refused = batch.refused.iter().map(|refused| (refused.line_number, refused.reason.to_string()));
        let to_answer = ToAnswer::Batch { outcome, accepted: batch.accepted, refused: refused.collect(), last };
        let ticket = Ticket { arrived, share, done };
        self.entrance.submit.deliver(Submit { batch, source: Listener::Tcp, lines, ticket }).await;
        self.tell(to_answer).await
    }

    async fn tell(&self, to_answer: ToAnswer) -> Result<(), End> {
        self.to_answer.send(to_answer).await.map_err(|_| End::Gone)
    }
}

fn idle(limit: Duration) -> String {
    format!("no complete line for {} s (ingest.idle_timeout)", limit.as_secs_f64())
}

/// Waits for a reason to end that does not come from the other side.
async fn told_to_end(
    mut stop: watch::Receiver<bool>,
    given_up: oneshot::Receiver<()>,
    evicted: oneshot::Receiver<()>,
) -> End {
    let evicted = async {
        // The sender is dropped unused where the connection never introduces itself, or Ingest is built anew; neither is a reason to end.
        if evicted.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|&stop| stop) => End::Said("the node is shutting down; connect again and resume".to_owned()),
        _ = given_up => End::Gone,
        () = evicted => End::Said(TAKEN_OVER.to_owned()),
    }
}
