//! Seconds an iteration of training takes, per kernel and rank; and the time of a whole training on a handful of interests.
//!
//! `cargo bench --bench als` trains on a million interests (50 k users × 5 k products, products by Zipf's law) on two threads. With
//! `BDR_BENCH_INTERESTS=11` it is eleven million (500 k × 50 k): the size other implementations were measured at. An iteration's time is
//! the time from one progress report to the next, so building columns and first vectors is not in it.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bigdatariver::als::{Kernel, Settings, train_with};
use bigdatariver::interests::Weights;
use bigdatariver::interests::base::Base;
use criterion::{Criterion, criterion_group, criterion_main};
use rayon::ThreadPool;

#[path = "support/zipf.rs"]
mod zipf;

use zipf::zipf;

fn settings(rank: usize, iterations: usize) -> Settings {
    let weights = Weights { click: 1.0, purchase: 5.0 };
    Settings { rank, iterations, lambda: 0.01, alpha: 1.0, weights, seed: 1 }
}

fn train(kernel: Kernel, base: &Base, settings: &Settings, pool: &ThreadPool, progress: &mut dyn FnMut()) -> f64 {
    let never = AtomicBool::new(false);
    let trained = train_with(kernel, base, settings, None, pool, &never, &mut |_| progress());
    trained.map_or(f64::NAN, |trained| trained.loss)
}

/// The time `count` iterations take, after one that is not counted.
fn iterations(kernel: Kernel, base: &Base, rank: usize, count: u64, pool: &ThreadPool) -> Duration {
    let mut reports = Vec::new();
    let settings = settings(rank, count as usize + 1);
    black_box(train(kernel, base, &settings, pool, &mut || reports.push(Instant::now())));
    reports[reports.len() - 1] - reports[0]
}

#[expect(clippy::expect_used, reason = "without threads there is nothing to measure")]
fn bench(criterion: &mut Criterion) {
    let large = std::env::var("BDR_BENCH_INTERESTS").is_ok_and(|millions| millions == "11");
    let (users, products, per_user) = if large { (500_000, 50_000, 27) } else { (50_000, 5_000, 27) };
    let base = zipf(users, products, per_user);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let mut group = criterion.benchmark_group(format!("{} interests, an iteration", base.pairs()));
    group.sample_size(10).measurement_time(Duration::from_secs(if large { 10 } else { 3 }));
    for rank in [10, 64] {
        for kernel in Kernel::available() {
            group.bench_function(format!("rank {rank}, {kernel:?}"), |bencher| {
                bencher.iter_custom(|count| iterations(kernel, &base, rank, count, &pool));
            });
        }
    }
    group.finish();

    let tiny = zipf(20, 10, 6);
    let mut group = criterion.benchmark_group(format!("{} interests, 20 iterations", tiny.pairs()));
    for rank in [10, 64] {
        group.bench_function(format!("rank {rank}"), |bencher| {
            bencher.iter(|| train(Kernel::detect(), &tiny, &settings(rank, 20), &pool, &mut || ()));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
