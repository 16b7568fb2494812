//! Replays: build the next version beside the running one, compare, and switch.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Problem, Query, Site, admin, recommend};
use crate::actors::messages::Promote;
use crate::actors::node::recipe;
use crate::clock;
use crate::config::promoted;
use crate::interests::counters::Counters;
use crate::model::Question;
use crate::recover::{self, LOG_DIR};
use crate::replay::Until;
use crate::replay::running::{Beside, Order, Phase, Replay, Status};

/// A replay that can be asked about.
#[derive(Debug)]
struct Known {
    set: Vec<String>,
    replay: Replay,
}

/// All replays that were not deleted. One can be under way at a time: each holds all interests once more.
#[derive(Debug, Default)]
pub struct Replays {
    last: u64,
    /// What was promoted since the node started.
    promoted: Vec<String>,
    known: HashMap<u64, Known>,
}

/// The replays, shared by all requests.
pub type SharedReplays = Arc<Mutex<Replays>>;

fn lock(replays: &SharedReplays) -> MutexGuard<'_, Replays> {
    replays.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Settings of the model, by name.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// Only what was committed by then, as RFC 3339.
    until: Option<String>,
    /// Only so many events.
    until_offset: Option<u64>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: u64,
    set: &'a [String],
    until: Option<Until>,
    #[serde(flatten)]
    status: Status,
}

impl Known {
    fn answer(&self, id: u64) -> HttpResponse {
        let until = self.replay.order.until;
        HttpResponse::Ok().json(Answer { id, set: &self.set, until, status: self.replay.status() })
    }
}

/// Build job Y from the event log, under other settings, beside the running job X.
#[utoipa::path(
    post, path = "/replays", tag = "replays",
    request_body(content((serde_json::Value = "application/json", example = json!({"set": {"als.rank": 32}})))),
    responses(
        (status = 201, description = "begun"),
        (status = 400, description = "a setting is unknown, wrong, or none of a model"),
        (status = 409, description = "a replay is there already: delete it first")
    )
)]
pub(crate) async fn start(body: web::Bytes, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let asked: Asked = if body.is_empty() {
        Asked::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?
    };
    let until = until(&asked)?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let set: Vec<String> = asked.set.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let wrong = |error: promoted::NotReplayed| Problem::bad_request(error.to_string());
    let running = promoted::replayed(&site.entrance.config, &lock(&site.replays).promoted).map_err(wrong)?;
    let config = promoted::replayed(&running, &set).map_err(wrong)?;
    let (live, served) = (site.live.clone(), site.served.clone());
    let beside = Beside {
        log_dir: site.entrance.config.data.dir.join(LOG_DIR),
        offset: Arc::new(move || live.read(Counters::offset)),
        served: Arc::new(move || served.model()),
        pool: site.replay_pool.clone(),
    };
    let mut replays = lock(&site.replays);
    if let Some(id) = replays.known.keys().next() {
        let error = format!("replay {id} is there already; end it with DELETE /replays/{id}");
        return Err(Problem::new(StatusCode::CONFLICT, error));
    }
    let replay = Replay::start(Order { recipe: recipe(&config), until }, beside)
        .map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("cannot start a thread: {error}")))?;
    replays.last += 1;
    let id = replays.last;
    let status = replay.status();
    let answer = HttpResponse::Created().json(Answer { id, set: &set, until, status });
    replays.known.insert(id, Known { set, replay });
    Ok(answer)
}

fn until(asked: &Asked) -> Result<Option<Until>, Problem> {
    match (&asked.until, asked.until_offset) {
        (None, None) => Ok(None),
        (None, Some(offset)) => Ok(Some(Until::Offset(offset))),
        (Some(time), None) => clock::parse_rfc_3339(time).map(|micros| Some(Until::Time(micros))).ok_or_else(|| {
            Problem::bad_request(format!("until must be a time such as \"2026-11-23T10:00:00Z\", got {time:?}"))
        }),
        (Some(_), Some(_)) => Err(Problem::bad_request("only one of until and until_offset can be given")),
    }
}

/// Runs `what` on the replay of this number.
fn with<T>(site: &Site, id: u64, what: impl FnOnce(&mut Known) -> T) -> Result<T, Problem> {
    let mut replays = lock(&site.replays);
    let known = replays.known.get_mut(&id);
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("there is no replay {id}"));
    known.map(what).ok_or_else(missing)
}

/// How far the replay is, and how X and Y compare.
#[utoipa::path(
    get, path = "/replays/{id}", tag = "replays",
    params(("id" = u64, Path, description = "the replay's number")),
    responses((status = 200, example = json!({
        "id": 1, "set": ["als.rank=32"], "until": null, "phase": "level", "events": 1200, "events_total": 1200,
        "comparison": {
            "x": {"generation": 3, "events": 1100, "loss": 0.03, "seconds": 0.1, "hit_rate_at_5": 0.25, "crc32c": 1},
            "y": {"generation": 0, "events": 1150, "loss": 0.02, "seconds": 0.2, "hit_rate_at_5": 0.3, "crc32c": 2},
            "overlap_at_5": 0.7, "judged_events": 40
        },
        "error": null
    })), (status = 404))
)]
pub(crate) async fn status(path: web::Path<u64>, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    with(&site, *path, |known| known.answer(*path))
}

