//! The node about itself: is it well, what does it serve, which windows were there.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Problem, Query, Site};
use crate::actors::messages::{CloseWindow, Closed, Compact, ListWindows, StartBatch};
use crate::clock;
use crate::window::{Outcome, WindowReport};

/// The process is up.
#[utoipa::path(get, path = "/healthcheck", tag = "node", responses((status = 200, example = json!({"healthcheck": "ok"}))))]
pub(crate) async fn healthcheck() -> HttpResponse {
    HttpResponse::Ok().json(json!({"healthcheck": "ok"}))
}

/// What was on the disk is loaded.
#[utoipa::path(get, path = "/ready", tag = "node", responses((status = 200), (status = 503, description = "still loading")))]
pub(crate) async fn ready(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    Ok(HttpResponse::Ok().json(json!({"ready": true})))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, content_type = "text/plain")))]
pub(crate) async fn metrics(site: web::Data<Site>) -> HttpResponse {
    let metrics = &site.entrance.metrics;
    if let Some(model) = site.served.model() {
        let age = clock::now_micros().saturating_sub(model.about.trained_at_micros);
        metrics.model_age_seconds.set(age as f64 / 1e6);
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}

#[derive(Serialize)]
struct ModelAnswer {
    generation: u64,
    trained_at: String,
    window: u64,
    events: u64,
    users: u64,
    products: u64,
    interests: u64,
    loss: f64,
    seconds: f64,
    settings: crate::als::Settings,
}

/// The served model.
#[utoipa::path(get, path = "/model", tag = "node", responses((status = 200), (status = 404, description = "none is served yet")))]
pub(crate) async fn model(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no model is served yet: the first is trained when a window with events closes",
        )
    };
    let about = site.served.model().ok_or_else(none)?.about.clone();
    Ok(HttpResponse::Ok().insert_header(("X-Generation", about.generation.to_string())).json(ModelAnswer {
        generation: about.generation,
        trained_at: clock::rfc_3339(about.trained_at_micros),
        window: about.window,
        events: about.events,
        users: about.users,
        products: about.products,
        interests: about.interests,
        loss: about.loss,
        seconds: about.seconds,
        settings: about.settings,
    }))
}

#[derive(Serialize)]
struct WindowAnswer {
    window: u64,
    closed_at: String,
    events: u64,
    events_in_total: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<WindowReport> for WindowAnswer {
    fn from(WindowReport { window, outcome }: WindowReport) -> Self {
        let mut answer = Self {
            window: window.number,
            closed_at: clock::rfc_3339(window.closed_at_micros),
            events: window.events,
            events_in_total: window.offset,
            outcome: "superseded",
            generation: None,
            loss: None,
            seconds: None,
            error: None,
        };
        match outcome {
            Outcome::Trained { generation, loss, seconds } => {
                answer.outcome = "trained";
                (answer.generation, answer.loss, answer.seconds) = (Some(generation), Some(loss), Some(seconds));
            }
            Outcome::Superseded => {}
            Outcome::Failed(error) => (answer.outcome, answer.error) = ("failed", Some(error)),
        }
        answer
    }
}

/// The last hundred windows that held events, newest first.
#[utoipa::path(get, path = "/windows", tag = "node", responses((status = 200)))]
pub(crate) async fn list_windows(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let (reply, answer) = oneshot::channel();
    site.list_windows.deliver(ListWindows { reply }).await;
    let windows = answer.await.map_err(|_| interrupted())?;
    Ok(HttpResponse::Ok().json(windows.into_iter().map(WindowAnswer::from).collect::<Vec<_>>()))
}

#[derive(Serialize)]
pub(super) struct ClosedAnswer {
    window: u64,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    empty: Option<&'static str>,
}

/// Close the window now.
#[utoipa::path(
    post, path = "/windows", tag = "node",
    params(("wait" = Option<bool>, Query, description = "answer when the window's model is served (false)")),
    responses(
        (status = 200, description = "with wait=true", example = json!({"window": 3, "generation": 3})),
        (status = 202, description = "without: it will be closed")
    )
)]
pub(crate) async fn close_window(request: HttpRequest, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    if !Query::of(&request)?.flag("wait", false)? {
        site.close_window.deliver(CloseWindow { reply: None }).await;
        return Ok(HttpResponse::Accepted().json(json!({"closing": true})));
    }
    Ok(HttpResponse::Ok().json(wait_for_window(&site).await?))
}

impl ClosedAnswer {
    /// The generation that is served.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// Closes the window and waits until its model is served.
pub(super) async fn wait_for_window(site: &Site) -> Result<ClosedAnswer, Problem> {
    let (reply, answer) = oneshot::channel();
    site.close_window.deliver(CloseWindow { reply: Some(reply) }).await;
    match answer.await.map_err(|_| interrupted())? {
        Closed::Trained { window, generation } => Ok(ClosedAnswer { window, generation, empty: None }),
        Closed::Empty { window, generation } => {
            let empty = Some("no new events since this window: nothing was trained");
            Ok(ClosedAnswer { window, generation, empty })
        }
        Closed::Failed { window, error } => {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("window {window} has no model: {error}")))
        }
    }
}

/// Compute the batch view of the lambda view now.
#[utoipa::path(
    post, path = "/batch", tag = "node",
    params(("wait" = Option<bool>, Query, description = "answer when the new batch is served (false)")),
    responses(
        (status = 200, description = "with wait=true", example = json!({"events": 1200, "seconds": 0.02})),
        (status = 202, description = "without: it will be computed")
    )
)]
pub(crate) async fn batch(request: HttpRequest, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    if !Query::of(&request)?.flag("wait", false)? {
        site.start_batch.deliver(StartBatch { reply: None }).await;
        return Ok(HttpResponse::Accepted().json(json!({"computing": true})));
    }
    let started = Instant::now();
    let (reply, answer) = oneshot::channel();
    site.start_batch.deliver(StartBatch { reply: Some(reply) }).await;
    let events = answer.await.map_err(|_| interrupted())?;
    Ok(HttpResponse::Ok().json(json!({"events": events, "seconds": started.elapsed().as_secs_f64()})))
}

/// Take the events of forgotten users out of the event log now; the answer comes when it is done. A request to forget that nothing follows yet stays,
/// with the user's id, until the next compaction after the next event.
#[utoipa::path(
    post, path = "/compact", tag = "node",
    responses(
        (status = 200, description = "how many events were taken out, how many bytes shorter the log is",
         example = json!({"events": 12, "bytes": 345})),
        (status = 500, description = "the log could not be read or written; it says what it said before")
    )
)]
pub(crate) async fn compact(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let (reply, answer) = oneshot::channel();
    site.compact.deliver(Compact { reply }).await;
    let compacted = answer.await.map_err(|_| interrupted())?;
    let compacted = compacted.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(HttpResponse::Ok().json(json!({"events": compacted.events, "bytes": compacted.bytes})))
}

pub(super) fn interrupted() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "an internal failure or the node's shutdown interrupted this; ask again",
    )
}
