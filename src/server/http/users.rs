//! What is known of a user, and how all of it is forgotten.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::recommend::id;
use super::{Problem, Query, Site, admin};
use crate::actors::messages::{Append, NotCounted, Ticket};
use crate::clock;
use crate::event::encoding::{self, Item};
use crate::ids::Id;
use crate::interests::Interest;
use crate::log::reading::{self, ReadError};
use crate::metrics::Listener;
use crate::recover::LOG_DIR;

#[derive(Serialize)]
struct Known<'a> {
    user: Id<'a>,
    interests: Vec<KnownInterest>,
}

#[derive(Serialize)]
struct KnownInterest {
    product: Id<'static>,
    clicks: u32,
    purchases: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

/// What is counted of a user, now; with the times of the first and the last event on each product, which are read from the event log.
#[utoipa::path(
    get, path = "/users/{id}", tag = "users",
    params(
        ("id" = String, Path, description = "the user's id"),
        ("times" = Option<bool>, Query, description = "read the times from the event log, which takes the longer the longer the log is (true)")
    ),
    responses(
        (status = 200, description = "clicks and purchases of each product",
         example = json!({"user": 2105, "interests": [{
             "product": 5, "clicks": 1, "purchases": 0, "first": "2013-01-07T01:31:24.000Z", "last": "2013-01-07T01:31:24.000Z"
         }]})),
        (status = 404, description = "no event of this user was ever counted, or all were forgotten")
    )
)]
pub(crate) async fn known(
    request: HttpRequest,
    path: web::Path<String>,
    site: web::Data<Site>,
) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let user = id("user", &path)?.into_owned();
    let times = Query::of(&request)?.flag("times", true)?;
    let interests = site.live.read(|counters| {
        let known = |interest: &Interest| KnownInterest {
            product: counters.products().list().get(interest.product).into_owned(),
            clicks: interest.counts.clicks,
            purchases: interest.counts.purchases,
            first: None,
            last: None,
        };
        counters.interests_of(&user).map(|interests| interests.iter().map(known).collect::<Vec<_>>())
    });
    let mut interests = interests.ok_or_else(|| unknown(&user))?;
    interests.sort_by(|a, b| a.product.cmp(&b.product));
    if times {
        let (dir, of) = (site.entrance.config.data.dir.join(LOG_DIR), user.clone());
        // One log is read at a time: the others wait.
        let _turn = site.log_reader.lock().await;
        let read = web::block(move || times_of(&dir, &of)).await;
        let times = read.map_err(|_| admin::interrupted())?.map_err(|error| broken(&error))?;
        for interest in &mut interests {
            if let Some(&(first, last)) = times.get(&interest.product) {
                (interest.first, interest.last) = (Some(clock::rfc_3339(first)), Some(clock::rfc_3339(last)));
            }
        }
    }
    Ok(HttpResponse::Ok().json(Known { user, interests }))
}

/// Times of the first and the last event of a user on each product, in microseconds since 1970 UTC.
fn times_of(dir: &Path, user: &Id<'_>) -> Result<HashMap<Id<'static>, (i64, i64)>, ReadError> {
    let mut times: HashMap<Id<'static>, (i64, i64)> = HashMap::new();
    reading::read(dir, 0, |_, mut events| {
        while let Ok(item) = encoding::read(&mut events) {
            match item {
                Item::Event(event) if event.user == *user => {
                    if let Ok(time) = event.time_micros() {
                        let known = times.entry(event.product.into_owned()).or_insert((time, time));
                        *known = (known.0.min(time), known.1.max(time));
                    }
                }
                Item::Forget(forgotten) if forgotten == *user => times.clear(),
                Item::Event(_) | Item::Forget(_) | Item::Nothing => {}
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(times)
}

/// Forget a user: the interests and the id at once, the effect on lists and model with the window that is closed at once, the events in the log
/// when it is next compacted.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users",
    params(
        ("id" = String, Path, description = "the user's id"),
        ("wait" = Option<bool>, Query, description = "answer when a model without the user is served (false)")
    ),
    responses(
        (status = 200, description = "durably forgotten", example = json!({"user": 2105, "forgotten": true})),
        (status = 404, description = "no event of this user was ever counted, or all were forgotten")
    )
)]
pub(crate) async fn forget(
    request: HttpRequest,
    path: web::Path<String>,
    site: web::Data<Site>,
) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let user = id("user", &path)?;
    let wait = Query::of(&request)?.flag("wait", false)?;
    if site.live.read(|counters| counters.users().find(&user)).is_none() {
        return Err(unknown(&user));
    }
    let mut events = Vec::new();
    encoding::write_forget(&mut events, &user);
    let share = site.entrance.budget.take(events.len()).await.ok_or_else(admin::interrupted)?;
    let (done, outcome) = oneshot::channel();
    let ticket = Ticket { arrived: Instant::now(), share, done };
    site.append.deliver(Append { events, count: 0, source: Listener::Http, mark: None, ticket }).await;
    outcome
        .await
        .unwrap_or(Err(NotCounted::Interrupted))
        .map_err(|reason| Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason.to_string()))?;
    if wait {
        admin::wait_for_window(&site).await?;
    }
    Ok(HttpResponse::Ok().json(json!({"user": user, "forgotten": true})))
}

fn unknown(user: &Id<'_>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no event of user {user} was counted yet"))
}

fn broken(error: &ReadError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