/// Swap Y in, and make its settings the running ones, over restarts too.
#[utoipa::path(
    post, path = "/replays/{id}/promote", tag = "replays",
    params(("id" = u64, Path, description = "the replay's number")),
    responses(
        (status = 200, description = "Y is served", example = json!({"generation": 4})),
        (status = 404, description = "there is no such replay"),
        (status = 409, description = "it is not level yet, or ends before the running node")
    )
)]
pub(crate) async fn promote(path: web::Path<u64>, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    let id = *path;
    let (set, order, phase, model) = with(&site, id, |known| {
        (known.set.clone(), known.replay.order.clone(), known.replay.status().phase, known.replay.model())
    })?;
    let model = model.filter(|_| phase == Phase::Level && order.until.is_none());
    let model = model.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            format!("replay {id} is not level with the running node, so it can't take over"),
        )
    })?;
    recover::keep_promoted(&site.entrance.config.data.dir, &set, &clock::rfc_3339(clock::now_micros()))
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    // After a compaction the log can number products otherwise than the node does: then Y is trained again under the node's numbers.
    let fits = site.live.read(|counters| model.products().is_prefix_of(counters.products().list()));
    let model = fits.then(|| Box::new((*model).clone()));
    let (reply, promoted) = oneshot::channel();
    site.promote.deliver(Promote { model, recipe: order.recipe, reply }).await;
    let mut generation = promoted.await.map_err(|_| admin::interrupted())?;
    if !fits {
        generation = admin::wait_for_window(&site).await?.generation();
    }
    lock(&site.replays).promoted.extend(set);
    with(&site, id, |known| known.replay.promoted())?;
    Ok(HttpResponse::Ok().json(json!({"generation": generation})))
}

/// End a replay, and free what it holds.
#[utoipa::path(
    delete, path = "/replays/{id}", tag = "replays",
    params(("id" = u64, Path, description = "the replay's number")),
    responses((status = 200, description = "ended"), (status = 404))
)]
pub(crate) async fn delete(path: web::Path<u64>, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    let known = lock(&site.replays).known.remove(&path);
    let known = known.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no replay {path}")))?;
    // Waits for the thread.
    web::block(move || drop(known)).await.map_err(|_| admin::interrupted())?;
    Ok(HttpResponse::Ok().json(json!({"ended": *path})))
}

/// What Y recommends: with `until`, what would have been recommended then.
#[utoipa::path(
    get, path = "/replays/{id}/bdr", tag = "replays",
    params(
        ("id" = u64, Path, description = "the replay's number"),
        ("user" = Option<String>, Query, description = "the user's id"),
        ("product-kappa" = Option<String>, Query, description = "a product's id"),
        ("limit" = Option<usize>, Query, description = "how many products at most, 1 to 100 (5)"),
        ("exclude_seen" = Option<bool>, Query, description = "leave out what the user had an interest in (false)")
    ),
    responses(
        (status = 200, description = "as GET /bdr"),
        (status = 404, description = "there is no such replay"),
        (status = 409, description = "it has no model yet, or is busy just now")
    )
)]
pub(crate) async fn ask(
    request: HttpRequest,
    path: web::Path<u64>,
    site: web::Data<Site>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request)?;
    let (limit, exclude_seen) = (recommend::limit(&query)?, query.flag("exclude_seen", false)?);
    let question = Question { limit, exclude_seen, popular_fallback: false };
    with(&site, *path, |known| {
        let no_model = || Problem::new(StatusCode::CONFLICT, format!("replay {path} has no model yet"));
        let model = known.replay.model().ok_or_else(no_model)?;
        let names =
            |products: Vec<u32>| products.into_iter().map(|product| model.products().get(product)).collect::<Vec<_>>();
        let body = match (query.get("user"), query.get("product-kappa")) {
            (Some(user), None) => {
                let user = recommend::id("user", user)?;
                let busy =
                    || Problem::new(StatusCode::CONFLICT, format!("replay {path} is counting or training; ask again"));
                let is_level = known.replay.order.until.is_none();
                let interests = site.live.read(|counters| {
                    // A replay that follows the node knows what the node knows; after a compaction it can number products otherwise.
                    let same = is_level && model.products().is_prefix_of(counters.products().list());
                    same.then(|| counters.interests_of(&user))
                });
                let own = || known.replay.read(|counters| counters.interests_of(&user));
                let interests = interests.or_else(own).ok_or_else(busy)?;
                let (products, _) = model.recommend(&interests.unwrap_or_default(), question);
                json!({"user": user, "recommendedProducts": names(products)})
            }
            (None, Some(product)) => {
                let product = recommend::id("product-kappa", product)?;
                let dense = model.products().iter().position(|id| id == product);
                let list = dense.map(|dense| model.also_bought().get(dense as u32)).unwrap_or_default();
                let others = list.iter().take(limit).map(|also| also.product).collect();
                json!({"product": product, "recommendedProducts": names(others)})
            }
            _ => return Err(Problem::bad_request("one of the parameters user and product-kappa must be given")),
        };
        Ok(HttpResponse::Ok().insert_header(("X-Replay", path.to_string())).json(body))
    })?
}
