//! From a file to interests: events, counted as a node would (for a holdout without each user's last one), or a table of interests.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::table;
use crate::config::{Config, Schema as ConfiguredSchema};
use crate::evaluation::Hidden;
use crate::event::encoding::{self, Item};
use crate::event::{Event, Schema};
use crate::ids::IdList;
use crate::interests::base::Base;
use crate::interests::counters::Counters;
use crate::protocol::batch::BatchReader;
use crate::protocol::lines::{Line, LineBuffer};

/// More users than this are not judged one by one: every n-th is taken.
const MOST_JUDGED: usize = 50_000;

/// What to train on, and what to judge by.
pub(in crate::cli) struct Data {
    pub(in crate::cli) base: Arc<Base>,
    pub(in crate::cli) products: IdList,
    pub(in crate::cli) hidden: Vec<Hidden>,
}

/// Reads a file of events, or a table of interests.
pub(in crate::cli) fn load(path: &Path, config: &Config, holdout: bool) -> anyhow::Result<Data> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut first_bytes = Vec::new();
    File::open(path).with_context(unreadable)?.take(4).read_to_end(&mut first_bytes).with_context(unreadable)?;
    if table::is_table(&first_bytes) {
        if holdout {
            bail!("a table of interests does not say which event was each user's last: use a file of events");
        }
        let (base, products) = table::load(path).with_context(unreadable)?;
        return Ok(Data { base: Arc::new(base), products, hidden: Vec::new() });
    }
    let events = read(path, config).with_context(unreadable)?;
    let mut counters = Counters::default();
    let mut hidden = Vec::new();
    if holdout {
        hidden = count_but_the_last(&events, &mut counters)?;
    } else {
        counters.apply(&events)?;
    }
    let base = match counters.freeze() {
        Some(job) => job.run(),
        None => bail!("nothing was counted"),
    };
    if base.pairs() == 0 {
        bail!("there is no event in {}{}", path.display(), if holdout { " beside each user's last" } else { "" });
    }
    let step = hidden.len().div_ceil(MOST_JUDGED).max(1);
    let hidden = hidden.into_iter().step_by(step).collect();
    Ok(Data { base, products: counters.products().list().clone(), hidden })
}

/// All events of the file, encoded; lines that are none are counted and passed over.
fn read(path: &Path, config: &Config) -> anyhow::Result<Vec<u8>> {
    let schema = match config.events.schema {
        ConfiguredSchema::Talk => Schema::Talk,
        ConfiguredSchema::Minimal => Schema::Minimal,
    };
    let limit = config.ingest.max_line_bytes;
    let mut file = File::open(path)?;
    let (mut lines, mut batches, mut chunk) =
        (LineBuffer::new(limit), BatchReader::new(schema, limit), vec![0; 256 << 10]);
    let (mut events, mut refused, mut first_reason) = (Vec::new(), 0, None);
    loop {
        let read = file.read(&mut chunk)?;
        lines.room().extend_from_slice(&chunk[..read]);
        while let Some(line) = lines.next_line() {
            add(&mut batches, &line);
        }
        if read == 0
            && let Some(line) = lines.last_line()
        {
            add(&mut batches, &line);
        }
        let batch = batches.take();
        events.extend_from_slice(&batch.events);
        refused += batch.refused.len();
        first_reason = first_reason.or_else(|| batch.refused.into_iter().next());
        if read == 0 {
            break;
        }
    }
    if let Some(first) = first_reason {
        tracing::warn!("{refused} lines are no events, the first at line {}: {}", first.line_number, first.reason);
    }
    Ok(events)
}

fn add(batches: &mut BatchReader, line: &Line<'_>) {
    // Events without a time are as old as 1970: in a holdout the order of the lines decides among them.
    batches.add(line, 0);
}

/// Counts all events but the newest of each user who has at least two, and gives those.
fn count_but_the_last(events: &[u8], counters: &mut Counters) -> anyhow::Result<Vec<Hidden>> {
    // Counting everything once gives users their numbers, and tells who has more than one event.
    let mut all = Counters::default();
    all.apply(events)?;
    let mut newest: Vec<Option<(i64, usize)>> = vec![None; all.users().len()];
    let mut seen = vec![0u32; newest.len()];
    for (at, event, _) in each(events) {
        if let Some(user) = all.users().find(&event.user) {
            seen[user as usize] += 1;
            let best = &mut newest[user as usize];
            *best = (*best).max(Some((event.time_micros, at)));
        }
    }
    let mut held = Vec::new();
    for (at, event, bytes) in each(events) {
        let user = all.users().find(&event.user).unwrap_or(0) as usize;
        if seen[user] > 1 && newest[user].is_some_and(|(_, newest)| newest == at) {
            held.push((event.user.into_owned(), event.product.into_owned()));
        } else {
            counters.apply(bytes)?;
        }
    }
    let hidden = held.iter().filter_map(|(user, product)| {
        // A product that nobody else ever touched can't be recommended: a miss, like any other.
        let product = counters.products().find(product).unwrap_or(u32::MAX);
        counters.users().find(user).map(|user| Hidden { user, product })
    });
    Ok(hidden.collect())
}

/// Each event with its number and its bytes.
fn each(events: &[u8]) -> impl Iterator<Item = (usize, Event<'_>, &[u8])> {
    let mut rest = events;
    let mut number = 0;
    std::iter::from_fn(move || {
        let before = rest;
        // The bytes were encoded a moment ago.
        let Ok(Item::Event(counted)) = encoding::read(&mut rest) else { return None };
        let event = counted.event().ok()?;
        number += 1;
        Some((number, event, &before[..before.len() - rest.len()]))
    })
}
