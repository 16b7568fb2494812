//! The event log as a table, or as the lines it was made of.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

use serde_json::{Map, Value as Json};

use super::rows::{Column, Kind, Rows, Value};
use super::{ExportError, Snapshot};
use crate::clock;
use crate::event::encoding::{self, Item};
use crate::event::{ATTRIBUTES, Event};
use crate::log::reading;

/// The columns of the table: who, what and when, the talk's attributes where given, further members as JSON.
pub(super) fn columns(user: Column, product: Column) -> Vec<Column> {
    let attributes = ATTRIBUTES.iter().map(|name| Column::new(*name, Kind::Integer).optional());
    let head = [Column::new("offset", Kind::Integer), user, product, Column::new("is_purchase", Kind::Integer)];
    let time = Column::new("date_time", Kind::Time);
    let further = Column::new("further", Kind::Text).optional();
    head.into_iter().chain([time]).chain(attributes).chain([further]).collect()
}

/// Writes the table. Events of forgotten users are not in it.
pub(super) fn write<W: Write + Send>(snapshot: &Snapshot, rows: &mut Rows<'_, W>) -> Result<(), ExportError> {
    each(snapshot, |offset, event| {
        let mut row = vec![
            Value::Integer(offset as i64),
            Value::Id(event.user),
            Value::Id(event.product),
            Value::Integer(i64::from(event.is_purchase)),
            Value::Time(event.time_micros),
        ];
        row.extend(event.attributes.map(|value| value.map_or(Value::Missing, Value::Integer)));
        row.push(if event.further.is_empty() { Value::Missing } else { Value::Text(&event.further) });
        rows.push(&row)
    })
}

/// Writes each event as the JSON object it came in as, up to the order of its members.
pub(super) fn write_lines(
    snapshot: &Snapshot,
    out: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, ExportError> {
    let (mut out, mut lines) = (BufWriter::with_capacity(1 << 16, out), 0);
    each(snapshot, |_, event| {
        let mut line = Map::new();
        line.insert("date_time".into(), clock::rfc_3339(event.time_micros).into());
        let given = ATTRIBUTES.iter().zip(event.attributes).filter_map(|(name, value)| Some((name, value?)));
        line.extend(given.map(|(name, value)| ((*name).to_owned(), value.into())));
        line.insert("user_id".into(), serde_json::to_value(&event.user).unwrap_or_default());
        line.insert("product".into(), serde_json::to_value(&event.product).unwrap_or_default());
        line.insert("is_purchase".into(), u8::from(event.is_purchase).into());
        if let Ok(Json::Object(further)) = serde_json::from_str(&event.further) {
            line.extend(further);
        }
        serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
        lines += 1;
        if lines % 4096 == 0 {
            progress(lines);
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(lines)
}

/// Gives every event before the snapshot's offset to `take`.
fn each(
    snapshot: &Snapshot,
    mut take: impl FnMut(u64, Event<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut outcome = Ok(());
    let forgotten = forgotten(snapshot)?;
    let mut position = 0u64;
    reading::read(&snapshot.log_dir, 0, |head, items| {
        let mut offset = head.first_offset;
        if offset >= snapshot.offset && head.events > 0 {
            return ControlFlow::Break(());
        }
        outcome = each_event(items, &mut offset, |offset, event| {
            position += 1;
            let gone = forgotten.get(&event.user).is_some_and(|&request| offset < request);
            if gone || offset >= snapshot.offset { Ok(()) } else { take(offset, event) }
        });
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

/// Of each user who was forgotten, the offset at the last request: events before it are not compacted away yet.
fn forgotten(snapshot: &Snapshot) -> Result<std::collections::HashMap<crate::ids::Id<'static>, u64>, ExportError> {
    let mut requests = std::collections::HashMap::new();
    reading::read(&snapshot.log_dir, 0, |head, mut items| {
        let mut offset = head.first_offset;
        while let Ok(item) = encoding::read(&mut items) {
            match item {
                Item::Forget(user) => drop(requests.insert(user.into_owned(), offset)),
                Item::Event(_) | Item::Nothing => offset += 1,
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(requests)
}

fn each_event(
    mut items: &[u8],
    offset: &mut u64,
    mut take: impl FnMut(u64, Event<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    while !items.is_empty() {
        let at = *offset;
        match encoding::read(&mut items).map_err(|_| ExportError::Event(at))? {
            Item::Event(counted) => take(at, counted.event().map_err(|_| ExportError::Event(at))?)?,
            Item::Forget(_) => continue,
            Item::Nothing => {}
        }
        *offset += 1;
    }
    Ok(())
}
