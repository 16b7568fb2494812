//! `bdr backup` and `bdr restore`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use indicatif::HumanBytes;
use serde_json::json;

use super::client::{Origin, origin};
use crate::actors::node::{log_options, stream_settings};
use crate::backup::{self, Contents};
use crate::clock;
use crate::config::Config;
use crate::recover::{self, RecoverError};
use crate::store::checkpoint::Frozen;

/// Where a backup goes.
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// The directory to make; it must not exist, or be empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The running node, on this machine. Without it: the node that uses the data directory, or the data directory itself
    #[arg(long, value_name = "HOST:PORT")]
    from: Option<String>,
}

/// Which backup is restored.
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// The directory that `bdr backup` made
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Makes a backup, of a running node without a stop.
pub fn backup(arguments: &BackupArguments, config: &Config) -> anyhow::Result<()> {
    let (started, dir) = (Instant::now(), &arguments.dir);
    let is_free = !dir.exists() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_free, "there is something in {} already", dir.display());
    let made = match origin(arguments.from.as_deref(), config)? {
        Origin::Node(client) => {
            let answer = client.post("/backups", &json!({}))?;
            PathBuf::from(answer["path"].as_str().context("the node did not say where the backup is")?)
        }
        Origin::Directory(_lock) => offline(config)?,
    };
    if !made.exists() {
        bail!("the node made the backup at {} on its machine: run bdr backup there", made.display());
    }
    backup::move_to(&made, dir)?;
    let manifest = backup::verify(dir)?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let (events, seconds) = (manifest.offset, started.elapsed().as_secs_f64());
    writeln!(io::stderr(), "{events} events, {} in {}, verified, {seconds:.1} s", HumanBytes(bytes), dir.display())?;
    Ok(())
}

/// A backup of a data directory that rests.
fn offline(config: &Config) -> anyhow::Result<PathBuf> {
    let data_dir = &config.data.dir;
    let store = recover::open_store(data_dir)?;
    let recovered = recover::recover(data_dir, &store, log_options(config), stream_settings(config))?;
    let state = recovered.state;
    let mut counters = state.counters;
    if let Some(job) = counters.freeze() {
        counters.install(job.run());
    }
    let (window, window_offset, offset) = (state.window, state.window_offset, counters.offset());
    let frozen = Frozen { base: Arc::clone(counters.base()), marks: state.marks, window, window_offset, offset };
    let contents = Contents {
        frozen,
        model: store.load_model().unwrap_or_default().map(Arc::new),
        lambda: Arc::new(recovered.lambda),
        windows: store.load_windows().unwrap_or_default(),
    };
    let now = clock::rfc_3339(clock::now_micros());
    let dir = backup::staging(data_dir, &now).map_err(anyhow::Error::from)?;
    backup::take(data_dir, &dir, &contents, |write| write(counters.users(), counters.products()), now)?;
    Ok(dir)
}

/// Restores a backup into the data directory of the settings.
pub fn restore(arguments: &RestoreArguments, config: &Config) -> anyhow::Result<()> {
    let data_dir = &config.data.dir;
    let _lock = recover::lock(data_dir).map_err(RecoverError::from)?;
    let manifest = backup::restore(&arguments.dir, data_dir)?;
    let (events, dir) = (manifest.offset, data_dir.display());
    writeln!(
        io::stderr(),
        "{events} events of {} restored; start with: bdr serve --data-dir {dir}",
        manifest.created_at
    )?;
    Ok(())
}
