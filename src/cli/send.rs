//! `bdr send`: streams NDJSON to a node by acknowledged lines, connecting again whenever the node goes away, until every line is durable.
//!
//! [`input`] reads the lines in large pieces on a thread of its own, [`connection`] speaks the protocol, [`progress`] is what both sides of a
//! connection know of how far it is. This file decides when to connect again, and sums up.

mod connection;
mod input;
pub mod progress;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, bounded, never};
use serde::Serialize;

use self::connection::Ended;
use self::input::Piece;
use self::progress::Progress;
use crate::clock;
use crate::protocol::session::MAX_PRODUCER_BYTES;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pieces of input that are read ahead.
const QUEUED_PIECES: usize = 8;
/// With a rate, the lines of a second are spread over so many pieces.
const PIECES_A_SECOND: u64 = 100;

/// What to send where.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file of events, one JSON object a line; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the node takes events
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    to: String,
    /// A name under which sending can be resumed: the node remembers how far it came. Without it, a new name
    #[arg(long, value_name = "ID")]
    producer: Option<String>,
    /// Send at most so many events a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Give up when the node makes no progress for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    give_up_after: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Events that are durable and counted.
    pub accepted: u64,
    /// Lines that are not events.
    pub rejected: u64,
    /// How long it took.
    pub seconds: f64,
    /// Both, a second.
    pub events_per_second: f64,
    /// Lines that were there from an earlier run.
    #[serde(skip)]
    pub already_there: u64,
}

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the node takes events, `host:port`.
    pub to: String,
    /// The producer's name.
    pub producer: String,
    /// Events a second at most.
    pub rate: Option<u64>,
    /// The longest time without progress.
    pub give_up_after: Duration,
}

/// Sends a file or standard input; true if every line was an event.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let options = Options {
        to: arguments.to.clone(),
        producer: arguments.producer.clone().unwrap_or_else(new_name),
        rate: arguments.rate,
        give_up_after: Duration::from_secs(arguments.give_up_after),
    };
    let is_stdin = arguments.file == Path::new("-");
    let (input, length): (Box<dyn io::Read + Send>, _) = if is_stdin {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(&arguments.file).with_context(|| format!("cannot open {}", arguments.file.display()))?;
        let length = file.metadata().ok().map(|metadata| metadata.len());
        (Box::new(file), length)
    };
    let progress = Progress::new(length);
    let outcome = send(input, &options, &progress);
    progress.finish();
    report_rejected(&progress);
    let summary = outcome?;
    report(&summary, arguments.json)?;
    Ok(summary.rejected == 0)
}

fn new_name() -> String {
    format!("send-{}-{}", std::process::id(), clock::now_micros())
}

/// Sends all lines of `input`; returns when the last is acknowledged.
pub fn send(input: Box<dyn io::Read + Send>, options: &Options, progress: &Progress) -> anyhow::Result<Summary> {
    if !(1..=MAX_PRODUCER_BYTES).contains(&options.producer.len()) {
        bail!("the name of a producer must have 1 to {MAX_PRODUCER_BYTES} bytes; give another --producer");
    }
    let started = Instant::now();
    let (pieces, queue) = bounded(QUEUED_PIECES);
    let most_lines = options.rate.map(|rate| (rate / PIECES_A_SECOND).max(1));
    let reader = std::thread::Builder::new()
        .name("input".into())
        .spawn(move || input::read(input, most_lines, &pieces))
        .context("cannot start a thread")?;
    let mut sending = Sending::new(options, progress, queue);
    sending.until_done()?;
    // A panic there was reported by the panic hook.
    let read = reader.join().unwrap_or_else(|_| Err(io::Error::other("reading the input panicked")));
    read.context("cannot read the input to its end; the lines before are durable")?;
    let already_there = progress.already_there();
    if already_there > sending.taken {
        bail!(
            "the input has {} lines, but the node has {already_there} of producer {} already; \
             lines are known by their numbers, so give every input its own --producer",
            sending.taken,
            options.producer
        );
    }
    let (seconds, rejected) = (started.elapsed().as_secs_f64(), progress.rejected());
    let accepted = sending.durable.saturating_sub(rejected);
    let events_per_second = (accepted + rejected) as f64 / seconds;
    Ok(Summary { accepted, rejected, seconds, events_per_second, already_there })
}

