//! `bdr replay`: builds the next version from the event log, beside a running node or in a data directory that rests, compares, and switches.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::client::{Client, Origin, origin};
use crate::actors::node::{TRAINING_NICENESS, recipe, training_pool};
use crate::clock;
use crate::config::Config;
use crate::ids::Id;
use crate::model::{Model, Question};
use crate::recover::{self, LOG_DIR};
use crate::replay::comparison::Comparison;
use crate::replay::{Rebuild, Until};

/// How often a running replay is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// What is to be replayed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Serve the new version when it is level, and keep its settings
    #[arg(long, conflicts_with_all = ["until", "until_offset"])]
    promote: bool,
    /// Only what was committed by this time, such as 2026-11-23T10:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "until_offset", value_parser = time)]
    until: Option<String>,
    /// Only the first N events
    #[arg(long, value_name = "N")]
    until_offset: Option<u64>,
    /// Show what the new version recommends to this user; can be given again and again
    #[arg(long, value_name = "ID")]
    user: Vec<String>,
    /// Beside a running node: compare on the events of so many seconds more
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 0)]
    seconds: u64,
    /// The running node. Without it: the data directory, or the node that uses it
    #[arg(long, value_name = "HOST:PORT")]
    from: Option<String>,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn until(&self) -> Option<Until> {
        let time = self.until.as_deref().and_then(clock::parse_rfc_3339);
        time.map(Until::Time).or(self.until_offset.map(Until::Offset))
    }
}

/// An argument that names a time, as it was typed.
fn time(text: &str) -> Result<String, &'static str> {
    let expected = "expected a time such as 2026-11-23T10:00:00Z";
    clock::parse_rfc_3339(text).map(|_| text.to_owned()).ok_or(expected)
}

/// Replays; `set` are the settings that were given as arguments, of which those of a model are the new version's.
pub fn run(arguments: &Arguments, config: &Config, set: &[String]) -> anyhow::Result<()> {
    let of_a_model = |setting: &&String| setting.starts_with("als.") || setting.starts_with("also_bought.");
    let set: Vec<String> = set.iter().filter(of_a_model).cloned().collect();
    let outcome = match origin(arguments.from.as_deref(), config)? {
        Origin::Node(client) => beside(arguments, &client, &set)?,
        Origin::Directory(_lock) => resting(arguments, config, &set)?,
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{outcome}")?;
    } else {
        print(&outcome, &mut out)?;
    }
    Ok(())
}

fn bar() -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} events, {msg}")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// Beside a running node, which does the work.
fn beside(arguments: &Arguments, client: &Client, set: &[String]) -> anyhow::Result<Value> {
    let pairs = set.iter().filter_map(|setting| setting.split_once('='));
    let set: Map<String, Value> = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().into())).collect();
    let order = json!({"set": set, "until": arguments.until, "until_offset": arguments.until_offset});
    let id = client.post("/replays", &order)?["id"].as_u64().context("the node gave no number")?;
    let path = format!("/replays/{id}");
    let outcome = watch(arguments, client, &path);
    // A replay holds all interests once more: it does not stay behind.
    let deleted = client.delete(&path);
    let outcome = outcome?;
    deleted?;
    Ok(outcome)
}

#[expect(clippy::disallowed_methods, reason = "another process is asked, which has no way to call back")]
fn watch(arguments: &Arguments, client: &Client, path: &str) -> anyhow::Result<Value> {
    let bar = bar()?;
    let mut level_since = None;
    let mut status = loop {
        let status = client.get_json(path)?;
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        bar.set_length(status["events_total"].as_u64().unwrap_or(0));
        bar.set_position(status["events"].as_u64().unwrap_or(0));
        bar.set_message(phase.clone());
        match phase.as_str() {
            "done" => break status,
            "failed" => bail!("the replay failed: {}", status["error"].as_str().unwrap_or("the node's log says why")),
            "level" => {
                let since = *level_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= Duration::from_secs(arguments.seconds) {
                    break status;
                }
            }
            _ => {}
        }
        thread::sleep(ASK_EVERY);
    };
    bar.finish_and_clear();
    let mut recommended = Map::new();
    for user in &arguments.user {
        let answer = client.get_json(&format!("{path}/bdr?user={}", encoded(user)))?;
        recommended.insert(user.clone(), answer["recommendedProducts"].clone());
    }
    status["recommended"] = recommended.into();
    if arguments.promote {
        status["promoted"] = client.post(&format!("{path}/promote"), &json!({}))?;
    }
    Ok(status)
}

