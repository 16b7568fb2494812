//! `bdr demo`: a whole node on an embedded default, with a shop's traffic streamed into its own socket, and what comes of it on the terminal.
//!
//! Nothing is faked: real sockets, the real log, a model after each window of five seconds. The data directory is gone when it ends.

mod traffic;
mod view;

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::traffic::Traffic;
use self::view::View;
use crate::actors::node::Node;
use crate::cli::serve::stop_signal;
use crate::config::Raw;
use crate::config::checked::{Log, LogFormat, LogLevel};
use crate::metrics::Metrics;

/// The terminal is drawn again this often.
const FRAME: Duration = Duration::from_millis(500);
/// Where there is no terminal, a line says how it goes this often.
const QUIET_FRAME: Duration = Duration::from_secs(5);

/// How long to run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End after so long, such as 30s; without it, on Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "expected a duration such as 30s or 2m";
    let span: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    Duration::try_from(span).map_err(|_| wanted.to_owned())
}

/// Runs the demo to its end.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    crate::cli::logging::start(&Log { format: LogFormat::Text, level: LogLevel::Warn });
    let data = tempfile::Builder::new().prefix("bdr-demo-").tempdir().context("cannot make a temporary directory")?;
    let config = settings(&data.path().display().to_string())?;
    actix::System::new().block_on(async {
        let stop = stop_signal()?;
        let mut node = Node::start(config, Metrics::new()?).await?;
        let traffic = Traffic::start(node.events_address())?;
        let mut view = View::new(&node);
        let outcome = watch(&mut node, &mut view, arguments.duration, stop).await;
        traffic.stop();
        view.end(&node);
        node.stop().await;
        outcome
    })
}

/// The embedded default: the usual ports if they are free, else any.
fn settings(data_dir: &str) -> anyhow::Result<crate::config::Config> {
    let mut raw = Raw::default();
    raw.named_argument("demo", "data.dir", data_dir)?;
    raw.argument("window.every=5s")?;
    for (setting, port) in [("ingest.listen", 8001), ("http.listen", 8000)] {
        let port = if TcpListener::bind(("127.0.0.1", port)).is_ok() { port } else { 0 };
        raw.argument(&format!("{setting}=127.0.0.1:{port}"))?;
    }
    Ok(raw.check()?.config)
}

/// Shows the node until the time is up, somebody ends it, or it breaks.
async fn watch(
    node: &mut Node,
    view: &mut View,
    duration: Option<Duration>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut frames = interval(if view.is_live() { FRAME } else { QUIET_FRAME });
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Nothing has happened yet at the first tick.
    frames.tick().await;
    let end = duration.map(|duration| Instant::now() + duration);
    let mut stop = std::pin::pin!(stop);
    loop {
        let over = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = over => return Ok(()),
            _ = frames.tick() => {}
            error = node.broken() => return Err(error.into()),
        }
        view.draw(node);
    }
}
