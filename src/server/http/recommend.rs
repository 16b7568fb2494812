//! The talk's question: what should this user see?

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::products::{self, View};
use super::{Problem, Query, Site};
use crate::config::Fallback;
use crate::ids::Id;
use crate::interests::Interest;
use crate::model::{MOST_POPULAR, Model, Question, Source};

/// The wording of the talk's own API.
const WHICH: &str = "Parameter *product-lambda*, *product-kappa* or *user* must be provided in the query string";
const ONLY_ONE: &str = "only one of the parameters product-lambda, product-kappa and user can be answered at a time";
const DEFAULT_LIMIT: usize = 5;

#[derive(Serialize)]
struct UserAnswer<'a> {
    user: Id<'a>,
    #[serde(rename = "recommendedProducts")]
    recommended_products: Vec<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Vec<Explanation<'a>>>,
}

#[derive(Serialize)]
struct Explanation<'a> {
    product: Id<'a>,
    because: Vec<Reason<'a>>,
}

/// A product that the user had, and its share of the recommended product's score.
#[derive(Serialize)]
struct Reason<'a> {
    product: Id<'a>,
    share: f32,
}

fn explain<'a>(model: &'a Model, interests: &[Interest], products: &[u32]) -> Vec<Explanation<'a>> {
    let name = |product| model.products().get(product);
    let because = |product| {
        let shares = model.explain(interests, product).into_iter();
        shares.map(|(product, share)| Reason { product: name(product), share }).collect()
    };
    products.iter().map(|&product| Explanation { product: name(product), because: because(product) }).collect()
}

/// Recommendations for a user, or what was bought beside a product. Exactly one of `user`, `product-kappa` and `product-lambda` is given.
#[utoipa::path(
    get, path = "/bdr", tag = "recommendations",
    params(
        ("user" = Option<String>, Query, description = "a user's id: recommended by the model, from what the user did until now"),
        ("product-kappa" = Option<String>, Query, description = "a product's id: other products by how many users had both, as of the last window"),
        ("product-lambda" = Option<String>, Query, description = "a product's id: the same as of the last batch, then what was paired in the newest stream windows"),
        ("limit" = Option<usize>, Query, description = "how many products at most, 1 to 100 (5)"),
        ("exclude_seen" = Option<bool>, Query, description = "leave out what the user has an interest in already (false)"),
        ("explain" = Option<bool>, Query, description = "with each product, the share of its score that each of the user's products gave; of a product's list, how often both came together (false)")
    ),
    responses(
        (status = 200, description = "best first; the headers X-Generation and X-Source tell where they come from",
         example = json!({"user": 2105, "recommendedProducts": [77, 5, 95, 83, 37]})),
        (status = 400, description = "a parameter is missing or wrong")
    )
)]
pub(crate) async fn recommend(request: HttpRequest, site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    site.check_ready()?;
    let query = Query::of(&request)?;
    match (query.get("user"), query.get("product-kappa"), query.get("product-lambda")) {
        (Some(user), None, None) => for_user(user, &query, &site),
        (None, Some(product), None) => products::answer(View::Kappa, product, &query, &site),
        (None, None, Some(product)) => products::answer(View::Lambda, product, &query, &site),
        (None, None, None) => Err(Problem::bad_request(WHICH)),
        _ => Err(Problem::bad_request(ONLY_ONE)),
    }
}

fn for_user(user: &str, query: &Query, site: &web::Data<Site>) -> Result<HttpResponse, Problem> {
    let started = Instant::now();
    let user = id("user", user)?;
    let question = Question {
        limit: limit(query)?,
        exclude_seen: query.flag("exclude_seen", false)?,
        popular_fallback: site.entrance.config.serve.fallback == Fallback::Popular,
    };
    let wants_reasons = query.flag("explain", false)?;
    let interests = site.live.read(|counters| counters.interests_of(&user)).unwrap_or_default();
    // One handle for the whole answer: no answer mixes two generations.
    let model = site.served.model();
    let model = model.as_deref();
    let (products, source) = model.map_or((Vec::new(), Source::None), |model| model.recommend(&interests, question));
    let reasons = model.filter(|_| wants_reasons && source == Source::Als);
    let explain = reasons.map(|model| explain(model, &interests, &products));
    let recommended_products =
        model.map(|model| products.iter().map(|&product| model.products().get(product)).collect()).unwrap_or_default();
    let generation = model.map_or(0, |model| model.about.generation);
    let answer = HttpResponse::Ok()
        .insert_header(("X-Generation", generation.to_string()))
        .insert_header(("X-Source", source.label()))
        .json(UserAnswer { user, recommended_products, explain });
    let metrics = &site.entrance.metrics;
    metrics.recommended("user", source.label(), started.elapsed().as_secs_f64());
    Ok(answer)
}

pub(super) fn id<'a>(name: &str, text: &'a str) -> Result<Id<'a>, Problem> {
    Id::from_text(text).ok_or_else(|| Problem::bad_request(format!("parameter {name} must be an id of 1 to 128 bytes")))
}

pub(super) fn limit(query: &Query) -> Result<usize, Problem> {
    let Some(text) = query.get("limit") else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST_POPULAR).contains(limit));
    limit.ok_or_else(|| Problem::bad_request(format!("parameter limit must be a number from 1 to 100, got {text:?}")))
}
