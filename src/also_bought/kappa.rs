//! The Kappa view: one job over everything, done again at each window, only for what changed.

use std::sync::atomic::AtomicBool;

use super::baskets::Baskets;
use super::count::{self, Cancelled};
use super::{Score, Settings, Table};
use crate::ids::IdList;
use crate::interests::base::Base;

/// The lists of all products as of one moment, and what is needed to see later which of them have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kappa {
    settings: Settings,
    table: Table,
    /// How many products each user had.
    sizes: Vec<u32>,
    products: usize,
    /// Products whose lists were computed.
    pub touched: usize,
    /// Users with more products than are paired.
    pub cut_users: u64,
}

impl Kappa {
    /// The lists as of `base`, whose products `ids` names. Only those are computed that differ from `before`, if that was made with the same
    /// settings; other scores than the count depend on all users, so with them nothing can be kept. Works on the current pool of threads.
    pub fn compute(
        base: &Base,
        ids: &IdList,
        settings: Settings,
        before: Option<&Self>,
        cancel: &AtomicBool,
    ) -> Result<Self, Cancelled> {
        let baskets = Baskets::of_interests(base, settings);
        let sizes: Vec<u32> = (0..baskets.users() as u32).map(|user| baskets.size(user)).collect();
        let kept = before.filter(|before| before.settings == settings && settings.score == Score::Count);
        let wanted =
            kept.and_then(|before| before.changed(&baskets, &sizes)).unwrap_or_else(|| vec![true; base.products()]);
        let lists = count::best_of_each(&baskets, |product| wanted[product as usize], ids, settings.score, cancel)?;
        let mut table = kept.map(|before| before.table.clone()).unwrap_or_default();
        let touched = lists.len();
        for (product, list) in lists {
            table.set(product, &list);
        }
        let (products, cut_users) = (base.products(), baskets.cut());
        Ok(Self { settings, table, sizes, products, touched, cut_users })
    }

    /// The lists.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Which products have other lists now: all products of the users who have more of them than before. `None` where somebody has fewer, so
    /// that what they had is not known any more.
    fn changed(&self, baskets: &Baskets<'_>, sizes: &[u32]) -> Option<Vec<bool>> {
        if sizes.len() < self.sizes.len() || baskets.products() < self.products {
            return None;
        }
        let mut changed = vec![false; baskets.products()];
        for (user, &size) in (0u32..).zip(sizes) {
            let before = self.sizes.get(user as usize).copied().unwrap_or(0);
            if size < before {
                return None;
            }
            if size > before {
                baskets.whole(user).iter().for_each(|&product| changed[product as usize] = true);
            }
        }
        Some(changed)
    }
}
