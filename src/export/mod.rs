//! All that a node knows, as tables: interests, events, factors, recommendations for everybody, also-bought lists.
//!
//! A table is written from one [`Snapshot`], row by row, in one of three [`Format`]s by [`rows`].

mod events;
pub mod rows;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ids::IdList;
use crate::interests::Interest;
use crate::interests::base::Base;
use crate::log::reading::ReadError;
use crate::model::{Model, Question};
use rows::{Column, Kind, Rows, Value};

/// So many users are solved at a time, in parallel.
const USERS_AT_A_TIME: usize = 4096;

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Clicks and purchases of each user on each product; `bdr train` reads it.
    Interests,
    /// Every event in the log, in order; as NDJSON `bdr send` reads it.
    Events,
    /// The vectors of all products and users.
    Factors,
    /// What each user would be recommended.
    Recommendations,
    /// Each product's also-bought list, by the Kappa view.
    AlsoBought,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Apache Parquet, compressed with Snappy.
    Parquet,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Whoever reads it has gone, or the disk is full.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// The same, from the Parquet library.
    #[error("cannot write: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The same, from the CSV library.
    #[error("cannot write: {0}")]
    Csv(#[from] csv::Error),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event in the log makes no sense.
    #[error("event {0} of the log cannot be read: another version wrote it")]
    Event(u64),
    /// A column of numbers was given something else.
    #[error("the first id that is a text came while the table was written; export again")]
    Mixed,
    /// There is no model yet.
    #[error("there is no model yet: the first is trained when a window with events closes")]
    NoModel,
}

/// What a node knows at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// All interests.
    pub base: Arc<Base>,
    /// The users' names.
    pub users: IdList,
    /// The products' names.
    pub products: IdList,
    /// The served model.
    pub model: Option<Arc<Model>>,
    /// Events in the interests.
    pub offset: u64,
    /// Where the event log is.
    pub log_dir: PathBuf,
}

/// What recommendations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// How many products a user.
    pub limit: usize,
    /// Leave out what the user has an interest in already.
    pub exclude_seen: bool,
}

