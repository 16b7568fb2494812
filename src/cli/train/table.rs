//! Interests from a Parquet table: the columns `user_id` and `product` (integers or strings), `clicks` and `purchases` (integers).
//!
//! Other columns are passed over. A (user, product) in several rows counts with the sum of them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use parquet::basic::ConvertedType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use crate::ids::{Id, IdList, IdTable};
use crate::interests::base::{Base, BaseBuilder};
use crate::interests::{Counts, Interest};

/// The columns, in the order they are read in.
const COLUMNS: [&str; 4] = ["user_id", "product", "clicks", "purchases"];
/// Rows read at a time.
const BATCH: usize = 1 << 16;

/// Whether a file is Parquet: such files begin with these bytes, and no event does.
pub(super) fn is_table(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(b"PAR1")
}

/// The interests of a table, and the names of their products.
pub(super) fn load(path: &Path) -> anyhow::Result<(Base, IdList)> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let columns = find_columns(reader.metadata().file_metadata().schema_descr())?;
    let mut table = Table::default();
    table.rows.reserve_exact(usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0));
    for group in 0..reader.num_row_groups() {
        table.add(reader.get_row_group(group)?.as_ref(), columns)?;
    }
    Ok(table.finish())
}

/// Where each of [`COLUMNS`] stands, and whether it is unsigned.
fn find_columns(schema: &SchemaDescriptor) -> anyhow::Result<[(usize, bool); 4]> {
    let mut found = [(0, false); 4];
    for (place, name) in found.iter_mut().zip(COLUMNS) {
        let at = schema.columns().iter().position(|column| column.path().parts() == [name]);
        let Some(at) = at else {
            bail!("the table has no column {name}; it needs {}", COLUMNS.join(", "));
        };
        *place = (at, schema.column(at).converted_type() == ConvertedType::UINT_32);
    }
    Ok(found)
}

/// One row: dense user and product, and counts.
struct Row {
    user: u32,
    product: u32,
    counts: Counts,
}

#[derive(Default)]
struct Table {
    users: IdTable,
    products: IdTable,
    rows: Vec<Row>,
}

