//! The best other products of each product, immutable list by list, so that a table with a few new lists shares all the others.

use std::sync::Arc;

/// Another product, and in how many cases it came together with the one whose list it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Also {
    /// The other product's dense number.
    pub product: u32,
    /// Users who had both; in stream windows pairs of events. It stops at 2^32 - 1.
    pub count: u32,
}

/// Lists by product, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    lists: Vec<Option<Arc<[Also]>>>,
}

impl Table {
    /// How many products have a place in the table.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether no product has a place.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// A product's list, best first; empty for a product without one.
    pub fn get(&self, product: u32) -> &[Also] {
        self.lists.get(product as usize).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Gives a product this list; an empty one takes its list away.
    pub fn set(&mut self, product: u32, list: &[Also]) {
        let at = product as usize;
        if self.lists.len() <= at {
            self.lists.resize(at + 1, None);
        }
        self.lists[at] = (!list.is_empty()).then(|| list.into());
    }

    /// Products with a list, and their lists.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Also])> {
        let lists = (0u32..).zip(&self.lists);
        lists.filter_map(|(product, list)| list.as_deref().map(|list| (product, list)))
    }
}
