//! How far the sending is: known to the sender, told by the listener, shown on the terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// So many reasons are kept for the end.
const REASONS: usize = 10;

/// Shared by the two sides of a connection.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    acknowledged: AtomicU64,
    /// Lines that were acknowledged before the first connection of this run, plus one; 0 before it.
    there_plus_one: AtomicU64,
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
            Some(_) => "{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {msg}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}, {msg}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        let (acknowledged, there_plus_one) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bar, acknowledged, there_plus_one, rejects: Mutex::default() }
    }

    /// The node knows the lines up to this one.
    pub(super) fn welcomed(&self, last: u64) {
        // Only the first welcome of a run tells what an earlier run left.
        let _ = self.there_plus_one.compare_exchange(0, last + 1, Ordering::SeqCst, Ordering::SeqCst);
        self.note_ack(last);
    }

    /// The lines up to this one are durable.
    pub(super) fn note_ack(&self, line: u64) {
        self.acknowledged.fetch_max(line, Ordering::SeqCst);
        self.bar.set_message(format!("{line} lines durable"));
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

    /// So many bytes of the input were sent.
    pub(super) fn note_sent(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Says that something is wrong, above the bar or on a line of its own.
    pub(super) fn trouble(&self, what: &str) {
        if self.bar.is_hidden() {
            eprintln!("{what}");
        } else {
            self.bar.println(what);
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The last line that is durable.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Lines that were durable before this run.
    pub fn already_there(&self) -> u64 {
        self.there_plus_one.load(Ordering::SeqCst).saturating_sub(1)
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
