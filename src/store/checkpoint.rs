//! Counters, producers' marks and the last window, as of one offset of the event log.

use std::collections::BTreeSet;
use std::sync::Arc;

use bincode::Options;
use serde::{Deserialize, Serialize};

use super::document::{Document, Name};
use super::envelope::Kind;
use super::{Store, StoreError, content, malformed, pages};
use crate::ids::IdTable;
use crate::interests::base::{Base, BaseBuilder};
use crate::interests::counters::Counters;
use crate::log::writer::Marks;

pub(super) const COUNTERS: Name = Name { key: b"counters", kind: Kind { number: 1, version: 2 }, lists: b"iup" };
/// The lists of pages.
const INTERESTS: usize = 0;
const USER_IDS: usize = 1;
const PRODUCT_IDS: usize = 2;

/// What a checkpoint says beside its pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    offset: u64,
    users: u32,
    products: u32,
    window: u64,
    window_offset: u64,
    marks: Vec<(String, u64)>,
}

/// What a node knows that can be rebuilt from the log.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// All that was counted.
    pub counters: Counters,
    /// How far each producer has come.
    pub marks: Marks,
    /// The last window that was closed, 0 at first.
    pub window: u64,
    /// The offset at its end.
    pub window_offset: u64,
}

/// The part of a [`State`] that does not change while it is written: taken when a merge began, complete when it ended.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// All interests as of `offset`.
    pub base: Arc<Base>,
    /// How far each producer had come.
    pub marks: Marks,
    /// The last window that was closed.
    pub window: u64,
    /// The offset at its end.
    pub window_offset: u64,
    /// Events in the base: where the log goes on.
    pub offset: u64,
}

/// What a checkpoint must write, as against the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Interest pages with changed rows.
    pub pages: BTreeSet<u32>,
    /// Users who were forgotten.
    pub forgotten: BTreeSet<u32>,
    /// Users that the checkpoint before knew.
    pub users_before: u32,
    /// Products that the checkpoint before knew.
    pub products_before: u32,
}

impl Store {
    /// Writes a checkpoint; until its last step the one before is there. The id tables may have grown since the state was frozen; only what the base knows is written.
    /// `with_ids` shows them for each page once more, because whoever counts may have to wait that long.
    pub fn save_counters(
        &self,
        frozen: &Frozen,
        changes: &Changes,
        with_ids: impl Fn(&mut dyn FnMut(&IdTable, &IdTable)),
    ) -> Result<(), StoreError> {
        let (users, products) = (frozen.base.users() as u32, frozen.base.products() as u32);
        let mut edit = self.edit(COUNTERS)?;
        for &page in &changes.pages {
            edit.put(INTERESTS, page, &pages::write_interests(&frozen.base, page))?;
        }
        let forgotten = changes.forgotten.range(..users).map(|user| user / pages::IDS);
        let user_pages: BTreeSet<u32> = new_pages(changes.users_before, users).chain(forgotten).collect();
        for page in user_pages {
            let mut ids = Vec::new();
            with_ids(&mut |all, _| ids = pages::write_ids(all, page, users));
            edit.put(USER_IDS, page, &ids)?;
        }
        for page in new_pages(changes.products_before, products) {
            let mut ids = Vec::new();
            with_ids(&mut |_, all| ids = pages::write_ids(all, page, products));
            edit.put(PRODUCT_IDS, page, &ids)?;
        }
        // A state that was counted anew can have fewer pages than the one before.
        edit.cut(INTERESTS, pages::pages(users, pages::USERS));
        edit.cut(USER_IDS, pages::pages(users, pages::IDS));
        edit.cut(PRODUCT_IDS, pages::pages(products, pages::IDS));
        let marks = frozen.marks.iter().map(|(producer, &last)| (producer.to_string(), last)).collect();
        let meta = Meta {
            offset: frozen.offset,
            users,
            products,
            window: frozen.window,
            window_offset: frozen.window_offset,
            marks,
        };
        let meta = bincode::options().serialize(&meta).map_err(|error| content(COUNTERS.key, error.to_string()))?;
        edit.finish(meta)
    }

    /// The last checkpoint, if there is one.
    pub fn load_counters(&self) -> Result<Option<State>, StoreError> {
        let Some(document) = self.document(COUNTERS)? else { return Ok(None) };
        let meta: Meta = bincode::options()
            .with_limit(1 << 30)
            .deserialize(document.head())
            .map_err(|error| content(COUNTERS.key, error.to_string()))?;
        let users = load_ids(&document, USER_IDS, meta.users)?;
        let products = load_ids(&document, PRODUCT_IDS, meta.products)?;
        let mut builder = BaseBuilder::with_capacity(meta.users as usize, 0);
        for page in 0..pages::pages(meta.users, pages::USERS) {
            let rows = document.page(INTERESTS, page)?;
            pages::read_interests(&rows, meta.products, &mut builder).map_err(malformed(COUNTERS.key))?;
        }
        if builder.rows() != meta.users as usize {
            return Err(content(COUNTERS.key, format!("{} users expected, {} found", meta.users, builder.rows())));
        }
        let base = builder.finish(meta.products as usize);
        let counters = Counters::restore(users, products, base, meta.offset);
        let marks = meta.marks.into_iter().map(|(producer, last)| (producer.into(), last)).collect();
        Ok(Some(State { counters, marks, window: meta.window, window_offset: meta.window_offset }))
    }
}

