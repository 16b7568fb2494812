//! Ids of users and products: what the outside calls them, and the dense numbers that the inside counts with.
//!
//! Outside, an id is an integer or a short string; `2105` and `"2105"` are the same id. Inside, the n-th id ever seen is the number n, so
//! interests and factors are plain arrays. A table only ever grows, so a number means the same id for the life of a data directory.

use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use serde::{Serialize, Serializer};

use crate::varint::{self, Malformed};

/// The longest string id, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// An id as the outside writes it. Integers sort before strings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id<'a> {
    /// An id whose text is a canonical 64-bit integer.
    Number(i64),
    /// Any other text of 1 to [`MAX_TEXT_BYTES`] bytes.
    Text(Cow<'a, str>),
}

impl<'a> Id<'a> {
    /// The id that `text` names, or `None` where it is empty or too long. `"2105"` gives the number; `"007"`, `"+1"` and `"-0"` stay text.
    pub fn from_text(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            return None;
        }
        Some(canonical_integer(&text).map_or(Self::Text(text), Self::Number))
    }

    /// The same id, free of the buffer it was read from.
    pub fn into_owned(self) -> Id<'static> {
        match self {
            Self::Number(number) => Id::Number(number),
            Self::Text(text) => Id::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// Whether the id is a string.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Appends the id; which of the two kinds it is must be kept elsewhere (a flag bit).
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => varint::write_signed(out, *number),
            Self::Text(text) => varint::write_bytes(out, text.as_bytes()),
        }
    }

    /// Takes what [`Id::write`] appended from the front of `input`.
    #[inline]
    pub fn read(input: &mut &'a [u8], is_text: bool) -> Result<Self, Malformed> {
        if !is_text {
            return varint::read_signed(input).map(Self::Number);
        }
        let text = std::str::from_utf8(varint::read_bytes(input)?).map_err(|_| Malformed)?;
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            return Err(Malformed);
        }
        Ok(Self::Text(Cow::Borrowed(text)))
    }
}

/// The integer that `text` is the one canonical spelling of.
fn canonical_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'1'..=b'9', ..] => true,
        [b'0'] => digits.len() == text.len(),
        _ => false,
    };
    if canonical { text.parse().ok() } else { None }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Where an id of a list is kept: in place, or as a range of the list's text.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Number(i64),
    /// A length of 0: the id was forgotten.
    Text {
        start: u32,
        length: u8,
    },
}

const FORGOTTEN: Slot = Slot::Text { start: 0, length: 0 };

/// Ids by dense number, without a way back: what a served model carries to name its products.
#[derive(Debug, Clone, Default)]
pub struct IdList {
    slots: Vec<Slot>,
    text: String,
}

impl IdList {
    /// How many ids there are; the next one gets this number.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no id was seen yet.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The id with this dense number, which must be below [`IdList::len`]; the empty text, which is no id, where it was forgotten.
    #[inline]
    pub fn get(&self, dense: u32) -> Id<'_> {
        match self.slots[dense as usize] {
            Slot::Number(number) => Id::Number(number),
            Slot::Text { start, length } => {
                Id::Text(Cow::Borrowed(&self.text[start as usize..start as usize + length as usize]))
            }
        }
    }

    /// Whether the id with this dense number was forgotten.
    pub fn is_forgotten(&self, dense: u32) -> bool {
        matches!(self.slots[dense as usize], Slot::Text { length: 0, .. })
    }

    /// The first `count` ids, or all where there are fewer.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Self {
        let slots = self.slots[..count.min(self.slots.len())].to_vec();
        let text_end = slots.iter().rev().find_map(|slot| match slot {
            Slot::Number(_) | Slot::Text { length: 0, .. } => None,
            Slot::Text { start, length } => Some(*start as usize + *length as usize),
        });
        Self { slots, text: self.text[..text_end.unwrap_or(0)].to_owned() }
    }

    /// Whether `other` begins with these ids, so that their numbers mean the same there.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.agrees_with(other)
    }

    /// Whether every number that both lists know means the same in both.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.iter().zip(other.iter()).all(|(ours, theirs)| ours == theirs)
    }

    /// All ids in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Id<'_>> {
        (0..self.len() as u32).map(|dense| self.get(dense))
    }

    /// Appends an id under the next number, or tells that 2^32 numbers or 4 GiB of text are used up.
    pub fn push(&mut self, id: &Id<'_>) -> Result<u32, Full> {
        let dense = u32::try_from(self.slots.len()).ok().filter(|&dense| dense < u32::MAX).ok_or(Full)?;
        let slot = match id {
            Id::Number(number) => Slot::Number(*number),
            Id::Text(text) => {
                let start = u32::try_from(self.text.len()).map_err(|_| Full)?;
                self.text.push_str(text);
                // An id's text is at most 128 bytes: every way to make one checks it.
                Slot::Text { start, length: text.len() as u8 }
            }
        };
        self.slots.push(slot);
        Ok(dense)
    }
}

