//! What is left to do when users were forgotten: they are out of the counters already; now out of all that was made of them.

use std::collections::BTreeSet;

use actix::Context;

use super::Counter;
use crate::actors::messages::Layer;
use crate::also_bought::lambda::Stream;
use crate::config::Merge;
use crate::interests::counters::{Applied, Counters};

/// Users who were forgotten together.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    users: Vec<u32>,
    products: BTreeSet<u32>,
}

impl Forgotten {
    /// Takes in what was counted.
    pub(super) fn add(&mut self, user: u32, products: Vec<u32>) {
        self.users.push(user);
        self.products.extend(products);
    }
}

impl Counter {
    /// Passes what was counted to the stream window, or to those to be forgotten.
    pub(super) fn take(stream: &mut Stream, forgotten: &mut Forgotten, applied: Applied) {
        match applied {
            Applied::Event { user, product, is_purchase } => stream.push(user, product, is_purchase),
            Applied::Forgotten { user, products } => {
                stream.forget(user);
                forgotten.add(user, products);
            }
        }
    }

    /// Takes forgotten users out of the views: their products' stream lists at once, batch and model by computing both again.
    pub(super) fn forget(&mut self, forgotten: Forgotten, context: &mut Context<Self>) {
        if forgotten.users.is_empty() {
            return;
        }
        self.changes.forgotten.extend(forgotten.users);
        self.stale = true;
        self.close_window(Vec::new());
        // Behind the stream windows that are still being joined.
        let offset = self.counters.read(Counters::offset);
        self.count_pairs(Layer::Forgotten(forgotten.products.into_iter().collect()), offset, Vec::new(), context);
        self.pairs_due.sum |= self.around.config.lambda.merge == Merge::Sum;
        self.start_batch(Vec::new(), context);
    }
}
