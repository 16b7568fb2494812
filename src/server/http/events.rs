//! Events over HTTP: one as JSON, or many as NDJSON in a body of any length, read and counted while it arrives.

use std::collections::VecDeque;
use std::time::Instant;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Problem, Site};
use crate::actors::messages::{NotCounted, Submit, Ticket};
use crate::clock;
use crate::metrics::Listener;
use crate::protocol::batch::{Batch, BatchReader};
use crate::protocol::lines::{Line, LineBuffer};
use crate::server::tcp::{Entrance, Outcome};

/// Batches of one request that wait to be durable; beyond that reading its body pauses.
const UNANSWERED: usize = 16;
/// An answer lists so many refused lines.
const LISTED_ERRORS: usize = 100;

/// Post one event (`application/json`), or many, one a line (`application/x-ndjson`).
#[utoipa::path(
    post, path = "/bdr", tag = "events",
    request_body(content(
        (serde_json::Value = "application/json", example = json!({
            "date_time": "2013-01-07T01:31:24.000Z", "site_name": 8, "user_location_country": 77, "user_location_region": 824,
            "user_location_city": 32261, "user_id": 9491, "is_mobile": 1, "product": 68, "channel": 9,
            "product_generic_category": 1, "product_specific_category": 8279, "is_purchase": 0
        })),
        (String = "application/x-ndjson")
    )),
    responses(
        (status = 201, description = "durable and counted: the event, or for NDJSON how many were accepted and rejected, and why"),
        (status = 400, description = "not an event; nothing was counted"),
        (status = 413, description = "longer than ingest.max_line_bytes"),
        (status = 415, description = "another content type"),
        (status = 503, description = "not counted, or not known to be; say it again later")
    )
)]
pub(crate) async fn post(
    request: HttpRequest,
    body: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        post_one(body, &site.entrance).await
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        post_many(body, &site.entrance).await
    } else {
        let error = format!("content type must be application/json or application/x-ndjson, got {content_type:?}");
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
    }
}

async fn post_one(mut body: web::Payload, entrance: &Entrance) -> Result<HttpResponse, Problem> {
    let limit = entrance.config.ingest.max_line_bytes;
    let mut event = Vec::new();
    while let Some(chunk) = body.next().await {
        event.extend_from_slice(&chunk.map_err(broken_body)?);
        if event.len() > limit {
            let error = format!("the event is longer than {limit} bytes (ingest.max_line_bytes)");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
    }
    let mut batches = BatchReader::new(entrance.schema(), limit);
    if event.trim_ascii().is_empty() {
        return Err(Problem::bad_request("the body is empty: expected one event"));
    }
    batches.add(&Line::Complete(&event), clock::now_micros());
    let batch = batches.take();
    let error = batch.refused.first().map(|refused| refused.reason.to_string());
    counted(submit(entrance, batch).await?.await)?;
    match error {
        Some(error) => Err(Problem::bad_request(error)),
        None => Ok(HttpResponse::Created().content_type("application/json").body(event)),
    }
}

#[derive(Default, Serialize)]
struct Tally {
    accepted: u64,
    rejected: u64,
    errors: Vec<LineError>,
}

#[derive(Serialize)]
struct LineError {
    line: u64,
    error: String,
}

async fn post_many(mut body: web::Payload, entrance: &Entrance) -> Result<HttpResponse, Problem> {
    let limit = entrance.config.ingest.max_line_bytes;
    let mut lines = LineBuffer::new(limit);
    let mut batches = BatchReader::new(entrance.schema(), limit);
    let mut tally = Tally::default();
    let mut under_way: VecDeque<(Outcome, u64)> = VecDeque::new();
    loop {
        let chunk = body.next().await.transpose().map_err(broken_body)?;
        let now = clock::now_micros();
        if let Some(chunk) = &chunk {
            lines.room().extend_from_slice(chunk);
        }
        while let Some(line) = lines.next_line() {
            batches.add(&line, now);
        }
        if chunk.is_none()
            && let Some(line) = lines.last_line()
        {
            batches.add(&line, now);
        }
        let batch = batches.take();
        tally.note_refused(&batch);
        let accepted = batch.accepted;
        under_way.push_back((submit(entrance, batch).await?, accepted));
        while under_way.len() > if chunk.is_some() { UNANSWERED } else { 0 } {
            if let Some((outcome, accepted)) = under_way.pop_front() {
                counted(outcome.await).map_err(|problem| tally.interrupted(&problem))?;
                tally.accepted += accepted;
            }
        }
        if chunk.is_none() {
            return Ok(HttpResponse::Created().json(tally));
        }
    }
}

impl Tally {
    fn note_refused(&mut self, batch: &Batch) {
        self.rejected += batch.refused.len() as u64;
        for refused in batch.refused.iter().take(LISTED_ERRORS - self.errors.len()) {
            self.errors.push(LineError { line: refused.line_number, error: refused.reason.to_string() });
        }
    }

    fn interrupted(&self, problem: &Problem) -> Problem {
        let error = format!("{}; the first {} accepted events are counted", problem.error, self.accepted);
        Problem::new(problem.status, error)
    }
}

/// Hands a batch to Ingest, once the in-flight budget allows it.
async fn submit(entrance: &Entrance, batch: Batch) -> Result<Outcome, Problem> {
    let arrived = Instant::now();
    let share = entrance.budget.take(batch.size()).await;
    let share = share.ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is shutting down"))?;
    let (done, outcome) = oneshot::channel();
    let ticket = Ticket { arrived, share, done };
    entrance.submit.deliver(Submit { batch, source: Listener::Http, lines: None, ticket }).await;
    Ok(outcome)
}

fn counted(outcome: Result<Result<(), NotCounted>, oneshot::error::RecvError>) -> Result<(), Problem> {
    let outcome = outcome.unwrap_or(Err(NotCounted::Interrupted));
    outcome.map_err(|reason| Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn broken_body(error: actix_web::error::PayloadError) -> Problem {
    Problem::bad_request(format!("the body ended before it was complete: {error}"))
}
