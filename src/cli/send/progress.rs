//! How far the sending is: known to the sender, told by the listener, shown on the terminal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// So many reasons are kept for the end.
const REASONS: usize = 10;

/// Shared by the two sides of a connection.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    acknowledged: AtomicU64,
    /// What the first welcome said; later ones tell of lines of this run.
    already_there: OnceLock<u64>,
    rejects: Mutex<Rejects>,
}

#[derive(Debug, Default)]
struct Rejects {
    count: u64,
    /// The line that was refused last: what comes again after a reconnect is not counted again.
    last: u64,
    first: Vec<(u64, String)>,
}

impl Progress {
    /// Nothing done yet of an input of this many bytes, if that is known. Draws only on a terminal.
    pub fn new(length: Option<u64>) -> Self {
        let template = match length {
            Some(_) => "{bar:30} {bytes}/{total_bytes}, {msg}, {eta} left",
            None => "{spinner} {bytes}, {msg}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style);
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self::with_bar(bar)
    }

    /// Nothing done yet, and nothing to be shown.
    pub fn hidden() -> Self {
        Self::with_bar(ProgressBar::hidden())
    }

    fn with_bar(bar: ProgressBar) -> Self {
        Self {
            bar,
            started: Instant::now(),
            acknowledged: AtomicU64::new(0),
            already_there: OnceLock::new(),
            rejects: Mutex::default(),
        }
    }

    /// The node has the lines up to this one.
    pub(super) fn welcomed(&self, last: u64) {
        self.already_there.get_or_init(|| last);
        self.note_ack(last);
    }

    /// The lines up to this one are durable.
    pub(super) fn note_ack(&self, line: u64) {
        let acknowledged = self.acknowledged.fetch_max(line, Ordering::SeqCst).max(line);
        if !self.bar.is_hidden() {
            let sent = (acknowledged - self.already_there()) as f64;
            let per_second = sent / self.started.elapsed().as_secs_f64().max(1e-3);
            self.bar.set_message(format!("{acknowledged} events acked, {per_second:.0} events/s"));
        }
    }

    pub(super) fn note_reject(&self, line: u64, reason: String) {
        let mut rejects = self.rejects();
        if line > rejects.last {
            rejects.last = line;
            rejects.count += 1;
            if rejects.first.len() < REASONS {
                rejects.first.push((line, reason));
            }
        }
    }

    /// So many bytes of the input were taken.
    pub(super) fn note_taken(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// Says that something is wrong, above the bar or on a line of its own.
    pub(super) fn trouble(&self, what: &str) {
        if self.bar.is_hidden() {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "{what}");
        } else {
            self.bar.println(what);
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Whether a node ever answered.
    pub(super) fn is_welcomed(&self) -> bool {
        self.already_there.get().is_some()
    }

    /// The last line that is durable.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Lines that were durable before this run.
    pub fn already_there(&self) -> u64 {
        self.already_there.get().copied().unwrap_or(0)
    }

    /// Lines that are not events.
    pub fn rejected(&self) -> u64 {
        self.rejects().count
    }

    /// The first of them, with the reasons.
    pub fn first_reasons(&self) -> Vec<(u64, String)> {
        self.rejects().first.clone()
    }

    fn rejects(&self) -> MutexGuard<'_, Rejects> {
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
