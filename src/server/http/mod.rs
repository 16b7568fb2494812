//! Everything over HTTP. Every answer with a body is JSON, errors too, except the metrics.

pub mod admin;
pub mod backup;
pub mod events;
pub mod export;
pub mod openapi;
mod products;
pub mod recommend;
pub mod replays;
pub mod users;

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use serde::Serialize;
use tokio::sync::watch;

use self::replays::SharedReplays;
use crate::actors::messages::{Append, CloseWindow, Compact, ListWindows, Promote, StartBatch, TakeSnapshot};
use crate::actors::port::Port;
use crate::actors::shared::{Live, Served};
use crate::server::tcp::Entrance;

/// What requests work with.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where events go; the same as for TCP.
    pub entrance: Entrance,
    /// The live counters.
    pub live: Arc<Live>,
    /// The served model.
    pub served: Arc<Served>,
    /// Where a request to forget goes.
    pub append: Port<Append>,
    /// Closes windows.
    pub close_window: Port<CloseWindow>,
    /// Computes the batch view.
    pub start_batch: Port<StartBatch>,
    /// Compacts the log.
    pub compact: Port<Compact>,
    /// Makes a replayed model the served one.
    pub promote: Port<Promote>,
    /// The replays.
    pub replays: SharedReplays,
    /// The threads that replays train on.
    pub replay_pool: Arc<rayon::ThreadPool>,
    /// Freezes all interests.
    pub take_snapshot: Port<TakeSnapshot>,
    /// Held by the export or backup under way.
    pub exporting: Arc<tokio::sync::Mutex<()>>,
    /// The threads that train, for whatever else takes long.
    pub pool: Arc<rayon::ThreadPool>,
    /// Knows the windows.
    pub list_windows: Port<ListWindows>,
    /// Held by whoever reads the whole event log for an answer.
    pub log_reader: Arc<tokio::sync::Mutex<()>>,
    /// Whether what was on the disk is loaded.
    pub ready: watch::Receiver<bool>,
}

impl Site {
    /// Refuses what needs the loaded state before it is loaded.
    fn check_ready(&self) -> Result<(), Problem> {
        if *self.ready.borrow() {
            Ok(())
        } else {
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the node is loading its state; ask /ready when it is done",
            ))
        }
    }
}

/// An answer that says what is wrong: `{"error":"..."}`.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    error: String,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl Problem {
    /// A problem with this status and wording.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    /// The asker's mistake.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(ErrorBody { error: &self.error })
    }
}

/// Starts answering on this listener, with so many threads (0: one a core). Stop it with the server's handle.
pub fn serve(listener: TcpListener, site: Site) -> std::io::Result<Server> {
    let workers = match site.entrance.config.http.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    };
    // Half of the time for requests that do not end, so that the other half is left for what comes behind them.
    let grace = (site.entrance.config.shutdown.grace.as_secs() / 2).max(1);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(site.clone()))
            .wrap(from_fn(count))
            .configure(routes)
            .default_service(web::to(not_found))
    });
    Ok(server.workers(workers).disable_signals().shutdown_timeout(grace).listen(listener)?.run())
}

fn routes(config: &mut web::ServiceConfig) {
    let only = || web::to(method_not_allowed);
    config
        .service(
            web::resource("/bdr")
                .route(web::get().to(recommend::recommend))
                .route(web::post().to(events::post))
                .default_service(only()),
        )
        .service(
            web::resource("/users/{id}")
                .route(web::get().to(users::known))
                .route(web::delete().to(users::forget))
                .default_service(only()),
        )
        .service(web::resource("/healthcheck").route(web::get().to(admin::healthcheck)).default_service(only()))
        .service(web::resource("/ready").route(web::get().to(admin::ready)).default_service(only()))
        .service(web::resource("/metrics").route(web::get().to(admin::metrics)).default_service(only()))
        .service(web::resource("/model").route(web::get().to(admin::model)).default_service(only()))
        .service(
            web::resource("/windows")
                .route(web::get().to(admin::list_windows))
                .route(web::post().to(admin::close_window))
                .default_service(only()),
        )
        .service(web::resource("/batch").route(web::post().to(admin::batch)).default_service(only()))
        .service(web::resource("/compact").route(web::post().to(admin::compact)).default_service(only()))
        .service(web::resource("/export/{table}").route(web::get().to(export::table)).default_service(only()))
        .service(web::resource("/backups").route(web::post().to(backup::make)).default_service(only()))
        .service(web::resource("/replays").route(web::post().to(replays::start)).default_service(only()))
        .service(
            web::resource("/replays/{id}")
                .route(web::get().to(replays::status))
                .route(web::delete().to(replays::delete))
                .default_service(only()),
        )
        .service(web::resource("/replays/{id}/promote").route(web::post().to(replays::promote)).default_service(only()))
        .service(web::resource("/replays/{id}/bdr").route(web::get().to(replays::ask)).default_service(only()))
        .service(web::resource("/openapi.json").route(web::get().to(openapi::document)).default_service(only()));
}

async fn not_found(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let error = format!("there is nothing at {}; /openapi.json lists the routes", request.path());
    Err(Problem::new(StatusCode::NOT_FOUND, error))
}

async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (method, path) = (request.method(), request.path());
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed at {path}; see /openapi.json")))
}

/// Counts requests by route and status.
async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let route = request.match_pattern().unwrap_or_else(|| "other".to_owned());
    let site = request.app_data::<web::Data<Site>>().cloned();
    let answer = next.call(request).await;
    if let Some(site) = site {
        let status =
            answer.as_ref().map_or_else(|error| error.as_response_error().status_code(), ServiceResponse::status);
        site.entrance.metrics.requested(&route, status.as_str());
    }
    answer
}

/// The members of a query string.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the request's query string.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        pairs
            .map(|pairs| Self(pairs.into_inner()))
            .map_err(|error| Problem::bad_request(format!("query string: {error}")))
    }

    /// The value of a member.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a member that is true or false.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Problem::bad_request(format!("parameter {name} must be true or false, got {other:?}"))),
        }
    }
}
