//! Rows of typed columns, as Parquet, CSV or NDJSON.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json};

use super::{ExportError, Format};
use crate::clock;
use crate::ids::{Id, IdList};

/// Rows in a group of a Parquet file: what is held in memory.
const GROUP: usize = 1 << 17;
/// How often progress is told.
const TELL_EVERY: u64 = 1 << 14;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ids that are all numbers.
    Number64,
    /// Ids of which some are texts: in Parquet all are.
    MixedId,
    /// Integers.
    Integer,
    /// 32-bit floats.
    Number,
    /// Texts.
    Text,
    /// Times, in microseconds since 1970 UTC.
    Time,
}

impl Kind {
    /// How these ids are kept.
    pub fn id(ids: &IdList) -> Self {
        let is_text = |dense: u32| !ids.is_forgotten(dense) && ids.get(dense).is_text();
        if (0..ids.len() as u32).any(is_text) { Self::MixedId } else { Self::Number64 }
    }

    fn physical(self) -> Physical {
        match self {
            Self::Number64 | Self::Integer | Self::Time => Physical::INT64,
            Self::Number => Physical::FLOAT,
            Self::MixedId | Self::Text => Physical::BYTE_ARRAY,
        }
    }

    fn converted(self) -> ConvertedType {
        match self {
            Self::MixedId | Self::Text => ConvertedType::UTF8,
            Self::Time => ConvertedType::TIMESTAMP_MICROS,
            Self::Number64 | Self::Integer | Self::Number => ConvertedType::NONE,
        }
    }
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    kind: Kind,
    optional: bool,
}

impl Column {
    /// A column in which every row has a value.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind, optional: false }
    }

    /// The same, where rows may have none.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// An id.
    Id(Id<'a>),
    /// An integer.
    Integer(i64),
    /// A float.
    Number(f32),
    /// A text.
    Text(&'a str),
    /// A time, in microseconds since 1970 UTC.
    Time(i64),
    /// Nothing.
    Missing,
}

impl Value<'_> {
    fn text(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => (*text).to_owned(),
            Self::Time(micros) => clock::rfc_3339(*micros),
            Self::Missing => String::new(),
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Id(Id::Number(number)) | Self::Integer(number) => (*number).into(),
            Self::Number(number) => (*number).into(),
            Self::Id(Id::Text(_)) | Self::Text(_) | Self::Time(_) => self.text().into(),
            Self::Missing => Json::Null,
        }
    }
}

/// A table in the making.
pub struct Rows<'p, W: Write + Send> {
    columns: Vec<Column>,
    output: Output<W>,
    written: u64,
    progress: &'p mut dyn FnMut(u64),
}

enum Output<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(BufWriter<W>),
    Parquet(Box<Groups<W>>),
}

impl<'p, W: Write + Send> Rows<'p, W> {
    /// A table without rows; `progress` is told how many were written.
    pub fn new(
        columns: Vec<Column>,
        format: Format,
        out: W,
        progress: &'p mut dyn FnMut(u64),
    ) -> Result<Self, ExportError> {
        let output = match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(columns.iter().map(|column| &column.name))?;
                Output::Csv(Box::new(writer))
            }
            Format::Ndjson => Output::Ndjson(BufWriter::with_capacity(1 << 16, out)),
            Format::Parquet => Output::Parquet(Box::new(Groups::new(&columns, out)?)),
        };
        Ok(Self { columns, output, written: 0, progress })
    }

    /// Appends a row with a value for each column, of the column's kind.
    pub fn push(&mut self, row: &[Value<'_>]) -> Result<(), ExportError> {
        match &mut self.output {
            Output::Csv(writer) => writer.write_record(row.iter().map(Value::text))?,
            Output::Ndjson(writer) => {
                let given = self.columns.iter().zip(row).filter(|(_, value)| **value != Value::Missing);
                let line: Map<String, Json> =
                    given.map(|(column, value)| (column.name.clone(), value.json())).collect();
                serde_json::to_writer(&mut *writer, &line).map_err(std::io::Error::from)?;
                writer.write_all(b"\n")?;
            }
            Output::Parquet(groups) => groups.push(row)?,
        }
        self.written += 1;
        if self.written.is_multiple_of(TELL_EVERY) {
            (self.progress)(self.written);
        }
        Ok(())
    }

    /// Writes what is left; tells how many rows there are.
    pub fn finish(self) -> Result<u64, ExportError> {
        match self.output {
            Output::Csv(mut writer) => writer.flush()?,
            Output::Ndjson(mut writer) => writer.flush()?,
            Output::Parquet(groups) => groups.finish()?,
        }
        (self.progress)(self.written);
        Ok(self.written)
    }
}

