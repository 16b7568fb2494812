//! `bdr train`: trains on a file of events without a node, shows how the loss falls, and with `--holdout` how good the recommendations are.

pub(super) mod data;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use self::data::Data;
use crate::actors::node::{TRAINING_NICENESS, pair_settings, training_pool, training_settings};
use crate::als::{self, Iteration, Trained};
use crate::also_bought::Table;
use crate::also_bought::kappa::Kappa;
use crate::config::Config;
use crate::evaluation::{self, LENGTHS, Quality};
use crate::training;

/// What to train on.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file of events, one JSON object a line, or of interests in Parquet (columns user_id, product, clicks, purchases)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Hide each user's last event (by date_time) and say where it ranks in the recommendations
    #[arg(long)]
    holdout: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    users: usize,
    products: usize,
    interests: usize,
    rank: usize,
    iterations: usize,
    seconds: f64,
    seconds_per_iteration: f64,
    loss: f64,
    peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdout: Option<evaluation::Report>,
}

/// Trains with these settings and reports.
pub fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let data = data::load(&arguments.file, config, arguments.holdout)?;
    let settings = training_settings(config);
    let pool = training_pool(config.als.threads, TRAINING_NICENESS).context("cannot start the training threads")?;
    let started = Instant::now();
    let trained = train(&data, &settings, &pool)?;
    let seconds = started.elapsed().as_secs_f64();
    let loss = trained.loss;
    let mut holdout = None;
    if arguments.holdout {
        let (pairs, never) = (pair_settings(config), AtomicBool::new(false));
        let kappa = pool.install(|| Kappa::compute(&data.base, &data.products, pairs, None, &never))?;
        holdout = Some(pool.install(|| judge(&data, &settings, trained, kappa.table().clone())));
    }
    let report = Report {
        users: data.base.users(),
        products: data.base.products(),
        interests: data.base.pairs(),
        rank: settings.rank,
        iterations: settings.iterations,
        seconds,
        seconds_per_iteration: seconds / settings.iterations.max(1) as f64,
        loss,
        peak_rss_bytes: peak_rss_bytes(),
        holdout,
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, &mut out)?;
    }
    Ok(())
}

fn train(data: &Data, settings: &als::Settings, pool: &rayon::ThreadPool) -> anyhow::Result<Trained> {
    let style = ProgressStyle::with_template("{bar:30} iteration {pos}/{len}, loss {msg}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(settings.iterations as u64), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut show = |iteration: Iteration| {
        bar.set_position(iteration.number as u64);
        bar.set_message(format!("{:.6}", iteration.loss));
        tracing::info!("iteration {}: loss {:.6}", iteration.number, iteration.loss);
    };
    let trained = als::train(&data.base, settings, None, pool, &AtomicBool::new(false), &mut show);
    bar.finish_and_clear();
    Ok(trained?)
}

/// Ranks the hidden events by a trained model. Run it in the pool that is to do the work.
pub(super) fn judge(data: &Data, settings: &als::Settings, trained: Trained, lists: Table) -> evaluation::Report {
    let ids = data.products.prefix(data.base.products());
    let model = training::model(&data.base, ids, settings, trained, lists);
    evaluation::evaluate(&model, &data.base, model.products(), &data.hidden)
}

/// The most memory that this process ever had, 0 where the system does not tell.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report { users, products, interests, rank, iterations, seconds, seconds_per_iteration, loss, .. } = report;
    writeln!(out, "{interests} interests of {users} users in {products} products")?;
    writeln!(
        out,
        "rank {rank}, {iterations} iterations in {seconds:.3} s ({seconds_per_iteration:.4} s each), loss {loss:.6} per interest, {} MB at most",
        report.peak_rss_bytes / 1_000_000
    )?;
    let Some(holdout) = &report.holdout else { return Ok(()) };
    let [k1, k2, k3] = LENGTHS;
    writeln!(
        out,
        "\nthe last event of each of {} users was hidden; where it ranks among all products:",
        holdout.users
    )?;
    writeln!(out, "{:<36}hit rate at {k1:<6}{k2:<8}{k3:<10}NDCG at {k1:<6}{k2:<8}{k3}", "")?;
    let mut row = |name: &str, quality: &Quality| {
        let [h1, h2, h3] = quality.hit_rate;
        let [n1, n2, n3] = quality.ndcg;
        writeln!(out, "{name:<36}{:<12}{h1:<6.3}{h2:<8.3}{h3:<10.3}{:<8}{n1:<6.3}{n2:<8.3}{n3:.3}", "", "")
    };
    row("als", &holdout.als)?;
    row("als, without seen products", &holdout.als_unseen)?;
    row("popular", &holdout.popular)?;
    row("popular, without seen products", &holdout.popular_unseen)?;
    row("also bought", &holdout.also_bought)?;
    row("also bought, without seen products", &holdout.also_bought_unseen)
}
