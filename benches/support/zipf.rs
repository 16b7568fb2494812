//! Generated interests whose products are as unequal as a shop's.

use bigdatariver::interests::base::{Base, BaseBuilder};
use bigdatariver::interests::{Counts, Interest};
use bigdatariver::random::SplitMix64;

/// Interests of users who each have `per_user` draws; product k is drawn with a probability like 1 / (k + 1).
pub(crate) fn zipf(users: u32, products: u32, per_user: u32) -> Base {
    let mut builder = BaseBuilder::with_capacity(users as usize, (users * per_user) as usize);
    let mut row = Vec::new();
    for user in 0..users {
        let mut random = SplitMix64::for_row(7, u64::from(user));
        row.clear();
        row.extend((0..per_user).map(|_| {
            let rank = f64::from(products).powf(random.unit()) as u64 - 1;
            // Numbers by popularity would help the cache more than real ones do.
            (rank * 40_503 % u64::from(products)) as u32
        }));
        row.sort_unstable();
        row.dedup();
        for &product in &row {
            let counts = Counts { clicks: 1 + random.below(4), purchases: u32::from(random.below(8) == 0) };
            builder.push(Interest { product, counts });
        }
        builder.end_row();
    }
    builder.finish(products as usize)
}
