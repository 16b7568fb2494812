//! Documents: what is too large to be replaced in one step, and yet is seen as of before or as of after.
//!
//! sled's batches are atomic, but it keeps all of one in memory several times over: 340 MB of pages took 2.9 GB, and as much again with every
//! further batch; in batches of a megabyte 90 MB. So a document is a directory and many pages, and each page has two slots (shadow paging: Gray
//! et al., "The recovery manager of the System R database manager", 1981). Changed pages are written to the slots that do not count, in small
//! batches; then the directory, which says which slots count, is replaced in one step. Whatever happens before that, the document is the old one.
//! Afterwards the other slots are emptied: what is in them is twice on the disk, or was to be forgotten. What a crash leaves of that is swept away
//! when the store is opened.
//!
//! sled's flush does not survive a power cut, so what it finds afterwards need not be what was there at any moment. The directory knows the
//! checksum of each page: a page of another time is noticed.

use bincode::Options;
use serde::{Deserialize, Serialize};
use sled::IVec;

use super::envelope::{self, Kind};
use super::{Store, StoreError, content};

/// What goes to sled in one batch, in bytes, as soon as it is so much.
const BATCH: usize = 1 << 20;
/// How large the pages of a document are that is stored as a whole. sled puts much larger values into files of their own.
const PAGE: usize = 4096;
/// How many slots are emptied in one batch.
const EMPTIED: usize = 4096;
const PAGES: Kind = Kind { number: 7, version: 1 };

/// The name of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// The directory's key.
    pub key: &'static [u8],
    /// What the directory is of.
    pub kind: Kind,
    /// Of each list of pages, what their keys begin with.
    pub lists: &'static [u8],
}

/// Which of a page's two slots counts, and what must be in it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Place {
    slot: u8,
    checksum: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Directory {
    /// What the document says beside its pages.
    head: Vec<u8>,
    /// The pages of each list.
    lists: Vec<Vec<Place>>,
}

/// A document as it is stored.
#[derive(Debug)]
pub(super) struct Document<'a> {
    store: &'a Store,
    name: Name,
    directory: Directory,
}

/// A document that is being replaced. Pages that are not put again stay as they are; dropped before its end, nothing has changed.
#[derive(Debug)]
pub(super) struct Edit<'a> {
    store: &'a Store,
    name: Name,
    directory: Directory,
    batch: sled::Batch,
    bytes: usize,
    /// What is to be removed at the end: slots that counted until then, and the mark that this edit has begun.
    replaced: Vec<IVec>,
}

impl Store {
    /// The document of this name, if there is one.
    pub(super) fn document(&self, name: Name) -> Result<Option<Document<'_>>, StoreError> {
        let Some(payload) = self.read(name.key, name.kind)? else { return Ok(None) };
        let directory: Directory =
            encoding().deserialize(&payload).map_err(|error| content(name.key, error.to_string()))?;
        if directory.lists.len() != name.lists.len() {
            return Err(content(name.key, "has another number of lists"));
        }
        Ok(Some(Document { store: self, name, directory }))
    }

    /// The document of this name, if there is one that can be read.
    fn readable(&self, name: Name) -> Result<Option<Document<'_>>, StoreError> {
        match self.document(name) {
            Err(StoreError::Value { .. } | StoreError::Content { .. }) => Ok(None),
            found => found,
        }
    }

    /// Removes what belongs to none of these documents: what a crash left in slots that do not count, and all of another format. Looks for it only
    /// where an edit did not come to its end, or a document is not there or can't be read.
    pub(super) fn sweep(&self, names: &[Name]) -> Result<(), StoreError> {
        let (mut documents, mut whole) = (Vec::new(), true);
        for &name in names {
            documents.extend(self.readable(name)?);
            whole &= !self.db.contains_key(mark(name))?;
        }
        if whole && documents.len() == names.len() {
            return Ok(());
        }
        let mut strays = Vec::new();
        for key in self.db.iter().keys() {
            let key = key?;
            if !documents.iter().any(|document| document.has(&key)) {
                strays.push(key);
            }
        }
        self.remove(&strays)
    }

    fn remove(&self, keys: &[IVec]) -> Result<(), StoreError> {
        for keys in keys.chunks(EMPTIED) {
            let mut batch = sled::Batch::default();
            keys.iter().for_each(|key| batch.remove(key));
            self.db.apply_batch(batch)?;
        }
        self.flush()
    }

    /// Begins to replace the document of this name, which nobody else may do meanwhile. One that can't be read is replaced as a whole: its pages
    /// must all be put.
    pub(super) fn edit(&self, name: Name) -> Result<Edit<'_>, StoreError> {
        let directory = match self.readable(name)? {
            Some(document) => document.directory,
            None => Directory { head: Vec::new(), lists: vec![Vec::new(); name.lists.len()] },
        };
        let mut batch = sled::Batch::default();
        batch.insert(mark(name), &[]);
        Ok(Edit { store: self, name, directory, batch, bytes: 0, replaced: Vec::new() })
    }
}

