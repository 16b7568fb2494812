//! The shop's traffic: generated lines, sent to the node's socket by acknowledged lines as `bdr send` does it, at a steady pace.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use crate::cli::send::progress::Progress;
use crate::cli::send::{self, Options};
use crate::generate::{Generator, Settings};

/// Who shops what.
pub(super) const SHOP: Settings = Settings { users: 1_000, products: 400, seed: 42 };
/// Events a second.
const RATE: u64 = 2_000;

/// The thread that sends.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Traffic {
    /// Begins to send.
    pub(super) fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let lines = Lines { generator: Generator::new(SHOP), stop: Arc::clone(&stop) };
        let options = Options {
            to: to.to_string(),
            producer: "demo".into(),
            rate: Some(RATE),
            give_up_after: Duration::from_secs(10),
        };
        let send = move || {
            if let Err(error) = send::send(Box::new(lines), &options, &Progress::hidden()) {
                tracing::warn!("the traffic ended: {error:#}");
            }
        };
        let thread = thread::Builder::new().name("traffic".into()).spawn(send).context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends the traffic and waits until all that was sent is acknowledged.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there was reported by the panic hook.
        let _ = self.thread.join();
    }
}

/// Generated lines without end, until they are stopped.
struct Lines {
    generator: Generator,
    stop: Arc<AtomicBool>,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let mut line = Vec::new();
        self.generator.write_line(&mut line);
        // The reader's buffer is far larger than a line.
        let length = line.len().min(buffer.len());
        buffer[..length].copy_from_slice(&line[..length]);
        Ok(length)
    }
}
