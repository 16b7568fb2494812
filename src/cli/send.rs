//! `bdr send`: streams NDJSON to a node by acknowledged lines, connecting again whenever the node goes away, until every line is durable.
//!
//! [`input`] reads the lines in large pieces on a thread of its own, [`connection`] speaks the protocol, [`progress`] is what both sides of a
//! connection know of how far it is. This file decides when to connect again, and sums up.

mod connection;
mod input;
mod progress;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, bounded};
use serde::Serialize;

use self::connection::Ended;
use self::input::Piece;
use self::progress::Progress;
use crate::clock;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
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
    let summary = outcome?;
    report(&summary, &progress, arguments.json)?;
    Ok(summary.rejected == 0)
}

fn new_name() -> String {
    format!("send-{}-{}", std::process::id(), clock::now_micros())
}

/// Sends all lines of `input`; returns when the last is acknowledged.
pub fn send(input: Box<dyn io::Read + Send>, options: &Options, progress: &Progress) -> anyhow::Result<Summary> {
    let started = Instant::now();
    let (pieces, queue) = bounded(8);
    let most_lines = options.rate.map(|rate| (rate / 50).max(1));
    let reader = std::thread::Builder::new()
        .name("input".into())
        .spawn(move || input::read(input, most_lines, &pieces))
        .context("cannot start a thread")?;
    let mut sending =
        Sending { options, progress, queue, unacknowledged: VecDeque::new(), input_ended: false, sent: 0, started };
    sending.until_done()?;
    // A panic there was reported by the panic hook.
    let read = reader.join().unwrap_or_else(|_| Err(io::Error::other("reading the input panicked")));
    let blank = read.context("cannot read the input to its end; what came before is sent")?;
    let seconds = started.elapsed().as_secs_f64();
    let rejected = progress.rejected();
    let lines = progress.acknowledged() - progress.already_there();
    let accepted = lines.saturating_sub(rejected + blank);
    let events_per_second = (accepted + rejected) as f64 / seconds;
    Ok(Summary { accepted, rejected, seconds, events_per_second, already_there: progress.already_there() })
}

/// What is known between two connections.
struct Sending<'a> {
    options: &'a Options,
    progress: &'a Progress,
    /// What the input still gives.
    queue: Receiver<Piece>,
    /// What was read and is not acknowledged, in order: sent again on the next connection.
    unacknowledged: VecDeque<Piece>,
    input_ended: bool,
    /// Lines sent for the first time, for the rate.
    sent: u64,
    started: Instant,
}

impl Sending<'_> {
    /// Connects again and again until every line is acknowledged.
    fn until_done(&mut self) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        let mut progressed = (self.progress.acknowledged(), Instant::now());
        loop {
            let why = match connection::run(self) {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::TakenOver(said)) => {
                    bail!("{said}; start again with another --producer, or stop the other one")
                }
                Ok(Ended::Refused(said)) => bail!("{} refused: {said}", self.options.to),
                Ok(Ended::Said(said)) => said,
                Err(error) => error.to_string(),
            };
            let acknowledged = self.progress.acknowledged();
            if acknowledged > progressed.0 {
                (progressed, pause) = ((acknowledged, Instant::now()), FIRST_PAUSE);
            }
            let Options { to, producer, give_up_after, .. } = self.options;
            if progressed.1.elapsed() >= *give_up_after {
                bail!(
                    "no progress for {} s ({to}: {why}); {acknowledged} lines are durable; go on later with --producer {producer}",
                    give_up_after.as_secs()
                );
            }
            self.progress.trouble(&format!("{to}: {why}; trying again"));
            // A pause that nothing can interrupt: nobody else is there.
            let _ = crossbeam_channel::never::<()>().recv_timeout(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn report(summary: &Summary, progress: &Progress, json: bool) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    for (line, reason) in progress.first_reasons() {
        writeln!(stderr, "line {line}: {reason}")?;
    }
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