impl Table {
    fn add(&mut self, group: &dyn RowGroupReader, columns: [(usize, bool); 4]) -> anyhow::Result<()> {
        let mut readers = Vec::new();
        for (at, _) in columns {
            readers.push(group.get_column_reader(at)?);
        }
        let rows = usize::try_from(group.metadata().num_rows())?;
        for from in (0..rows).step_by(BATCH) {
            let mut values = Vec::new();
            for ((reader, (_, unsigned)), name) in readers.iter_mut().zip(columns).zip(COLUMNS) {
                let some = read(reader, BATCH.min(rows - from), unsigned).with_context(|| format!("column {name}"))?;
                values.push(some);
            }
            let [users, products, clicks, purchases] = values.try_into().unwrap_or_default();
            for row in 0..users.len() {
                let user = self.users.intern(&users.id(row).context("column user_id")?)?;
                let product = self.products.intern(&products.id(row).context("column product")?)?;
                let clicks = clicks.count(row).context("column clicks")?;
                let purchases = purchases.count(row).context("column purchases")?;
                self.rows.push(Row { user, product, counts: Counts { clicks, purchases } });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> (Base, IdList) {
        self.rows.sort_unstable_by_key(|row| (row.user, row.product));
        let mut builder = BaseBuilder::with_capacity(self.users.len(), self.rows.len());
        for rows in self.rows.chunk_by(|a, b| (a.user, a.product) == (b.user, b.product)) {
            while builder.rows() < rows[0].user as usize {
                builder.end_row();
            }
            let sum =
                |count: fn(&Counts) -> u32| rows.iter().fold(0u32, |sum, row| sum.saturating_add(count(&row.counts)));
            let counts = Counts { clicks: sum(|counts| counts.clicks), purchases: sum(|counts| counts.purchases) };
            builder.push(Interest { product: rows[0].product, counts });
        }
        while builder.rows() < self.users.len() {
            builder.end_row();
        }
        (builder.finish(self.products.len()), self.products.list().clone())
    }
}

/// Values of one column.
#[derive(Debug)]
enum Values {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    fn id(&self, row: usize) -> anyhow::Result<Id<'_>> {
        match self {
            Self::Numbers(numbers) => Ok(Id::Number(numbers[row])),
            Self::Texts(texts) => {
                let text = std::str::from_utf8(texts[row].data())?;
                Id::from_text(text).with_context(|| format!("an id has 1 to 128 bytes, not {}", text.len()))
            }
        }
    }

    fn count(&self, row: usize) -> anyhow::Result<u32> {
        match self {
            Self::Numbers(numbers) => u32::try_from(numbers[row])
                .with_context(|| format!("a count is from 0 to {}, not {}", u32::MAX, numbers[row])),
            Self::Texts(_) => bail!("a count must be an integer, not a string"),
        }
    }
}

/// The next `rows` values of a column.
fn read(reader: &mut ColumnReader, rows: usize, unsigned: bool) -> anyhow::Result<Values> {
    Ok(match reader {
        ColumnReader::Int64ColumnReader(reader) => Values::Numbers(read_all(reader, rows)?),
        ColumnReader::Int32ColumnReader(reader) => {
            let wide = |number: i32| if unsigned { i64::from(number.cast_unsigned()) } else { i64::from(number) };
            Values::Numbers(read_all(reader, rows)?.into_iter().map(wide).collect())
        }
        ColumnReader::ByteArrayColumnReader(reader) => Values::Texts(read_all(reader, rows)?),
        _ => bail!("it must hold integers of 32 or 64 bits, or strings"),
    })
}

fn read_all<T: DataType>(reader: &mut ColumnReaderImpl<T>, rows: usize) -> anyhow::Result<Vec<T::T>> {
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    while values.len() < rows {
        let (records, filled, _) = reader.read_records(rows - values.len(), Some(&mut levels), None, &mut values)?;
        ensure!(records == filled, "it has empty cells");
        ensure!(records > 0, "it ends early: the file is damaged");
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArrayType, Int32Type, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// A table with text users, products from a number on, and unsigned counts, the optional cells filled or not.
    fn write(file: &Path, first_product: i64, filled: i16) {
        let schema =
            "message interests { REQUIRED BYTE_ARRAY user_id (UTF8); REQUIRED INT64 product; REQUIRED DOUBLE more;
            OPTIONAL INT32 clicks (UINT_32); REQUIRED INT64 purchases; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(File::create(file).unwrap(), schema, properties).unwrap();
        for _ in 0..2 {
            let mut group = writer.next_row_group().unwrap();
            let users: Vec<ByteArray> = ["u", "7", "u"].into_iter().map(ByteArray::from).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&users, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&[first_product, -1, -1], None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<parquet::data_type::DoubleType>().write_batch(&[0.0; 3], None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let clicks = [1, -1, 2];
            column
                .typed::<Int32Type>()
                .write_batch(&clicks[..2 + filled as usize], Some(&[1, 1, filled]), None)
                .unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&[0, 1, 3], None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn rows_of_one_pair_add_up_and_ids_are_what_they_are_in_events() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("interests.parquet");
        write(&file, 5, 1);
        let (base, products) = load(&file).unwrap();
        assert_eq!((base.users(), base.products(), base.pairs()), (2, 2, 3));
        assert_eq!((products.get(0), products.get(1)), (Id::Number(5), Id::Number(-1)));
        let row =
            |user| base.row(user).map(|interest| (interest.product, interest.counts.clicks, interest.counts.purchases));
        assert!(row(0).eq([(0, 2, 0), (1, 4, 6)]));
        // Unsigned counts above 2^31 are not negative, and sums stop at the largest count.
        assert!(row(1).eq([(1, u32::MAX, 2)]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("interests.parquet");
        write(&file, 5, 0);
        assert!(format!("{:#}", load(&file).unwrap_err()).contains("column clicks: it has empty cells"));
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
        assert!(load(&file).is_err());
        let renamed = whole.windows(6).enumerate().filter(|(_, six)| six == b"clicks").map(|(at, _)| at);
        let mut other = whole.clone();
        renamed.for_each(|at| other[at] = b'k');
        std::fs::write(&file, &other).unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("the table has no column clicks"));
    }
}