fn load_ids(document: &Document<'_>, list: usize, count: u32) -> Result<IdTable, StoreError> {
    let mut table = IdTable::default();
    for page in 0..pages::pages(count, pages::IDS) {
        pages::read_ids(&document.page(list, page)?, &mut table).map_err(malformed(COUNTERS.key))?;
    }
    if table.len() == count as usize {
        Ok(table)
    } else {
        Err(content(COUNTERS.key, format!("{count} ids expected, {} found", table.len())))
    }
}

/// Pages of ids from the first that was not full before; none if there are no new ids.
fn new_pages(before: u32, end: u32) -> std::ops::Range<u32> {
    if before < end { before / pages::IDS..pages::pages(end, pages::IDS) } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, encoding};
    use crate::ids::Id;

    fn apply(state: &mut State, users: std::ops::Range<i64>) -> BTreeSet<u32> {
        let (mut events, mut scratch) = (Vec::new(), Vec::new());
        for user in users {
            let user = Id::Number(user);
            let product = Id::Text(format!("product {user}").into());
            let attributes = [None; 8];
            let event = Event { user, product, is_purchase: true, time_micros: 0, attributes, further: "".into() };
            encoding::write(&mut events, &mut scratch, &event);
        }
        state.counters.apply(&events).unwrap();
        let job = state.counters.freeze().unwrap();
        state.counters.install(job.run());
        job.touched_users().map(|user| user / pages::USERS).collect()
    }

    fn save(store: &Store, state: &State, changes: &Changes) {
        let base = Arc::clone(state.counters.base());
        let (marks, window, offset) = (state.marks.clone(), state.window, state.counters.offset());
        let counters = &state.counters;
        let frozen = Frozen { base, marks, window, window_offset: offset, offset };
        store.save_counters(&frozen, changes, |take| take(counters.users(), counters.products())).unwrap();
    }

    fn assert_same(left: &State, right: &State) {
        assert_eq!(
            (left.counters.offset(), left.window, &left.marks),
            (right.counters.offset(), right.window, &right.marks)
        );
        assert!(left.counters.users().list().iter().eq(right.counters.users().list().iter()));
        assert!(left.counters.products().list().iter().eq(right.counters.products().list().iter()));
        for user in 0..left.counters.users().len() as u32 {
            assert_eq!(left.counters.row(user), right.counters.row(user));
        }
    }

    #[test]
    fn a_second_checkpoint_writes_what_changed_and_loads_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.load_counters().unwrap().is_none());
        let mut state = State { marks: Marks::from([("shop".into(), 7)]), window: 3, ..State::default() };
        let touched = apply(&mut state, 0..1500);
        save(&store, &state, &Changes { pages: touched, ..Changes::default() });
        assert_same(&store.load_counters().unwrap().unwrap(), &state);

        let before = state.counters.users().len() as u32;
        let touched = apply(&mut state, 1490..1800);
        assert_eq!(touched, (1490 / pages::USERS..=1799 / pages::USERS).collect());
        state.window = 4;
        save(
            &store,
            &state,
            &Changes { pages: touched, users_before: before, products_before: before, ..Changes::default() },
        );
        drop(store);
        // sled gives back its lock on a thread of its own, some time after the last handle is gone.
        let mut again = Store::open(dir.path());
        for _ in 0..1000 {
            if again.is_err() {
                std::thread::park_timeout(std::time::Duration::from_millis(10));
                again = Store::open(dir.path());
            }
        }
        assert_same(&again.unwrap().load_counters().unwrap().unwrap(), &state);
    }

    #[test]
    fn a_damaged_or_missing_page_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut state = State::default();
        let touched = apply(&mut state, 0..300);
        save(&store, &state, &Changes { pages: touched, ..Changes::default() });
        let page_1: Vec<_> = store.db.scan_prefix(b"i/\0\0\0\x01").keys().collect::<Result<_, _>>().unwrap();
        let [key] = &page_1[..] else { panic!("{page_1:?}") };
        let mut value = store.db.get(key).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        store.db.insert(key, value).unwrap();
        let error = store.load_counters().unwrap_err().to_string();
        assert!(error.contains("checksum") && error.contains("i/"), "{error}");
        store.db.remove(key).unwrap();
        assert!(store.load_counters().unwrap_err().to_string().contains("is missing"));
    }
}