/// As a query string wants it.
fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// In a data directory that no node uses.
fn resting(arguments: &Arguments, config: &Config, set: &[String]) -> anyhow::Result<Value> {
    let (dir, until) = (&config.data.dir, arguments.until());
    let store = recover::open_store(dir)?;
    let x = store.load_model().unwrap_or_default();
    let (recipe, never) = (recipe(config), AtomicBool::new(false));
    let pool = training_pool(config.als.threads, TRAINING_NICENESS)?;
    let bar = bar()?;
    let (log_dir, mut rebuild) = (dir.join(LOG_DIR), Rebuild::default());
    let end = until.unwrap_or(Until::Offset(u64::MAX));
    rebuild.advance(&log_dir, end, &never, |_, _| (), |events| bar.set_position(events))?;
    bar.set_message("training");
    let model = rebuild.train(&recipe, &pool, &never)?;
    // Back in time there is no X; what came after shows how good Y was then.
    let x = x.filter(|x| until.is_none() && x.products().agrees_with(model.products()));
    let mut comparison = Comparison::new(x.as_ref(), &model, rebuild.counters());
    let recommended = recommended(arguments, &rebuild, &model)?;
    if until.is_some() {
        let rest = Until::Offset(u64::MAX);
        rebuild.advance(
            &log_dir,
            rest,
            &never,
            |counters, event| comparison.judge(None, &model, counters, event),
            |_| (),
        )?;
    }
    bar.finish_and_clear();
    let events = model.about.events;
    let mut outcome = json!({"set": set, "events": events, "comparison": comparison, "recommended": recommended});
    if arguments.promote {
        let generation = x.map_or(1, |x| x.about.generation + 1);
        promote(config, set, model, generation, &store)?;
        outcome["promoted"] = json!({"generation": generation});
    }
    Ok(outcome)
}

fn recommended(arguments: &Arguments, rebuild: &Rebuild, model: &Model) -> anyhow::Result<Map<String, Value>> {
    let question = Question { limit: 5, exclude_seen: false, popular_fallback: false };
    let mut recommended = Map::new();
    for user in &arguments.user {
        let id = Id::from_text(user.as_str()).with_context(|| format!("{user:?} is no id: it has 1 to 128 bytes"))?;
        let interests = rebuild.counters().interests_of(&id).unwrap_or_default();
        let products = model.recommend(&interests, question).0;
        let names: Vec<_> = products.into_iter().map(|product| model.products().get(product)).collect();
        recommended.insert(user.clone(), serde_json::to_value(names)?);
    }
    Ok(recommended)
}

/// What the next start serves.
fn promote(
    config: &Config,
    set: &[String],
    mut model: Model,
    generation: u64,
    store: &crate::store::Store,
) -> anyhow::Result<()> {
    model.about.generation = generation;
    let windows = store.load_windows().unwrap_or_default();
    model.about.window = windows.first().map_or(0, |report| report.window.number);
    recover::keep_promoted(&config.data.dir, set, &clock::rfc_3339(clock::now_micros()))?;
    store.save_model(Some(&Arc::new(model)), &windows)?;
    Ok(())
}

fn print(outcome: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let comparison = &outcome["comparison"];
    ensure!(comparison.is_object(), "the replay gave no comparison");
    let set: Vec<&str> = outcome["set"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let set = if set.is_empty() { "as they are".to_owned() } else { set.join(" ") };
    writeln!(out, "{} events replayed; settings: {set}\n", outcome["events"])?;
    writeln!(out, "{:<26}{:>14}{:>14}", "", "x (served)", "y (replayed)")?;
    let judged = comparison["judged_events"].as_u64().unwrap_or(0);
    let hit_rate = format!("hit rate at 5, {judged} events");
    for (name, member) in [
        ("generation", "generation"),
        ("trained on events", "events"),
        ("loss per interest", "loss"),
        ("seconds", "seconds"),
        (hit_rate.as_str(), "hit_rate_at_5"),
        ("checksum of the factors", "crc32c"),
    ] {
        let cell = |side: &str| match &comparison[side][member] {
            Value::Null => "-".to_owned(),
            Value::Number(number) if number.is_f64() => format!("{:.6}", number.as_f64().unwrap_or_default()),
            value => value.to_string(),
        };
        writeln!(out, "{name:<26}{:>14}{:>14}", cell("x"), cell("y"))?;
    }
    if let Some(overlap) = comparison["overlap_at_5"].as_f64() {
        writeln!(out, "\n{:.0} % of the recommended five are the same", overlap * 100.0)?;
    }
    for (user, products) in outcome["recommended"].as_object().into_iter().flatten() {
        writeln!(out, "user {user}: {products}")?;
    }
    if let Some(generation) = outcome["promoted"]["generation"].as_u64() {
        writeln!(out, "promoted: generation {generation} is served, its settings are kept")?;
    }
    Ok(())
}
