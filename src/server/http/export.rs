//! Tables of all that the node knows, as they are written.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::recommend::limit;
use super::{Problem, Query, Site, admin};
use crate::actors::messages::TakeSnapshot;
use crate::export::{self, Asked, Format, Snapshot, Table};
use crate::recover::LOG_DIR;
use crate::store::checkpoint::Frozen;

/// Pieces of a table that wait to be sent: a slow reader makes the writer wait, not the memory grow.
const PIECES: usize = 16;
/// Who reads nothing for so long is given up, for others may want to export too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// A table as of now: `interests`, `events`, `factors`, `recommendations` or `also-bought`.
#[utoipa::path(
    get, path = "/export/{table}", tag = "export",
    params(
        ("table" = String, Path, description = "interests, events, factors, recommendations or also-bought"),
        ("format" = Option<String>, Query, description = "parquet, csv or ndjson (ndjson)"),
        ("limit" = Option<usize>, Query, description = "recommendations: how many products a user, 1 to 100 (5)"),
        ("exclude_seen" = Option<bool>, Query, description = "recommendations: leave out what the user has an interest in already (false)")
    ),
    responses(
        (status = 200, description = "the table; the header X-Offset tells how many events are in it"),
        (status = 400, description = "a parameter is wrong"),
        (status = 404, description = "there is no such table, or no model yet"),
        (status = 503, description = "another export is under way")
    )
)]
pub(crate) async fn table(
    request: HttpRequest,
    path: web::Path<String>,
    site: web::Data<Site>,
) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let what: Table = named(&path).ok_or_else(|| {
        let error =
            format!("there is no table {path}; there are interests, events, factors, recommendations, also-bought");
        Problem::new(StatusCode::NOT_FOUND, error)
    })?;
    let query = Query::of(&request)?;
    let format = query.get("format").unwrap_or("ndjson");
    let format: Format = named(format).ok_or_else(|| {
        Problem::bad_request(format!("parameter format must be parquet, csv or ndjson, got {format:?}"))
    })?;
    let asked = Asked { limit: limit(&query)?, exclude_seen: query.flag("exclude_seen", false)? };
    let busy = "another export is under way; ask again when it has ended";
    let turn = site.exporting.clone().try_lock_owned();
    let turn = turn.map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy))?;
    let snapshot = snapshot(&site).await?;
    let offset = snapshot.offset;
    if snapshot.model.is_none() && !matches!(what, Table::Interests | Table::Events) {
        return Err(Problem::new(StatusCode::NOT_FOUND, export::ExportError::NoModel.to_string()));
    }
    let (sender, receiver) = mpsc::channel(PIECES);
    let (pool, runtime) = (site.pool.clone(), Handle::current());
    std::thread::Builder::new()
        .name("export".into())
        .spawn(move || {
            let _turn = turn;
            let mut out = Body { piece: Vec::with_capacity(PIECE), sender, runtime };
            let write = || export::write(what, &snapshot, asked, format, &mut out, &pool, &mut |_| ());
            let written =
                catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(io::Error::other("a panic").into()));
            let outcome = written.map_err(io::Error::other).and_then(|_| out.flush());
            if let Err(error) = outcome {
                tracing::warn!("an export ended early: {error}");
                // The reader sees a connection that breaks off instead of an end.
                let _ = out.send(Err(error));
            }
        })
        .map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("cannot start a thread: {error}")))?;
    let pieces = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let content_type = match format {
        Format::Parquet => "application/vnd.apache.parquet",
        Format::Csv => "text/csv; charset=utf-8",
        Format::Ndjson => "application/x-ndjson",
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header(("X-Offset", offset.to_string()))
        .streaming(pieces))
}

/// The choice of that name.
fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(json!(name)).ok()
}

/// All interests as of now, with the served model.
async fn snapshot(site: &Site) -> Result<Snapshot, Problem> {
    let (reply, frozen) = oneshot::channel();
    site.take_snapshot.deliver(TakeSnapshot { reply }).await;
    let Frozen { base, offset, .. } = frozen.await.map_err(|_| admin::interrupted())?;
    let (users, products) = site.live.read(|counters| {
        (counters.users().list().prefix(base.users()), counters.products().list().prefix(base.products()))
    });
    let log_dir = site.entrance.config.data.dir.join(LOG_DIR);
    Ok(Snapshot { base, users, products, model: site.served.model(), offset, log_dir })
}

/// Writes into the body of an answer.
struct Body {
    piece: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Body {
    /// Hands on a piece, waiting for a slow reader, but not for one that has stopped reading.
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sent = self.runtime.block_on(async { timeout(PATIENCE, self.sender.send(piece)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the reader has stopped reading")),
        }
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send(Ok(piece.into()))
    }
}
