//! `bdr tune`: searches the model's settings that rank each user's hidden last event best, and writes them as a settings file.
//!
//! Random search (Bergstra, Bengio 2012) with successive halving (Jamieson, Talwalkar 2016): many candidates get a few iterations, the better
//! third of them more, and the best of those the full number. The settings in force are always among the candidates, to the end.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;

use super::train::data::{self, Data};
use super::train::judge;
use crate::actors::node::{TRAINING_NICENESS, training_pool, training_settings};
use crate::als::{self, Settings};
use crate::also_bought::Table;
use crate::config::Config;
use crate::evaluation::{LENGTHS, Quality, Report};
use crate::interests::Weights;
use crate::random::SplitMix64;

/// NDCG at this place of [`LENGTHS`] (10) decides.
const JUDGED_AT: usize = 1;
/// How the rounds go: iterations, and which part of the candidates goes on.
const ROUNDS: [(usize, usize); 3] = [(5, 3), (10, 3), (20, 1)];
/// Ranks that fill whole steps of the kernels.
const RANKS: [usize; 6] = [10, 16, 32, 48, 64, 96];

/// What to search on.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file of events, one JSON object a line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many candidates to begin with
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    candidates: u32,
    /// Judge lists without what the user already had, as `exclude_seen=true` gives them
    #[arg(long)]
    exclude_seen: bool,
    /// Where to write the best settings, as a file for `bdr serve --config`; without it they are printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A candidate and how good it was in its last round.
#[derive(Debug, Clone)]
struct Candidate {
    settings: Settings,
    ndcg: f64,
}

/// Searches and reports.
pub fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let data = data::load(&arguments.file, config, true)?;
    let pool = training_pool(config.als.threads, TRAINING_NICENESS).context("cannot start the training threads")?;
    let mut out = io::stdout().lock();
    let (users, products, hidden) = (data.base.users(), data.base.products(), data.hidden.len());
    writeln!(out, "{} interests of {users} users in {products} products, {hidden} hidden events", data.base.pairs())?;
    let mut candidates = candidates(arguments.candidates, &training_settings(config));
    for (iterations, divisor) in ROUNDS {
        writeln!(out, "\n{} candidates, {iterations} iterations each", candidates.len())?;
        writeln!(out, "{HEADER}")?;
        for candidate in &mut candidates {
            let settings = Settings { iterations, ..candidate.settings.clone() };
            let started = Instant::now();
            let report = pool.install(|| try_out(&data, &settings, &pool))?;
            let quality = if arguments.exclude_seen { report.als_unseen } else { report.als };
            candidate.ndcg = quality.ndcg[JUDGED_AT];
            writeln!(out, "{}", row(&settings, &quality, started.elapsed().as_secs_f64()))?;
            out.flush()?;
        }
        candidates = go_on(candidates, divisor);
    }
    let best = candidates.first().context("there was no candidate")?;
    let text = as_toml(&best.settings, best.ndcg);
    match &arguments.out {
        Some(path) => {
            fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(out, "\nthe best is in {0}: bdr serve --config {0}", path.display())?;
        }
        None => write!(out, "\n{text}")?,
    }
    Ok(())
}

const HEADER: &str = " rank   lambda      alpha  click  purchase   hit rate at 10   NDCG at 10   seconds";

fn row(settings: &Settings, quality: &Quality, seconds: f64) -> String {
    let Settings { rank, lambda, alpha, weights, .. } = settings;
    let (hit_rate, ndcg) = (quality.hit_rate[JUDGED_AT], quality.ndcg[JUDGED_AT]);
    let Weights { click, purchase } = weights;
    format!(
        "{rank:>5} {lambda:>8.4} {alpha:>10.4} {click:>6.2} {purchase:>9.2} {hit_rate:>16.4} {ndcg:>12.4} {seconds:>9.2}"
    )
}

/// The settings in force, and others drawn at random: numbers whose size is open are drawn by their logarithm.
fn candidates(count: u32, in_force: &Settings) -> Vec<Candidate> {
    let mut random = SplitMix64::new(in_force.seed);
    let mut log_uniform = |from: f64, to: f64| (from * (to / from).powf(random.unit())) as f32;
    let mut drawn = vec![in_force.clone()];
    for number in 1..count {
        drawn.push(Settings {
            rank: RANKS[number as usize % RANKS.len()],
            lambda: log_uniform(0.001, 1.0),
            alpha: log_uniform(0.01, 100.0),
            weights: Weights { click: 1.0, purchase: log_uniform(1.0, 10.0) },
            ..in_force.clone()
        });
    }
    drawn.into_iter().map(|settings| Candidate { settings, ndcg: 0.0 }).collect()
}

fn try_out(data: &Data, settings: &Settings, pool: &rayon::ThreadPool) -> anyhow::Result<Report> {
    let trained = als::train(&data.base, settings, None, pool, &AtomicBool::new(false), &mut |_| ())?;
    Ok(judge(data, settings, trained, Table::default()))
}

/// The better part of the candidates, best first, and the settings in force (the first of all) whatever they reached.
fn go_on(candidates: Vec<Candidate>, divisor: usize) -> Vec<Candidate> {
    let keep = candidates.len().div_ceil(divisor);
    let in_force = candidates.first().cloned();
    let mut sorted = candidates;
    sorted.sort_by(|a, b| b.ndcg.total_cmp(&a.ndcg));
    sorted.truncate(keep);
    if divisor > 1
        && let Some(in_force) = in_force
    {
        sorted.retain(|candidate| candidate.settings != in_force.settings);
        sorted.insert(0, in_force);
    }
    sorted
}

fn as_toml(settings: &Settings, ndcg: f64) -> String {
    let Settings { rank, lambda, alpha, weights: Weights { click, purchase }, .. } = settings;
    format!(
        "# Found by bdr tune: NDCG at {} is {ndcg:.4} on each user's hidden last event.\n[als]\nrank = {rank}\nlambda = {lambda:?}\n\
         alpha = {alpha:?}\nclick_weight = {click:?}\npurchase_weight = {purchase:?}\n",
        LENGTHS[JUDGED_AT]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force() -> Settings {
        let weights = Weights { click: 1.0, purchase: 3.0 };
        Settings { rank: 10, iterations: 20, lambda: 0.01, alpha: 0.01, weights, seed: 42 }
    }

    #[test]
    fn the_settings_in_force_stay_to_the_last_round_and_the_best_wins() {
        let mut all = candidates(9, &in_force());
        for (number, candidate) in all.iter_mut().enumerate() {
            candidate.ndcg = number as f64;
        }
        let next = go_on(all, 3);
        assert_eq!(next.iter().map(|candidate| candidate.ndcg).collect::<Vec<_>>(), [0.0, 8.0, 7.0, 6.0]);
        assert_eq!(next[0].settings, in_force());
        assert_eq!(go_on(next, 1)[0].ndcg, 8.0);
    }

    #[test]
    fn what_is_written_is_a_settings_file() {
        let mut raw = crate::config::Raw::default();
        raw.file("best.toml".as_ref(), &as_toml(&in_force(), 0.5)).unwrap();
        let config = raw.check().unwrap().config;
        assert_eq!(training_settings(&config), in_force());
    }
}
