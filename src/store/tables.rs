//! Tables of also-bought lists as bytes, and the lambda view that is made of them: what a restart can show at once.
//!
//! A table: the number of lists, then for each list the distance to the product before it, its length, and per entry product and count, all as
//! varints. The lambda view: bincode meta data behind its length, the products' ids, the batch's table, the stream's table.

use std::sync::Arc;

use bincode::Options;
use serde::{Deserialize, Serialize};

use super::document::Name;
use super::envelope::Kind;
use super::{Store, StoreError, content, malformed, pages};
use crate::also_bought::lambda::{Batch, Lambda};
use crate::also_bought::{Also, MOST, Table};
use crate::ids::IdList;
use crate::varint::{self, Malformed};

pub(super) const LAMBDA: Name = Name { key: b"lambda", kind: Kind { number: 6, version: 2 }, lists: b"l" };

/// What the lambda view says beside its tables.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    number: u64,
    stream_offset: u64,
    /// The batch's offset and when it was computed.
    batch: Option<(u64, i64)>,
}

impl Store {
    /// Keeps the lambda view; `products` names at least the products in it.
    pub fn save_lambda(&self, lambda: &Lambda, products: &IdList) -> Result<(), StoreError> {
        let payload = write(lambda, products).map_err(|error| content(LAMBDA.key, error.to_string()))?;
        let mut edit = self.edit(LAMBDA)?;
        edit.put_whole(0, &payload)?;
        edit.finish(Vec::new())
    }

    /// The kept lambda view and the names of its products, if there is one.
    pub fn load_lambda(&self) -> Result<Option<(Lambda, IdList)>, StoreError> {
        let Some(document) = self.document(LAMBDA)? else { return Ok(None) };
        read(&document.whole(0)?).map(Some).map_err(malformed(LAMBDA.key))
    }
}

fn write(lambda: &Lambda, products: &IdList) -> Result<Vec<u8>, bincode::Error> {
    let batch = lambda.batch.as_ref();
    let meta = Meta {
        number: lambda.number,
        stream_offset: lambda.stream_offset,
        batch: batch.map(|batch| (batch.offset, batch.computed_micros)),
    };
    let mut out = Vec::new();
    varint::write_bytes(&mut out, &bincode::options().serialize(&meta)?);
    write_products(&mut out, products);
    if let Some(batch) = batch {
        write_table(&mut out, &batch.table);
    }
    write_table(&mut out, &lambda.stream);
    Ok(out)
}

fn read(mut input: &[u8]) -> Result<(Lambda, IdList), Malformed> {
    let input = &mut input;
    let meta = varint::read_bytes(input)?;
    let meta: Meta = bincode::options().with_limit(1 << 10).deserialize(meta).map_err(|_| Malformed)?;
    let products = read_products(input)?;
    let batch = match meta.batch {
        Some((offset, computed_micros)) => {
            Some(Batch { table: Arc::new(read_table(input, products.len())?), offset, computed_micros })
        }
        None => None,
    };
    let stream = read_table(input, products.len())?;
    let lambda = Lambda { number: meta.number, batch, stream, stream_offset: meta.stream_offset, sum: None };
    if input.is_empty() { Ok((lambda, products)) } else { Err(Malformed) }
}

/// Appends the ids of products, behind their number.
pub(super) fn write_products(out: &mut Vec<u8>, products: &IdList) {
    varint::write_unsigned(out, products.len() as u64);
    products.iter().for_each(|id| pages::write_id(out, &id));
}

/// Takes what [`write_products`] appended from the front of `input`.
pub(super) fn read_products(input: &mut &[u8]) -> Result<IdList, Malformed> {
    let mut products = IdList::default();
    for _ in 0..varint::read_unsigned(input)? {
        products.push(&pages::read_id(input)?).map_err(|_| Malformed)?;
    }
    Ok(products)
}

/// Appends a table.
pub(super) fn write_table(out: &mut Vec<u8>, table: &Table) {
    varint::write_unsigned(out, table.iter().count() as u64);
    let mut before = 0;
    for (product, list) in table.iter() {
        varint::write_unsigned(out, u64::from(product - before));
        varint::write_unsigned(out, list.len() as u64);
        for also in list {
            varint::write_unsigned(out, u64::from(also.product));
            varint::write_unsigned(out, u64::from(also.count));
        }
        before = product;
    }
}

/// Takes what [`write_table`] appended from the front of `input`; products must be numbered below `products`.
pub(super) fn read_table(input: &mut &[u8], products: usize) -> Result<Table, Malformed> {
    let number = |value: u64| u32::try_from(value).map_err(|_| Malformed);
    let known = |product: u32| Some(product).filter(|&product| (product as usize) < products).ok_or(Malformed);
    let (mut table, mut product, mut list) = (Table::default(), 0u32, Vec::new());
    for _ in 0..varint::read_unsigned(input)? {
        let distance = number(varint::read_unsigned(input)?)?;
        product = known(product.checked_add(distance).ok_or(Malformed)?)?;
        let length = varint::read_unsigned(input)?;
        if length > MOST as u64 {
            return Err(Malformed);
        }
        list.clear();
        for _ in 0..length {
            let other = known(number(varint::read_unsigned(input)?)?)?;
            list.push(Also { product: other, count: number(varint::read_unsigned(input)?)? });
        }
        table.set(product, &list);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;
    use proptest::prelude::*;

    fn any_table() -> impl Strategy<Value = Table> {
        let list = prop::collection::vec((0u32..50, any::<u32>()), 0..8);
        prop::collection::btree_map(0u32..50, list, 0..20).prop_map(|lists| {
            let mut table = Table::default();
            for (product, list) in lists {
                let list: Vec<Also> = list.into_iter().map(|(product, count)| Also { product, count }).collect();
                table.set(product, &list);
            }
            table
        })
    }

    fn products() -> IdList {
        let mut products = IdList::default();
        (0..50).for_each(|number| assert_eq!(products.push(&Id::Number(number * 3)), Ok(number as u32)));
        products
    }

    proptest! {
        #[test]
        fn a_lambda_view_is_kept(batch in prop::option::of(any_table()), stream in any_table()) {
            let batch = batch.map(|table| Batch { table: Arc::new(table), offset: 7, computed_micros: 8 });
            let lambda = Lambda { number: 3, batch, stream, stream_offset: 9, sum: None };
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            prop_assert!(store.load_lambda().unwrap().is_none());
            store.save_lambda(&lambda, &products()).unwrap();
            let (found, names) = store.load_lambda().unwrap().unwrap();
            prop_assert!(names.iter().eq(products().iter()));
            prop_assert!(found.stream.iter().eq(lambda.stream.iter()));
            prop_assert_eq!((found.number, found.stream_offset), (3, 9));
            let (found, batch) = (found.batch.as_ref(), lambda.batch.as_ref());
            prop_assert_eq!(found.map(|batch| (batch.offset, batch.computed_micros)), batch.map(|_| (7, 8)));
            prop_assert!(found.zip(batch).is_none_or(|(one, other)| one.table.iter().eq(other.table.iter())));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read_table(&mut bytes.as_slice(), 10);
        }
    }
}
