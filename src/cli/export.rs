//! `bdr export`: writes a table of a running node, or of a data directory that no node uses.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::{Client, Origin, origin};
use crate::actors::node::{TRAINING_NICENESS, log_options, stream_settings, training_pool};
use crate::config::Config;
use crate::export::{self, Asked, Format, Snapshot, Table};
use crate::recover::{self, LOG_DIR};

/// What to export where to.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which table
    #[arg(value_name = "TABLE")]
    table: Table,
    /// How to write it
    #[arg(long, default_value = "parquet")]
    format: Format,
    /// The file to write, which is replaced when the export is complete; `-` for standard output
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The running node to ask. Without it: the data directory, or the node that uses it
    #[arg(long, value_name = "HOST:PORT")]
    from: Option<String>,
    /// Recommendations: how many products a user
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    /// Recommendations: leave out what the user has an interest in already
    #[arg(long)]
    exclude_seen: bool,
}

/// Writes the table.
pub fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let to_stdout = arguments.out.as_os_str() == "-";
    let written = if to_stdout {
        write(arguments, config, &mut super::raw_stdout()?)?
    } else {
        let partial = partial_name(&arguments.out);
        let mut file = File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
        let outcome = write(arguments, config, &mut file).and_then(|written| {
            file.sync_all()?;
            Ok(written)
        });
        if outcome.is_err() {
            // What is there is no table.
            let _ = fs::remove_file(&partial);
        }
        let written = outcome?;
        fs::rename(&partial, &arguments.out).with_context(|| format!("cannot write {}", arguments.out.display()))?;
        written
    };
    let (to, seconds) = (arguments.out.display(), started.elapsed().as_secs_f64());
    if !to_stdout {
        writeln!(io::stderr(), "{written} in {to}, {seconds:.1} s")?;
    }
    Ok(())
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Writes the table; tells how much it is.
fn write(arguments: &Arguments, config: &Config, out: &mut (impl Write + Send)) -> anyhow::Result<String> {
    match origin(arguments.from.as_deref(), config)? {
        Origin::Node(client) => download(arguments, &client, out),
        Origin::Directory(_lock) => write_here(arguments, config, out),
    }
}

/// A table that the node writes.
fn download(arguments: &Arguments, client: &Client, out: &mut impl Write) -> anyhow::Result<String> {
    let name = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let (table, format) = (serde_json::to_value(arguments.table)?, serde_json::to_value(arguments.format)?);
    let (limit, exclude_seen) = (arguments.limit, arguments.exclude_seen);
    let path = format!("/export/{}?format={}&limit={limit}&exclude_seen={exclude_seen}", name(table), name(format));
    let mut body = BufReader::with_capacity(1 << 16, client.get(&path)?.into_body().into_reader());
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {bytes}, {bytes_per_sec}, {elapsed}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let (mut piece, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let read = body.read(&mut piece).context("the node broke off the export; its log says why")?;
        if read == 0 {
            break;
        }
        out.write_all(&piece[..read])?;
        bytes += read as u64;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    out.flush()?;
    Ok(HumanBytes(bytes).to_string())
}

/// A table of a data directory that rests.
fn write_here(arguments: &Arguments, config: &Config, out: &mut (impl Write + Send)) -> anyhow::Result<String> {
    let snapshot = snapshot(config)?;
    let asked = Asked { limit: arguments.limit.into(), exclude_seen: arguments.exclude_seen };
    let bar = match export::rows(arguments.table, &snapshot, asked) {
        Some(rows) => ProgressBar::new(rows)
            .with_style(ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} rows, {eta} left")?),
        None => ProgressBar::new_spinner(),
    };
    let pool = training_pool(config.als.threads, TRAINING_NICENESS)?;
    let mut progress = |rows| bar.set_position(rows);
    let rows = export::write(arguments.table, &snapshot, asked, arguments.format, out, &pool, &mut progress)?;
    bar.finish_and_clear();
    Ok(format!("{rows} rows"))
}

/// What a data directory holds. The caller has locked it.
pub(super) fn snapshot(config: &Config) -> anyhow::Result<Snapshot> {
    let dir = &config.data.dir;
    let store = recover::open_store(dir)?;
    let recovered = recover::recover(dir, &store, log_options(config), stream_settings(config))?;
    let mut counters = recovered.state.counters;
    if let Some(job) = counters.freeze() {
        counters.install(job.run());
    }
    ensure!(counters.offset() > 0, "there are no events in {}", dir.display());
    let model = store.load_model().unwrap_or_else(|error| {
        tracing::warn!("the stored model cannot be used: {error}");
        None
    });
    let (users, products) = (counters.users().list().clone(), counters.products().list().clone());
    Ok(Snapshot {
        base: Arc::clone(counters.base()),
        users,
        products,
        model: model.map(Arc::new),
        offset: counters.offset(),
        log_dir: dir.join(LOG_DIR),
    })
}
