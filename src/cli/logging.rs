//! Logs go to standard error, as text for people or JSON for machines; `RUST_LOG` decides what, if it is set.

use tracing_subscriber::EnvFilter;

use crate::config::checked::{Log, LogFormat};

/// Starts logging for the rest of the process.
pub fn start(settings: &Log) {
    let fallback = || EnvFilter::new(format!("{},actix_server=warn,sled=warn", settings.level.name()));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| fallback());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match settings.format {
        LogFormat::Text => builder.with_ansi(console::user_attended_stderr()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // A second start in one process leaves the first in force.
    drop(started);
}
