//! Ingest: decides who may send what, and passes it on in order.
//!
//! Owns which connection speaks for which producer, and the file of refused lines. Is told about connections that introduce themselves and
//! leave, and about batches of lines; tells Counter to append their events. Framing and parsing happen where the bytes arrive, on as many
//! threads as there are; this actor sees batches.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, WrapFuture};
use serde::Serialize;
use tokio::sync::oneshot;

use super::messages::{Append, Introduce, Leave, NotCounted, Position, Submit};
use super::port::{Envelope, Port};
use crate::clock;
use crate::metrics::{Listener, Metrics};
use crate::protocol::batch::Refused;

/// See the module.
#[derive(Debug)]
pub struct Ingest {
    append: Port<Append>,
    position: Port<Position>,
    metrics: Arc<Metrics>,
    mailbox: usize,
    dead_letters: Option<DeadLetters>,
    speakers: HashMap<Arc<str>, Speaker>,
    /// Dropped with the actor, whatever ends it: that is how the node hears of it.
    _ended: oneshot::Sender<()>,
}

/// The connection that speaks for a producer.
#[derive(Debug)]
struct Speaker {
    connection: u64,
    evict: oneshot::Sender<()>,
}

impl Ingest {
    /// Opens the file of refused lines, if one is wanted.
    pub fn new(
        append: Port<Append>,
        position: Port<Position>,
        metrics: Arc<Metrics>,
        mailbox: usize,
        dead_letter: Option<&Path>,
        ended: oneshot::Sender<()>,
    ) -> io::Result<Self> {
        let dead_letters = dead_letter.map(DeadLetters::open).transpose()?;
        Ok(Self { append, position, metrics, mailbox, dead_letters, speakers: HashMap::new(), _ended: ended })
    }

    /// Whether lines on this connection are still the producer's.
    fn may_speak(&self, producer: &str, connection: u64) -> bool {
        self.speakers.get(producer).is_some_and(|speaker| speaker.connection == connection)
    }

    fn refuse(&mut self, source: Listener, refused: &[Refused]) {
        for line in refused {
            self.metrics.rejected(source, line.reason.label(), 1);
        }
        if let Some(dead_letters) = &mut self.dead_letters
            && let Err(error) = dead_letters.append(source, refused)
        {
            tracing::warn!("cannot append to {}: {error}", dead_letters.path.display());
        }
    }
}

impl Actor for Ingest {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(self.mailbox);
    }
}

impl Handler<Envelope<Submit>> for Ingest {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, envelope: Envelope<Submit>, _: &mut Self::Context) -> Self::Result {
        fail::fail_point!("ingest::submit");
        let Submit { batch, source, lines, ticket } = envelope.message;
        if let Some((mark, connection)) = &lines
            && !self.may_speak(&mark.producer, *connection)
        {
            // The connection may have ended meanwhile; then nobody needs to know.
            let _ = ticket.done.send(Err(NotCounted::TakenOver));
            return AtomicResponse::new(Box::pin(async {}.into_actor(self)));
        }
        self.refuse(source, &batch.refused);
        let mark = lines.map(|(mark, _)| mark);
        let append = Append { events: batch.events, count: batch.accepted, source, mark, ticket };
        let port = self.append.clone();
        AtomicResponse::new(Box::pin(async move { port.deliver(append).await }.into_actor(self)))
    }
}

impl Handler<Envelope<Introduce>> for Ingest {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, envelope: Envelope<Introduce>, _: &mut Self::Context) -> Self::Result {
        let Introduce { producer, connection, evict, reply } = envelope.message;
        if let Some(before) = self.speakers.insert(Arc::clone(&producer), Speaker { connection, evict }) {
            // It may be on its way out already.
            let _ = before.evict.send(());
        }
        // Everything that the older connection had submitted is before this question in Counter's mailbox, so the answer covers it.
        let port = self.position.clone();
        let ask = async move { port.deliver(Position { producer, reply }).await };
        AtomicResponse::new(Box::pin(ask.into_actor(self).map(|(), _, _| ())))
    }
}

impl Handler<Envelope<Leave>> for Ingest {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Leave>, _: &mut Self::Context) {
        let Leave { producer, connection } = envelope.message;
        if self.may_speak(&producer, connection) {
            self.speakers.remove(&producer);
        }
    }
}

/// The file of refused lines: one JSON object a line, for a person or a repair job.
#[derive(Debug)]
struct DeadLetters {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    received_at: &'a str,
    source: &'static str,
    error: String,
    line: std::borrow::Cow<'a, str>,
}

impl DeadLetters {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn append(&mut self, source: Listener, refused: &[Refused]) -> io::Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let received_at = clock::rfc_3339(clock::now_micros());
        for Refused { reason, line, .. } in refused {
            let (error, line) = (reason.to_string(), String::from_utf8_lossy(line));
            let letter = DeadLetter { received_at: &received_at, source: source.name(), error, line };
            serde_json::to_writer(&mut self.file, &letter)?;
            self.file.write_all(b"\n")?;
        }
        self.file.flush()
    }
}