/// The values of one column of a group.
enum Cells {
    Integers(Vec<i64>),
    Numbers(Vec<f32>),
    Texts(Vec<ByteArray>),
}

/// One column of a group: the values there are, and for each row whether it has one.
struct Gathered {
    cells: Cells,
    levels: Vec<i16>,
    optional: bool,
}

impl Gathered {
    fn new(column: &Column) -> Self {
        let cells = match column.kind.physical() {
            Physical::INT64 => Cells::Integers(Vec::new()),
            Physical::FLOAT => Cells::Numbers(Vec::new()),
            _ => Cells::Texts(Vec::new()),
        };
        Self { cells, levels: Vec::new(), optional: column.optional }
    }

    fn push(&mut self, value: &Value<'_>) -> Result<(), ExportError> {
        self.levels.push(i16::from(*value != Value::Missing));
        match (&mut self.cells, value) {
            (_, Value::Missing) => {}
            (Cells::Integers(cells), Value::Integer(number) | Value::Time(number) | Value::Id(Id::Number(number))) => {
                cells.push(*number);
            }
            (Cells::Numbers(cells), Value::Number(number)) => cells.push(*number),
            (Cells::Texts(cells), value) => cells.push(value.text().into_bytes().into()),
            (Cells::Integers(_) | Cells::Numbers(_), _) => return Err(ExportError::Mixed),
        }
        Ok(())
    }

    fn write<W: Write + Send>(&mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ExportError> {
        let levels = self.optional.then_some(self.levels.as_slice());
        match &mut self.cells {
            Cells::Integers(cells) => write_column::<Int64Type, W>(group, cells, levels)?,
            Cells::Numbers(cells) => write_column::<FloatType, W>(group, cells, levels)?,
            Cells::Texts(cells) => write_column::<ByteArrayType, W>(group, cells, levels)?,
        }
        self.levels.clear();
        Ok(())
    }
}

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    cells: &mut Vec<T::T>,
    levels: Option<&[i16]>,
) -> Result<(), ExportError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(cells, levels, None)?;
        column.close()?;
    }
    cells.clear();
    Ok(())
}

/// A Parquet file in the making, group by group.
struct Groups<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Gathered>,
}

impl<W: Write + Send> Groups<W> {
    fn new(columns: &[Column], out: W) -> Result<Self, ExportError> {
        let mut fields = Vec::new();
        for column in columns {
            let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
            let field = Type::primitive_type_builder(&column.name, column.kind.physical())
                .with_repetition(repetition)
                .with_converted_type(column.kind.converted())
                .build()?;
            fields.push(Arc::new(field));
        }
        let schema = Arc::new(Type::group_type_builder("bdr").with_fields(fields).build()?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let writer = SerializedFileWriter::new(out, schema, properties)?;
        Ok(Self { writer, columns: columns.iter().map(Gathered::new).collect() })
    }

    fn push(&mut self, row: &[Value<'_>]) -> Result<(), ExportError> {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value)?;
        }
        if self.columns[0].levels.len() >= GROUP { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), ExportError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        if !self.columns[0].levels.is_empty() {
            self.write()?;
        }
        self.writer.close()?;
        Ok(())
    }
}