/// Writes a table; tells how many rows it has. `progress` is told the rows so far; `pool` solves users.
pub fn write(
    table: Table,
    snapshot: &Snapshot,
    asked: Asked,
    format: Format,
    out: impl Write + Send,
    pool: &ThreadPool,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, ExportError> {
    if (table, format) == (Table::Events, Format::Ndjson) {
        return events::write_lines(snapshot, out, progress);
    }
    let mut rows = Rows::new(columns(table, snapshot)?, format, out, progress)?;
    match table {
        Table::Interests => snapshot.write_interests(&mut rows)?,
        Table::Events => events::write(snapshot, &mut rows)?,
        Table::Factors => snapshot.write_factors(pool, &mut rows)?,
        Table::Recommendations => snapshot.write_recommendations(asked, pool, &mut rows)?,
        Table::AlsoBought => snapshot.write_also_bought(&mut rows)?,
    }
    rows.finish()
}

/// How many rows a table will have, at most; `None` where that is not known beforehand.
pub fn rows(table: Table, snapshot: &Snapshot, asked: Asked) -> Option<u64> {
    let model = snapshot.model.as_deref();
    match table {
        Table::Interests => Some(snapshot.base.pairs() as u64),
        Table::Events => Some(snapshot.offset),
        Table::Factors => model.map(|model| (model.factors().rows() + snapshot.base.users_with_interests()) as u64),
        Table::Recommendations => Some((snapshot.base.users_with_interests() * asked.limit) as u64),
        Table::AlsoBought => model.map(|model| model.also_bought().iter().map(|(_, list)| list.len() as u64).sum()),
    }
}

fn columns(table: Table, snapshot: &Snapshot) -> Result<Vec<Column>, ExportError> {
    let user = Column::new("user_id", Kind::id(&snapshot.users));
    let product = |name| Column::new(name, Kind::id(&snapshot.products));
    let integer = |name| Column::new(name, Kind::Integer);
    Ok(match table {
        Table::Interests => vec![user, product("product"), integer("clicks"), integer("purchases")],
        Table::Events => events::columns(user, product("product")),
        Table::Factors => {
            let rank = snapshot.model()?.factors().rank();
            let numbers = (0..rank).map(|at| Column::new(format!("factor_{at}"), Kind::Number));
            [Column::new("of", Kind::Text), Column::new("id", Kind::Text)].into_iter().chain(numbers).collect()
        }
        Table::Recommendations => {
            vec![user, integer("position"), Column::new("product", Kind::id(snapshot.model()?.products()))]
        }
        Table::AlsoBought => {
            let kind = Kind::id(snapshot.model()?.products());
            let product = |name| Column::new(name, kind);
            vec![product("product"), integer("position"), product("other"), integer("together")]
        }
    })
}

impl Snapshot {
    fn model(&self) -> Result<&Model, ExportError> {
        self.model.as_deref().ok_or(ExportError::NoModel)
    }

    /// Users who have interests and were not forgotten a moment ago.
    fn users(&self) -> Vec<u32> {
        let starts = self.base.starts();
        let has_interests = |user: &u32| starts[*user as usize] < starts[*user as usize + 1];
        let known = |user: &u32| has_interests(user) && !self.users.is_forgotten(*user);
        (0..self.base.users() as u32).filter(known).collect()
    }

    fn write_interests<W: Write + Send>(&self, rows: &mut Rows<'_, W>) -> Result<(), ExportError> {
        for user in self.users() {
            for Interest { product, counts } in self.base.row(user) {
                let (clicks, purchases) = (counts.clicks.into(), counts.purchases.into());
                let (user, product) = (self.users.get(user), self.products.get(product));
                rows.push(&[Value::Id(user), Value::Id(product), Value::Integer(clicks), Value::Integer(purchases)])?;
            }
        }
        Ok(())
    }

    fn write_factors<W: Write + Send>(&self, pool: &ThreadPool, rows: &mut Rows<'_, W>) -> Result<(), ExportError> {
        let model = self.model()?;
        let mut push = |of, id: String, vector: &[f32]| {
            let head = [Value::Text(of), Value::Text(&id)];
            let values: Vec<Value<'_>> = head.into_iter().chain(vector.iter().map(|&x| Value::Number(x))).collect();
            rows.push(&values)
        };
        for (product, id) in (0u32..).zip(model.products().iter()) {
            push("product", id.to_string(), &model.factors().row(product as usize)[..model.factors().rank()])?;
        }
        for users in self.users().chunks(USERS_AT_A_TIME) {
            let solve = |&user: &u32| (user, model.user_vector(&self.base.row(user).collect::<Vec<_>>()));
            for (user, vector) in pool.install(|| users.par_iter().map(solve).collect::<Vec<_>>()) {
                if let Some(vector) = vector {
                    push("user", self.users.get(user).to_string(), &vector[..model.factors().rank()])?;
                }
            }
        }
        Ok(())
    }

    fn write_recommendations<W: Write + Send>(
        &self,
        asked: Asked,
        pool: &ThreadPool,
        rows: &mut Rows<'_, W>,
    ) -> Result<(), ExportError> {
        let model = self.model()?;
        let Asked { limit, exclude_seen } = asked;
        let question = Question { limit, exclude_seen, popular_fallback: false };
        for users in self.users().chunks(USERS_AT_A_TIME) {
            let answer = |&user: &u32| (user, model.recommend(&self.base.row(user).collect::<Vec<_>>(), question).0);
            for (user, products) in pool.install(|| users.par_iter().map(answer).collect::<Vec<_>>()) {
                for (position, product) in (1..).zip(products) {
                    let (user, product) = (self.users.get(user), model.products().get(product));
                    rows.push(&[Value::Id(user), Value::Integer(position), Value::Id(product)])?;
                }
            }
        }
        Ok(())
    }

    fn write_also_bought<W: Write + Send>(&self, rows: &mut Rows<'_, W>) -> Result<(), ExportError> {
        let model = self.model()?;
        let name = |product| Value::Id(model.products().get(product));
        for (product, list) in model.also_bought().iter() {
            for (position, also) in (1..).zip(list) {
                let together = Value::Integer(also.count.into());
                rows.push(&[name(product), Value::Integer(position), name(also.product), together])?;
            }
        }
        Ok(())
    }
}
