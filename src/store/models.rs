//! The served model and the history of windows: what a restart can show at once, before anything is counted or trained again.
//!
//! A model's payload: what is known about it (bincode behind its length), the number of products, their ids, the popular ones, then the factors
//! as little-endian 32-bit floats, row after row, their Gram matrix before them. The also-bought lists stand between the popular products and
//! these.

use bincode::Options;

use super::document::Name;
use super::envelope::Kind;
use super::{Store, StoreError, content, malformed, tables};
use crate::als::{Factors, MAX_RANK};
use crate::model::{About, MOST_POPULAR, Model};
use crate::varint::{self, Malformed};
use crate::window::WindowReport;

/// The windows are the document's head, the model its pages: none before the first.
pub(super) const MODEL: Name = Name { key: b"model", kind: Kind { number: 4, version: 3 }, lists: b"m" };

impl Store {
    /// Keeps the windows, newest first, and the model if it is another one, in one step.
    pub fn save_model(&self, model: Option<&Model>, windows: &[WindowReport]) -> Result<(), StoreError> {
        let mut edit = self.edit(MODEL)?;
        if let Some(model) = model {
            edit.put_whole(0, &write(model).map_err(|error| content(MODEL.key, error.to_string()))?)?;
        }
        edit.finish(bincode::options().serialize(windows).map_err(|error| content(MODEL.key, error.to_string()))?)
    }

    /// The kept model, if there is one.
    pub fn load_model(&self) -> Result<Option<Model>, StoreError> {
        let Some(document) = self.document(MODEL)? else { return Ok(None) };
        let payload = document.whole(0)?;
        if payload.is_empty() { Ok(None) } else { read(&payload).map(Some).map_err(malformed(MODEL.key)) }
    }

    /// The kept windows, newest first.
    pub fn load_windows(&self) -> Result<Vec<WindowReport>, StoreError> {
        let Some(document) = self.document(MODEL)? else { return Ok(Vec::new()) };
        let options = bincode::options().with_limit(1 << 20);
        options.deserialize(document.head()).map_err(|error| content(MODEL.key, error.to_string()))
    }
}

fn write(model: &Model) -> Result<Vec<u8>, bincode::Error> {
    let mut out = Vec::new();
    varint::write_bytes(&mut out, &bincode::options().serialize(&model.about)?);
    tables::write_products(&mut out, model.products());
    varint::write_unsigned(&mut out, model.popular().len() as u64);
    for &product in model.popular() {
        varint::write_unsigned(&mut out, u64::from(product));
    }
    tables::write_table(&mut out, model.also_bought());
    out.reserve(model.factors().rows() * model.factors().rank() * 4);
    out.extend(model.gram().iter().flat_map(|value| value.to_le_bytes()));
    out.extend(model.factors().unpadded().flat_map(f32::to_le_bytes));
    Ok(out)
}

fn read(mut input: &[u8]) -> Result<Model, Malformed> {
    let input = &mut input;
    let about = varint::read_bytes(input)?;
    let about: About = bincode::options().with_limit(1 << 16).deserialize(about).map_err(|_| Malformed)?;
    let products = tables::read_products(input)?;
    let most_popular = varint::read_unsigned(input)?;
    if most_popular > MOST_POPULAR as u64 {
        return Err(Malformed);
    }
    let mut popular = Vec::new();
    for _ in 0..most_popular {
        let product = varint::read_unsigned(input)?;
        popular.push(u32::try_from(product).ok().filter(|_| product < products.len() as u64).ok_or(Malformed)?);
    }
    let also_bought = tables::read_table(input, products.len())?;
    let rank = about.settings.rank;
    let (floats, rest) = input.as_chunks::<4>();
    if !(1..=MAX_RANK).contains(&rank) || !rest.is_empty() || floats.len() != (rank + products.len()) * rank {
        return Err(Malformed);
    }
    let values: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Malformed);
    }
    let (gram, factors) = values.split_at(rank * rank);
    Ok(Model::new(about, products, Factors::from_unpadded(rank, factors), gram.to_vec(), popular, also_bought))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::als;
    use crate::also_bought::{Also, Table};
    use crate::ids::{Id, IdList};
    use crate::interests::Weights;
    use crate::window::{ClosedWindow, Outcome};

    fn model() -> Model {
        let settings = als::Settings {
            rank: 2,
            iterations: 3,
            lambda: 0.1,
            alpha: 0.2,
            weights: Weights { click: 1.0, purchase: 3.0 },
            seed: 42,
        };
        let about = About {
            generation: 7,
            window: 9,
            events: 10,
            trained_at_micros: 11,
            users: 1,
            products: 2,
            interests: 2,
            loss: 0.5,
            seconds: 0.1,
            settings,
        };
        let mut products = IdList::default();
        products.push(&Id::Number(5)).unwrap();
        products.push(&Id::Text("x".into())).unwrap();
        let mut also_bought = Table::default();
        also_bought.set(1, &[Also { product: 0, count: 3 }]);
        Model::new(
            about,
            products,
            Factors::from_unpadded(2, &[1.0, 2.0, 3.0, 4.0]),
            vec![10.0, 14.0, 14.0, 20.0],
            vec![1, 0],
            also_bought,
        )
    }

    #[test]
    fn a_model_and_its_windows_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.load_model().unwrap().is_none() && store.load_windows().unwrap().is_empty());
        let model = model();
        let window = ClosedWindow { number: 9, closed_at_micros: 1, events: 2, offset: 3 };
        let windows = [WindowReport { window, outcome: Outcome::Failed("why".into()) }];
        store.save_model(Some(&model), &windows).unwrap();
        let loaded = store.load_model().unwrap().unwrap();
        assert_eq!(store.load_windows().unwrap(), windows);
        assert_eq!((&loaded.about, loaded.popular()), (&model.about, model.popular()));
        assert!(loaded.products().iter().eq(model.products().iter()));
        assert_eq!(loaded.factors().row(1), [3.0, 4.0]);
        assert_eq!(loaded.also_bought(), model.also_bought());
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let bytes = write(&model()).unwrap();
        assert!((0..bytes.len()).all(|cut| read(&bytes[..cut]).is_err()));
    }
}
