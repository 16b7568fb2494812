//! Seconds to count "also bought" over all interests, and again after a hundredth of the users had one product more.
//!
//! `cargo bench --bench also_bought` counts a million interests (50 k users × 5 k products, products by Zipf's law) on two threads. With
//! `BDR_BENCH_INTERESTS=11` it is eleven million (500 k × 50 k).

use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use bigdatariver::also_bought::Settings;
use bigdatariver::also_bought::kappa::Kappa;
use bigdatariver::ids::{Id, IdTable};
use bigdatariver::interests::base::Base;
use bigdatariver::interests::delta::{self, Delta};
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "support/zipf.rs"]
mod zipf;

#[expect(clippy::expect_used, reason = "without threads there is nothing to measure")]
fn also_bought(criterion: &mut Criterion) {
    let (users, products) = if std::env::var("BDR_BENCH_INTERESTS").is_ok_and(|millions| millions == "11") {
        (500_000, 50_000)
    } else {
        (50_000, 5_000)
    };
    let base = zipf::zipf(users, products, 27);
    let mut ids = IdTable::default();
    for product in 0..products {
        let _ = ids.intern(&Id::Number(i64::from(product) * 7 % 1_000_003));
    }
    // The rare products of a hundredth of the users.
    let mut delta = Delta::default();
    (0..users).step_by(100).for_each(|user| delta.push(user, products - 1 - user / 100 % (products / 2), false));
    let after = delta::merge(&base, &delta, &[], users as usize, products as usize);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let compute = |base: &Base, before: Option<&Kappa>| {
        pool.install(|| Kappa::compute(base, ids.list(), Settings::default(), before, &AtomicBool::new(false)))
    };
    let before = compute(&base, None).ok();
    let mut group = criterion.benchmark_group(format!("also bought, {} interests", base.pairs()));
    group.sample_size(10);
    group.bench_function("everything", |bencher| bencher.iter(|| black_box(compute(&base, None))));
    let touched = compute(&after, before.as_ref()).map_or(0, |kappa| kappa.touched);
    group.bench_function(format!("{touched} touched products"), |bencher| {
        bencher.iter(|| black_box(compute(&after, before.as_ref())));
    });
    group.finish();
}

criterion_group!(benches, also_bought);
criterion_main!(benches);
