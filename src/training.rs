//! From interests to a model: one recipe for whoever trains.

use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::als::{self, Cancelled, Trained};
use crate::also_bought;
use crate::also_bought::Table;
use crate::ids::IdList;
use crate::interests::base::Base;
use crate::model::{About, Model, most_popular};

/// All settings that decide what is in a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// How factors are trained.
    pub als: als::Settings,
    /// Training begins with the factors of the model before.
    pub warm_start: bool,
    /// How pairs of products are counted.
    pub also_bought: also_bought::Settings,
}

impl Recipe {
    /// Trains a model on `base`, whose products `ids` names, and puts also-bought lists over the same interests beside the factors. Generation,
    /// window and times are left for the caller to set.
    pub fn train(
        &self,
        base: &Base,
        ids: IdList,
        also_bought: Table,
        before: Option<&Model>,
        pool: &rayon::ThreadPool,
        cancel: &AtomicBool,
    ) -> Result<Model, Cancelled> {
        let before = before.filter(|_| self.warm_start).map(Model::factors);
        let trained = als::train(base, &self.als, before, pool, cancel, &mut |_| ())?;
        Ok(model(base, ids, &self.als, trained, also_bought))
    }
}

/// The model that a training on `base` gave. Generation, window and times are left for the caller to set.
pub fn model(base: &Base, ids: IdList, settings: &als::Settings, trained: Trained, also_bought: Table) -> Model {
    let popular = most_popular(base, &ids);
    let about = About {
        generation: 0,
        window: 0,
        events: 0,
        trained_at_micros: 0,
        users: base.users_with_interests() as u64,
        products: base.products() as u64,
        interests: base.pairs() as u64,
        loss: trained.loss,
        seconds: 0.0,
        settings: settings.clone(),
    };
    Model::new(about, ids, trained.products, trained.gram, popular, also_bought)
}
