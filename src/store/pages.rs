//! Counters in pages: a page is one stored value, so a checkpoint writes few of them, and only those that changed.
//!
//! An interest page holds the rows of [`USERS`] users: per user the number of interests, then per interest the distance to the product before
//! it, clicks and purchases, all as varints. An id page holds [`IDS`] ids: per id a byte (1 for text), then the id; a byte 2 and nothing where it
//! was forgotten.

use crate::ids::{Id, IdTable};
use crate::interests::base::{Base, BaseBuilder};
use crate::interests::{Counts, Interest};
use crate::varint::{self, Malformed};

/// Users in an interest page: with some tens of interests each a few kilobytes. With one user a page sled took twenty times as long and as much
/// memory; pages of 256 users came to lie in files of their own, thousands of them.
pub const USERS: u32 = 64;
/// Ids in an id page.
pub const IDS: u32 = 1024;
const FORGOTTEN: u8 = 2;

/// How many pages of this size `count` rows fill.
pub fn pages(count: u32, page_size: u32) -> u32 {
    count.div_ceil(page_size)
}

/// The rows of one interest page.
pub fn write_interests(base: &Base, page: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for user in page * USERS..((page + 1) * USERS).min(base.users() as u32) {
        varint::write_unsigned(&mut out, base.row(user).count() as u64);
        let mut before = 0;
        for Interest { product, counts } in base.row(user) {
            varint::write_unsigned(&mut out, u64::from(product - before));
            varint::write_unsigned(&mut out, u64::from(counts.clicks));
            varint::write_unsigned(&mut out, u64::from(counts.purchases));
            before = product;
        }
    }
    out
}

/// Appends the rows of one interest page to a base in the making; products must be numbered below `products`.
pub fn read_interests(mut input: &[u8], products: u32, into: &mut BaseBuilder) -> Result<(), Malformed> {
    let input = &mut input;
    while !input.is_empty() {
        let mut product = 0u32;
        for at in 0..varint::read_unsigned(input)? {
            let distance = narrow(varint::read_unsigned(input)?)?;
            product = product.checked_add(distance).filter(|&product| product < products).ok_or(Malformed)?;
            if at > 0 && distance == 0 {
                return Err(Malformed);
            }
            let clicks = narrow(varint::read_unsigned(input)?)?;
            let purchases = narrow(varint::read_unsigned(input)?)?;
            into.push(Interest { product, counts: Counts { clicks, purchases } });
        }
        into.end_row();
    }
    Ok(())
}

fn narrow(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed)
}

/// The ids of one id page, up to the number `end`.
pub fn write_ids(table: &IdTable, page: u32, end: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for dense in page * IDS..((page + 1) * IDS).min(end) {
        if table.list().is_forgotten(dense) {
            out.push(FORGOTTEN);
        } else {
            write_id(&mut out, &table.list().get(dense));
        }
    }
    out
}

/// Appends an id with its kind.
pub fn write_id(out: &mut Vec<u8>, id: &Id<'_>) {
    out.push(u8::from(id.is_text()));
    id.write(out);
}

/// Takes what [`write_id`] appended from the front of `input`.
pub fn read_id<'a>(input: &mut &'a [u8]) -> Result<Id<'a>, Malformed> {
    let is_text = varint::read_byte(input)? == 1;
    Id::read(input, is_text)
}

/// Appends the ids of one id page to a table.
pub fn read_ids(mut input: &[u8], into: &mut IdTable) -> Result<(), Malformed> {
    let input = &mut input;
    while !input.is_empty() {
        if input.first() == Some(&FORGOTTEN) {
            varint::read_byte(input)?;
            into.push_forgotten();
            continue;
        }
        let expected = into.len() as u32;
        let id = read_id(input)?;
        if into.intern(&id) != Ok(expected) {
            return Err(Malformed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(rows: &[Vec<(u32, u32, u32)>]) -> Base {
        let mut builder = BaseBuilder::with_capacity(0, 0);
        for row in rows {
            let mut product = 0;
            for &(distance, clicks, purchases) in row {
                product += distance;
                builder.push(Interest { product, counts: Counts { clicks, purchases } });
            }
            builder.end_row();
        }
        builder.finish(1 << 30)
    }

    proptest! {
        #[test]
        fn interests_survive_their_pages(
            rows in prop::collection::vec(prop::collection::vec((1u32..5000, any::<u32>(), 0u32..3), 0..4), 0..600)
        ) {
            let base = base(&rows);
            let mut read = BaseBuilder::with_capacity(0, 0);
            for page in 0..pages(base.users() as u32, USERS) {
                read_interests(&write_interests(&base, page), 1 << 30, &mut read).unwrap();
            }
            let read = read.finish(1 << 30);
            prop_assert_eq!(read.starts(), base.starts());
            prop_assert!((0..base.users() as u32).all(|user| read.row(user).eq(base.row(user))));
        }

        #[test]
        fn ids_survive_their_pages(numbers in prop::collection::hash_set(any::<i64>(), 0..2500)) {
            let mut table = IdTable::default();
            for number in numbers {
                table.intern(&Id::Number(number)).unwrap();
                table.intern(&Id::Text(format!("id {number}").into())).unwrap();
                if number % 5 == 0 {
                    table.forget(&Id::Number(number)).unwrap();
                }
            }
            let end = table.len() as u32;
            let mut read = IdTable::default();
            for page in 0..pages(end, IDS) {
                read_ids(&write_ids(&table, page, end), &mut read).unwrap();
            }
            prop_assert!(read.list().iter().eq(table.list().iter()));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read_interests(&bytes, 100, &mut BaseBuilder::with_capacity(0, 0));
            let _ = read_ids(&bytes, &mut IdTable::default());
        }
    }
}