/// What is known between two connections.
struct Sending<'a> {
    options: &'a Options,
    progress: &'a Progress,
    /// What the input still gives.
    queue: Receiver<Piece>,
    input_ended: bool,
    /// The number of the last line that was taken from the queue.
    taken: u64,
    /// What was taken and is not acknowledged, in order: sent again on the next connection.
    unacknowledged: VecDeque<Piece>,
    unacknowledged_bytes: usize,
    /// Lines that became durable in this run, without blank ones.
    durable: u64,
    /// The last acknowledgement that was taken note of.
    acknowledged: u64,
    /// Since when something waits to be acknowledged and nothing is.
    stuck_since: Instant,
    /// When the rate allows the next line.
    due: Instant,
}

impl<'a> Sending<'a> {
    fn new(options: &'a Options, progress: &'a Progress, queue: Receiver<Piece>) -> Self {
        let now = Instant::now();
        Self {
            options,
            progress,
            queue,
            input_ended: false,
            taken: 0,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            durable: 0,
            acknowledged: 0,
            stuck_since: now,
            due: now,
        }
    }

    /// Connects again and again until every line is acknowledged.
    fn until_done(&mut self) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = self.acknowledged;
            let why = match connection::run(self) {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::ForGood(said)) => bail!("{}: {said}; {}", self.options.to, self.how_far()),
                Err(error) => error.to_string(),
            };
            self.forget_acknowledged();
            // A node may end a connection that has nothing to say; it is needed again when there is something.
            if self.progress.is_welcomed() && self.unacknowledged.is_empty() {
                self.wait_for_input();
                if self.is_done() {
                    return Ok(());
                }
            }
            let Options { to, give_up_after, .. } = self.options;
            if self.patience().is_zero() {
                bail!("{to}: {why}; no progress for {} s; {}", give_up_after.as_secs_f64(), self.how_far());
            }
            if self.acknowledged > before {
                pause = FIRST_PAUSE;
            }
            self.progress.trouble(&format!("{to}: {why}; connecting again in {} ms", pause.as_millis()));
            // Nothing comes that way: it waits for the time to pass.
            let _ = never::<()>().recv_timeout(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn how_far(&self) -> String {
        let (acknowledged, producer) = (self.progress.acknowledged(), &self.options.producer);
        format!(
            "{acknowledged} lines are durable; to go on behind them, send the same input again with --producer {producer}"
        )
    }

    fn wait_for_input(&mut self) {
        match self.queue.recv() {
            Ok(piece) => self.keep(piece),
            Err(_) => self.input_ended = true,
        }
    }

    /// Keeps a piece until it is acknowledged.
    fn keep(&mut self, piece: Piece) {
        if self.unacknowledged.is_empty() {
            self.stuck_since = Instant::now();
        }
        self.progress.note_taken(piece.bytes.len());
        self.taken = piece.last();
        self.unacknowledged_bytes += piece.bytes.len();
        self.unacknowledged.push_back(piece);
    }

    fn forget_acknowledged(&mut self) {
        let acknowledged = self.progress.acknowledged();
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.stuck_since = Instant::now();
        }
        while let Some(piece) = self.unacknowledged.front()
            && piece.last() <= acknowledged
        {
            let (lines, blank) = piece.count_behind(self.progress.already_there());
            self.durable += lines - blank;
            self.unacknowledged_bytes -= piece.bytes.len();
            self.unacknowledged.pop_front();
        }
    }

    fn is_done(&self) -> bool {
        self.input_ended && self.unacknowledged.is_empty()
    }

    /// How much longer the node may leave us without progress. Where nothing waits to be acknowledged, it owes us none.
    fn patience(&self) -> Duration {
        if self.progress.is_welcomed() && self.unacknowledged.is_empty() {
            return self.options.give_up_after.max(FIRST_PAUSE);
        }
        self.options.give_up_after.saturating_sub(self.stuck_since.elapsed())
    }
}

/// The first reasons on standard error. Whoever closed that does not want to know.
fn report_rejected(progress: &Progress) {
    let mut stderr = io::stderr().lock();
    let reasons = progress.first_reasons();
    for (line, reason) in &reasons {
        let _ = writeln!(stderr, "line {line}: {reason}");
    }
    let more = progress.rejected() - reasons.len() as u64;
    if more > 0 {
        let _ = writeln!(stderr, "and {more} more lines");
    }
}

fn report(summary: &Summary, json: bool) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut stdout, summary)?;
        writeln!(stdout)?;
        return Ok(());
    }
    let Summary { accepted, rejected, seconds, events_per_second, already_there } = summary;
    write!(stdout, "accepted {accepted}, rejected {rejected}, in {seconds:.2} s ({events_per_second:.0} events/s)")?;
    if *already_there > 0 {
        write!(stdout, "; {already_there} lines were there already")?;
    }
    writeln!(stdout)?;
    Ok(())
}

#[cfg(test)]
mod tests;