/// No more dense numbers (2^32 ids) or no more room for their texts (4 GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than 2^32 distinct ids, or more than 4 GiB of string ids")]
pub struct Full;

/// Ids by dense number and dense numbers by id.
#[derive(Debug, Clone, Default)]
pub struct IdTable {
    list: IdList,
    // Keyed: ids are chosen by strangers, who could otherwise make every one of them collide.
    hasher: foldhash::fast::RandomState,
    numbers: Numbers,
}

/// How many tables the numbers are in.
const SHARDS: usize = 256;

/// Dense numbers by the hash of their id, in many small tables. A table that is full moves to a larger place, and everybody waits: with seven
/// million ids 400 ms for one table, 6 ms for one of these.
#[derive(Debug, Clone)]
struct Numbers(Box<[HashTable<u32>]>);

impl Default for Numbers {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashTable::new()).collect())
    }
}

impl Numbers {
    fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    #[inline]
    fn of(&self, hash: u64) -> &HashTable<u32> {
        &self.0[Self::shard(hash)]
    }

    #[inline]
    fn of_mut(&mut self, hash: u64) -> &mut HashTable<u32> {
        &mut self.0[Self::shard(hash)]
    }

    /// From bits that a table itself does not look at: it takes a place from the lowest and a tag from the highest.
    #[inline]
    fn shard(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }
}

