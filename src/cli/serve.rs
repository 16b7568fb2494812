//! `bdr serve`: runs the node until it is told to stop.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::actors::node::Node;
use crate::config::Settings;
use crate::metrics::Metrics;

/// Runs a node with these settings until SIGINT or SIGTERM.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    raise_file_limit();
    actix::System::new().block_on(async {
        // Before anything that a signal would have to end in order.
        let stop = stop_signal()?;
        let metrics = Metrics::new().context("cannot set up the metrics")?;
        let mut node = Node::start(settings.config.clone(), metrics).await?;
        tracing::info!(
            "ready: events on tcp://{}, questions on http://{}, data in {}",
            node.events_address(),
            node.http_address(),
            settings.config.data.dir.display()
        );
        let outcome = tokio::select! {
            () = stop => Ok(()),
            error = node.broken() => Err(error.into()),
        };
        tracing::info!("shutting down");
        node.stop().await;
        outcome
    })
}

/// Listens for SIGINT and SIGTERM from now on; the future ends when one comes.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Every connection is an open file, and the usual limit of 1,024 is below `ingest.max_connections`.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
