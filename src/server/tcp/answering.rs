//! The answering half of a connection: says what became of the lines, in their order, once it is durable and counted.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Outcome;
use crate::protocol::session::Answer;

/// Something that will have to be answered.
#[derive(Debug)]
pub enum ToAnswer {
    /// An introduction was accepted: from here on lines are acknowledged.
    Welcome {
        /// The producer's name.
        producer: Arc<str>,
        /// The number of its last durable line.
        last: u64,
    },
    /// A batch is under way.
    Batch {
        /// What becomes of it.
        outcome: Outcome,
        /// How many events it holds.
        accepted: u64,
        /// The numbers of the lines that are none, and why.
        refused: Vec<(u64, String)>,
        /// The number of its last line.
        last: u64,
    },
    /// Nothing more will come.
    End {
        /// Why, where it was not the other side that ended it.
        error: Option<String>,
    },
}

/// Answers until there is nothing more to answer, or nobody; dropping `give_up` or sending it ends the reading half.
pub async fn run(
    output: OwnedWriteHalf,
    answers: mpsc::Receiver<ToAnswer>,
    ack_every: Duration,
    give_up: oneshot::Sender<()>,
) {
    let mut answering = Answering {
        output,
        ack_every,
        acknowledged: false,
        accepted: 0,
        rejected: 0,
        gathered: None,
        lines: Vec::new(),
    };
    // An error means that the other side is gone: it can't be told anything.
    let _ = answering.run(answers).await;
    drop(give_up);
    let _ = answering.output.shutdown().await;
}

struct Answering {
    output: OwnedWriteHalf,
    ack_every: Duration,
    acknowledged: bool,
    accepted: u64,
    rejected: u64,
    /// Lines that are durable and not acknowledged yet, and when they must be.
    gathered: Option<(u64, Instant)>,
    /// Answers that are not written yet.
    lines: Vec<u8>,
}

impl Answering {
    async fn run(&mut self, mut answers: mpsc::Receiver<ToAnswer>) -> io::Result<()> {
        while let Some(next) = self.while_acknowledging(answers.recv()).await? {
            match next {
                ToAnswer::Welcome { producer, last } => {
                    self.acknowledged = true;
                    self.say(&Answer::Welcome { producer: &producer, last }).await?;
                }
                ToAnswer::Batch { outcome, accepted, refused, last } => {
                    if let Err(error) = self.while_acknowledging(counted(outcome)).await? {
                        return self.end(Some(error)).await;
                    }
                    self.accepted += accepted;
                    self.rejected += refused.len() as u64;
                    if self.acknowledged {
                        self.gather(refused, last);
                        if answers.is_empty() {
                            self.acknowledge().await?;
                        }
                    }
                }
                ToAnswer::End { error } => return self.end(error).await,
            }
        }
        Ok(())
    }

    /// Waits for something; acknowledges what is gathered meanwhile when it must be.
    async fn while_acknowledging<T>(&mut self, waits_for: impl Future<Output = T>) -> io::Result<T> {
        let mut waits_for = pin!(waits_for);
        loop {
            let Some((_, due)) = self.gathered else { return Ok(waits_for.await) };
            match tokio::time::timeout_at(due, &mut waits_for).await {
                Ok(value) => return Ok(value),
                Err(_) => self.acknowledge().await?,
            }
        }
    }

    fn gather(&mut self, refused: Vec<(u64, String)>, last: u64) {
        for (seq, error) in refused {
            Answer::Reject { seq, error }.write(&mut self.lines);
        }
        let due = self.gathered.map_or_else(|| Instant::now() + self.ack_every, |(_, due)| due);
        self.gathered = Some((last, due));
    }

    /// Says what is gathered.
    async fn acknowledge(&mut self) -> io::Result<()> {
        match self.gathered.take() {
            Some((last, _)) => self.say(&Answer::Ack(last)).await,
            None => Ok(()),
        }
    }

    /// The last words: what was acknowledged or counted, then why it ends where the other side did not want it.
    async fn end(&mut self, error: Option<String>) -> io::Result<()> {
        self.acknowledge().await?;
        if !self.acknowledged {
            let summary = Answer::Summary { accepted: self.accepted, rejected: self.rejected };
            self.say(&summary).await?;
        }
        match error {
            Some(error) => self.say(&Answer::Error(&error)).await,
            None => Ok(()),
        }
    }

    async fn say(&mut self, answer: &Answer<'_>) -> io::Result<()> {
        answer.write(&mut self.lines);
        self.output.write_all(&self.lines).await?;
        self.lines.clear();
        Ok(())
    }
}

/// Waits until a batch is durable and counted; else the reason why not.
async fn counted(outcome: Outcome) -> Result<(), String> {
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(reason.to_string()),
        Err(_) => Err(crate::actors::messages::NotCounted::Interrupted.to_string()),
    }
}
