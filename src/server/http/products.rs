//! The talk's other questions: what was bought beside this product, by the Kappa view and by the Lambda view.

use std::time::Instant;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::recommend::{id, limit};
use super::{Problem, Query, Site};
use crate::also_bought::Also;
use crate::also_bought::lambda;
use crate::config::Merge;
use crate::ids::Id;
use crate::model::Source;

/// Which view is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    /// Everything, as of the last window.
    Kappa,
    /// Batch and stream.
    Lambda,
}

impl View {
    /// The name of the parameter, and the value of the metrics' label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kappa => "product-kappa",
            Self::Lambda => "product-lambda",
        }
    }
}

#[derive(Serialize)]
struct ProductAnswer<'a> {
    product: &'a Id<'a>,
    #[serde(rename = "recommendedProducts")]
    recommended_products: Vec<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Vec<Together<'a>>>,
}

/// Another product, and how often both came together.
#[derive(Serialize)]
struct Together<'a> {
    product: Id<'a>,
    together: u32,
}

/// Answers with the products that were bought beside this one.
pub(super) fn answer(view: View, text: &str, query: &Query, site: &web::Data<Site>) -> Result<HttpResponse, Problem> {
    let started = Instant::now();
    let product = id(view.name(), text)?;
    let limit = limit(query)?;
    let explain = query.flag("explain", false)?;
    // A product's number is the same in the live table, in every model and in every layer.
    let dense = site.live.read(|counters| counters.products().find(&product));
    let (list, generation) = match view {
        View::Kappa => {
            let model = site.served.model();
            let list = model.as_ref().zip(dense).map(|(model, dense)| model.also_bought().get(dense));
            let list: Vec<Also> = list.unwrap_or_default().iter().take(limit).copied().collect();
            (list, model.map_or(0, |model| model.about.generation))
        }
        View::Lambda => {
            let merge = match site.entrance.config.lambda.merge {
                Merge::Talk => lambda::Merge::Talk,
                Merge::Sum => lambda::Merge::Sum,
            };
            let view = site.served.lambda();
            (dense.map(|dense| view.answer(dense, merge, limit)).unwrap_or_default(), view.number)
        }
    };
    let names: Vec<Id<'static>> = site.live.read(|counters| {
        let name = |also: &Also| counters.products().list().get(also.product).into_owned();
        list.iter().map(name).collect()
    });
    let together = |(name, also): (&Id<'static>, &Also)| Together { product: name.clone(), together: also.count };
    let explain = explain.then(|| names.iter().zip(&list).map(together).collect());
    let source = if list.is_empty() { Source::None } else { Source::AlsoBought };
    let answer = HttpResponse::Ok()
        .insert_header(("X-Generation", generation.to_string()))
        .insert_header(("X-Source", source.label()))
        .json(ProductAnswer { product: &product, recommended_products: names, explain });
    site.entrance.metrics.recommended(view.name(), source.label(), started.elapsed().as_secs_f64());
    Ok(answer)
}
