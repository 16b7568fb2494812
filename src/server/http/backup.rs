//! Backups of the running node.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Problem, Site, admin};
use crate::actors::messages::{ListWindows, TakeSnapshot};
use crate::backup::{self, Contents};
use crate::clock;

/// Make a backup below the data directory's `backups`; `bdr backup DIR` moves it to where it is wanted, and verifies it.
#[utoipa::path(
    post, path = "/backups", tag = "export",
    responses(
        (status = 201, description = "made: where it is on the node's machine, and how many events are in it",
         example = json!({"path": "/var/lib/bdr/backups/2026-11-23T10:00:00.000Z", "events": 1200})),
        (status = 500, description = "it could not be made"),
        (status = 503, description = "an export or another backup is under way")
    )
)]
pub(crate) async fn make(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let busy = "an export or another backup is under way; ask again when it has ended";
    let turn = site.exporting.clone().try_lock_owned();
    let turn = turn.map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy))?;
    let (reply, windows) = oneshot::channel();
    site.list_windows.deliver(ListWindows { reply }).await;
    let windows = windows.await.map_err(|_| admin::interrupted())?;
    let (reply, frozen) = oneshot::channel();
    site.take_snapshot.deliver(TakeSnapshot { reply }).await;
    let frozen = frozen.await.map_err(|_| admin::interrupted())?;
    let (model, lambda) = (site.served.model(), site.served.lambda());
    let contents = Contents { frozen, model, lambda, windows };
    let (live, data_dir) = (site.live.clone(), site.entrance.config.data.dir.clone());
    let made = web::block(move || {
        let _turn = turn;
        let now = clock::rfc_3339(clock::now_micros());
        let dir = backup::staging(&data_dir, &now)?;
        // Copies, for counting must not wait for a disk.
        let (users, products) = live.read(|counters| (counters.users().clone(), counters.products().clone()));
        let with_ids = |write: &mut dyn FnMut(&_, &_)| write(&users, &products);
        backup::take(&data_dir, &dir, &contents, with_ids, now).map(|manifest| (dir, manifest))
    });
    let made = made.await.map_err(|_| admin::interrupted())?;
    let (dir, manifest) = made.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(HttpResponse::Created().json(json!({"path": dir, "events": manifest.offset})))
}