impl Document<'_> {
    /// What the document says beside its pages.
    pub(super) fn head(&self) -> &[u8] {
        &self.directory.head
    }

    /// Page number `page` of list number `list`.
    pub(super) fn page(&self, list: usize, page: u32) -> Result<Vec<u8>, StoreError> {
        let place = self.directory.lists[list].get(page as usize).copied().unwrap_or_default();
        let key = key(self.name.lists[list], page, place.slot);
        let payload = self.store.read(&key, PAGES)?.ok_or_else(|| content(&key, "is missing"))?;
        let found = envelope::checksum(PAGES, &payload);
        if found == place.checksum { Ok(payload) } else { Err(content(&key, "is of another time than its directory")) }
    }

    /// Whether this key is the directory's, or that of a slot that counts.
    fn has(&self, key: &[u8]) -> bool {
        let &[list, b'/', a, b, c, d, slot] = key else { return key == self.name.key };
        let list = self.name.lists.iter().position(|&own| own == list);
        let place = list.and_then(|list| self.directory.lists[list].get(u32::from_be_bytes([a, b, c, d]) as usize));
        place.is_some_and(|place| place.slot == slot)
    }

    /// All pages of a list, one after another.
    pub(super) fn whole(&self, list: usize) -> Result<Vec<u8>, StoreError> {
        let mut whole = Vec::new();
        for page in 0..self.directory.lists[list].len() as u32 {
            whole.extend_from_slice(&self.page(list, page)?);
        }
        Ok(whole)
    }
}

impl Edit<'_> {
    /// Replaces page number `page` of list number `list`; at most once.
    pub(super) fn put(&mut self, list: usize, page: u32, payload: &[u8]) -> Result<(), StoreError> {
        let places = &mut self.directory.lists[list];
        match places.get(page as usize) {
            Some(before) => self.replaced.push(key(self.name.lists[list], page, before.slot)),
            None => places.resize(page as usize + 1, Place::default()),
        }
        let place = &mut places[page as usize];
        *place = Place { slot: 1 - place.slot.min(1), checksum: envelope::checksum(PAGES, payload) };
        let value = envelope::seal(PAGES, payload);
        self.bytes += value.len();
        self.batch.insert(key(self.name.lists[list], page, place.slot), value);
        if self.bytes >= BATCH { self.write() } else { Ok(()) }
    }

    /// Replaces all pages of list number `list` by what `payload` is cut into.
    pub(super) fn put_whole(&mut self, list: usize, payload: &[u8]) -> Result<(), StoreError> {
        let pages = payload.len().div_ceil(PAGE);
        for (page, payload) in (0u32..).zip(payload.chunks(PAGE)) {
            self.put(list, page, payload)?;
        }
        self.cut(list, pages as u32);
        Ok(())
    }

    /// Lets list number `list` have no more than so many pages.
    pub(super) fn cut(&mut self, list: usize, pages: u32) {
        let places = &mut self.directory.lists[list];
        let behind = places.drain(places.len().min(pages as usize)..);
        let slots = (pages..).zip(behind).map(|(page, place)| key(self.name.lists[list], page, place.slot));
        self.replaced.extend(slots);
    }

    /// Makes what was put count, with another head.
    pub(super) fn finish(mut self, head: Vec<u8>) -> Result<(), StoreError> {
        self.write()?;
        self.directory.head = head;
        let directory =
            encoding().serialize(&self.directory).map_err(|error| content(self.name.key, error.to_string()))?;
        fail::fail_point!("store::before_directory");
        self.store.db.insert(self.name.key, envelope::seal(self.name.kind, &directory))?;
        self.store.flush()?;
        fail::fail_point!("store::before_emptying");
        self.replaced.push(mark(self.name));
        self.store.remove(&self.replaced)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.store.db.apply_batch(std::mem::take(&mut self.batch))?;
        self.store.flush()
    }
}

/// Integers as they are: checksums have no small numbers.
fn encoding() -> impl Options {
    bincode::options().with_fixint_encoding().with_limit(1 << 32)
}

