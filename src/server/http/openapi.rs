//! The description of all routes, kept beside each of them.

use actix_web::HttpResponse;
use utoipa::OpenApi;

use super::{admin, backup, events, export, recommend, replays, users};

#[derive(OpenApi)]
#[openapi(
    info(title = "BigDataRiver", description = "Recommendations from a live stream of clicks and purchases"),
    paths(
        events::post,
        recommend::recommend,
        users::known,
        users::forget,
        admin::healthcheck,
        admin::ready,
        admin::metrics,
        admin::model,
        admin::list_windows,
        admin::close_window,
        admin::batch,
        admin::compact,
        export::table,
        backup::make,
        replays::start,
        replays::status,
        replays::promote,
        replays::delete,
        replays::ask,
        document
    )
)]
struct Document;

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses((status = 200)))]
pub(crate) async fn document() -> HttpResponse {
    HttpResponse::Ok().json(Document::openapi())
}