impl IdTable {
    /// The ids in the order of their numbers.
    pub fn list(&self) -> &IdList {
        &self.list
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no id was seen yet.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The dense number of `id`, if it was ever seen.
    #[inline]
    pub fn find(&self, id: &Id<'_>) -> Option<u32> {
        let (list, hashed) = (&self.list, hash(&self.hasher, id));
        self.numbers.of(hashed).find(hashed, |&dense| list.get(dense) == *id).copied()
    }

    /// How many numbers belong to nobody any more.
    pub fn forgotten(&self) -> usize {
        self.list.len() - self.numbers.len()
    }

    /// Takes an id out; its number is never given to another one. Tells the number, if the id was known. The bytes of its text are overwritten.
    pub fn forget(&mut self, id: &Id<'_>) -> Option<u32> {
        let Self { list, hasher, numbers } = self;
        let hashed = hash(hasher, id);
        let entry = numbers.of_mut(hashed).find_entry(hashed, |&dense| list.get(dense) == *id).ok()?;
        let (dense, _) = entry.remove();
        let slot = std::mem::replace(&mut list.slots[dense as usize], FORGOTTEN);
        if let Slot::Text { start, length } = slot {
            let range = start as usize..start as usize + length as usize;
            list.text.replace_range(range, &" ".repeat(length as usize));
        }
        Some(dense)
    }

    /// Appends the number of an id that was forgotten.
    pub fn push_forgotten(&mut self) {
        self.list.slots.push(FORGOTTEN);
    }

    /// The dense number of `id`, a new one if it was never seen.
    #[inline]
    pub fn intern(&mut self, id: &Id<'_>) -> Result<u32, Full> {
        let Self { list, hasher, numbers } = self;
        let hashed = hash(hasher, id);
        let numbers = numbers.of_mut(hashed);
        if let Some(&dense) = numbers.find(hashed, |&dense| list.get(dense) == *id) {
            return Ok(dense);
        }
        let dense = list.push(id)?;
        numbers.insert_unique(hashed, dense, |&dense| hash(hasher, &list.get(dense)));
        Ok(dense)
    }
}

#[inline]
fn hash(hasher: &foldhash::fast::RandomState, id: &Id<'_>) -> u64 {
    match id {
        Id::Number(number) => hasher.hash_one(number),
        Id::Text(text) => hasher.hash_one(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_canonical_integer_in_quotes_is_the_number() {
        assert_eq!(Id::from_text("2105"), Some(Id::Number(2105)));
        assert_eq!(Id::from_text("-9223372036854775808"), Some(Id::Number(i64::MIN)));
        assert_eq!(Id::from_text("0"), Some(Id::Number(0)));
        for text in ["007", "+1", "-0", "1.0", "9223372036854775808", "85123A", " 1", "-", "1e3"] {
            assert_eq!(Id::from_text(text), Some(Id::Text(text.into())), "{text}");
        }
    }

    #[test]
    fn empty_and_too_long_texts_are_no_ids() {
        assert_eq!(Id::from_text(""), None);
        assert!(Id::from_text("x".repeat(128)).is_some());
        assert_eq!(Id::from_text("x".repeat(129)), None);
    }

    #[test]
    fn numbers_sort_before_texts() {
        let mut ids = vec![Id::Text("a".into()), Id::Number(7), Id::Text("Z".into()), Id::Number(-1)];
        ids.sort();
        assert_eq!(ids, [Id::Number(-1), Id::Number(7), Id::Text("Z".into()), Id::Text("a".into())]);
    }

    fn any_id() -> impl Strategy<Value = Id<'static>> {
        prop_oneof![
            (-20i64..20).prop_map(Id::Number),
            any::<i64>().prop_map(Id::Number),
            "[a-c]{1,3}".prop_map(|text| Id::Text(text.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_table_numbers_ids_as_a_naive_list_does(ids in prop::collection::vec(any_id(), 0..300)) {
            let mut table = IdTable::default();
            let mut naive: Vec<Id<'static>> = Vec::new();
            for id in &ids {
                let expected = naive.iter().position(|known| known == id).unwrap_or_else(|| {
                    naive.push(id.clone());
                    naive.len() - 1
                });
                prop_assert_eq!(table.intern(id), Ok(expected as u32));
            }
            prop_assert!(table.list().iter().eq(naive.iter().cloned()));
            prop_assert!(naive.iter().enumerate().all(|(dense, id)| table.find(id) == Some(dense as u32)));
            prop_assert_eq!(table.find(&Id::Text("never seen".into())), None);
        }

        #[test]
        fn what_is_forgotten_is_gone_and_comes_back_as_somebody_else(ids in prop::collection::vec(any_id(), 1..50), which: prop::sample::Index) {
            let mut table = IdTable::default();
            ids.iter().for_each(|id| { table.intern(id).unwrap(); });
            let gone = &ids[which.index(ids.len())];
            let before = table.len() as u32;
            let dense = table.forget(gone).unwrap();
            prop_assert_eq!((table.find(gone), table.forget(gone), table.forgotten()), (None, None, 1));
            prop_assert!(table.list().is_forgotten(dense));
            for id in ids.iter().filter(|id| *id != gone) {
                prop_assert_eq!(table.find(id).map(|dense| table.list().get(dense)), Some(id.clone()));
            }
            prop_assert_eq!(table.intern(gone), Ok(before));
            prop_assert!(!table.list().is_forgotten(before));
        }

        #[test]
        fn an_id_survives_its_encoding(id in any_id()) {
            let mut out = Vec::new();
            id.write(&mut out);
            prop_assert_eq!(Id::read(&mut out.as_slice(), id.is_text()), Ok(id));
        }
    }
}