fn key(list: u8, page: u32, slot: u8) -> IVec {
    let [a, b, c, d] = page.to_be_bytes();
    IVec::from(&[list, b'/', a, b, c, d, slot])
}

/// The key that is there while a document is being replaced.
fn mark(name: Name) -> IVec {
    IVec::from([name.key, b"~"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NAME: Name = Name { key: b"test", kind: Kind { number: 99, version: 1 }, lists: b"xy" };

    proptest! {
        #[test]
        fn an_edit_counts_as_a_whole_or_not_at_all(
            edits in prop::collection::vec((prop::collection::btree_map(0u32..6, any::<u16>(), 0..6), any::<bool>()), 0..8)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let mut expected: Option<(BTreeMap<u32, u16>, Vec<u8>)> = None;
            for (number, (pages, finished)) in edits.into_iter().enumerate() {
                let mut edit = store.edit(NAME).unwrap();
                for (&page, content) in &pages {
                    edit.put(1, page, &content.to_le_bytes()).unwrap();
                }
                if finished {
                    edit.finish(vec![number as u8]).unwrap();
                    let (all, head) = expected.get_or_insert_default();
                    all.extend(pages);
                    *head = vec![number as u8];
                } else {
                    // As much of it is written as can be.
                    edit.write().unwrap();
                }
                let document = store.document(NAME).unwrap();
                prop_assert_eq!(document.is_some(), expected.is_some());
                if let (Some(document), Some((pages, head))) = (document, &expected) {
                    prop_assert_eq!(document.head(), &head[..]);
                    for (&page, content) in pages {
                        prop_assert_eq!(document.page(1, page).unwrap(), content.to_le_bytes());
                    }
                }
            }
        }

        #[test]
        fn a_whole_grows_and_shrinks(lengths in prop::collection::vec(0usize..4 * PAGE, 1..5)) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            for length in lengths {
                let payload: Vec<u8> = (0..length).map(|at| (at * length / 7) as u8).collect();
                let mut edit = store.edit(NAME).unwrap();
                edit.put_whole(0, &payload).unwrap();
                edit.finish(Vec::new()).unwrap();
                prop_assert_eq!(store.document(NAME).unwrap().unwrap().whole(0).unwrap(), payload);
                // Nothing else is left: the directory, and each page once.
                prop_assert_eq!(store.db.len(), 1 + length.div_ceil(PAGE));
            }
        }
    }

    #[test]
    fn what_counts_for_no_document_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for content in [b"one", b"two"] {
            let mut edit = store.edit(NAME).unwrap();
            edit.put(0, 0, content).unwrap();
            edit.put(1, 0, content).unwrap();
            edit.finish(Vec::new()).unwrap();
        }
        let strays: [&[u8]; 4] = [&key(b'x', 0, 1), &key(b'x', 1, 0), b"x/\0\0\0\0", b"windows"];
        for stray in strays {
            store.db.insert(stray, b"stray").unwrap();
        }
        // Nothing tells that they are there.
        store.sweep(&[NAME]).unwrap();
        assert_eq!(store.db.len(), 3 + strays.len());
        // An edit that did not come to its end does.
        store.edit(NAME).unwrap().write().unwrap();
        store.sweep(&[NAME]).unwrap();
        assert_eq!(store.db.len(), 3);
        assert_eq!(store.document(NAME).unwrap().unwrap().whole(1).unwrap(), b"two");
        // Pages without a readable directory are nobody's.
        store.db.insert(NAME.key, b"damaged").unwrap();
        store.sweep(&[NAME]).unwrap();
        assert!(store.db.is_empty());
    }

    #[test]
    fn a_page_of_another_time_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for content in [b"one", b"two"] {
            let mut edit = store.edit(NAME).unwrap();
            edit.put(0, 3, content).unwrap();
            edit.finish(Vec::new()).unwrap();
        }
        let document = store.document(NAME).unwrap().unwrap();
        assert_eq!(document.page(0, 3).unwrap(), b"two");
        store.db.insert(key(b'x', 3, 0), envelope::seal(PAGES, b"one")).unwrap();
        assert!(document.page(0, 3).unwrap_err().to_string().contains("another time"));
        store.db.remove(key(b'x', 3, 0)).unwrap();
        assert!(document.page(0, 3).unwrap_err().to_string().contains("is missing"));
        assert!(document.page(0, 2).unwrap_err().to_string().contains("is missing"));
    }
}
