//! What one recommendation costs inside the process: a user's vector from 20 interests and the best five products, by exact scan.
//!
//! `cargo bench --bench read`. Product vectors are those of a short training on interests by Zipf's law, so their lengths differ as real ones
//! do; the scan's early end depends on that. "every product" is the same without the early end: each score computed.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bigdatariver::als::{Factors, Settings, solve_row, train};
use bigdatariver::ids::{Id, IdList};
use bigdatariver::interests::base::{Base, BaseBuilder};
use bigdatariver::interests::{Counts, Interest, Weights};
use bigdatariver::random::SplitMix64;
use bigdatariver::ranking::Index;
use criterion::{Criterion, criterion_group, criterion_main};

/// Interests of users who each draw 20 products; product k is drawn with a probability like 1 / (k + 1).
fn zipf(users: u32, products: u32) -> Base {
    let mut builder = BaseBuilder::with_capacity(users as usize, users as usize * 20);
    for user in 0..users {
        let mut random = SplitMix64::for_row(7, u64::from(user));
        let mut row: Vec<u32> = (0..20).map(|_| f64::from(products).powf(random.unit()) as u32 - 1).collect();
        row.sort_unstable();
        row.dedup();
        for product in row {
            builder.push(Interest { product, counts: Counts { clicks: 1, purchases: random.below(2) } });
        }
        builder.end_row();
    }
    builder.finish(products as usize)
}

#[expect(clippy::expect_used, reason = "without these there is nothing to measure")]
fn trained(base: &Base, rank: usize) -> (Factors, Vec<f32>, IdList) {
    let weights = Weights { click: 1.0, purchase: 3.0 };
    let settings = Settings { rank, iterations: 3, lambda: 0.01, alpha: 1.0, weights, seed: 42 };
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
    let trained = train(base, &settings, None, &pool, &AtomicBool::new(false), &mut |_| ()).expect("not cancelled");
    let mut ids = IdList::default();
    for product in 0..base.products() {
        ids.push(&Id::Number(product as i64)).expect("room for all ids");
    }
    (trained.products, trained.gram, ids)
}

fn bench(criterion: &mut Criterion) {
    for (users, products, rank) in [(200_000, 50_000, 10), (400_000, 1_000_000, 64)] {
        let base = zipf(users, products);
        let (factors, gram, ids) = trained(&base, rank);
        let index = Index::new(&factors);
        let mut user = 0;
        let mut next = || {
            user = (user + 7919) % users;
            base.row(user).map(|interest| (interest.product, 1.0)).collect::<Vec<_>>()
        };
        let mut times: Vec<_> = (0..20_000)
            .map(|_| {
                let (interests, started) = (next(), Instant::now());
                let vector = solve_row(&factors, &gram, &interests, 0.01, 1.0);
                black_box(index.top(&vector, 5, &[], &ids));
                started.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{products} products, rank {rank}: median {:?}, 99 % within {:?}", times[10_000], times[19_800]);
        let mut group = criterion.benchmark_group(format!("{products} products, rank {rank}"));
        group.sample_size(50);
        group.bench_function("vector and best five", |bencher| {
            bencher.iter(|| {
                let vector = solve_row(&factors, &gram, &next(), 0.01, 1.0);
                index.top(black_box(&vector), 5, &[], &ids)
            });
        });
        group.bench_function("vector", |bencher| bencher.iter(|| solve_row(&factors, &gram, &next(), 0.01, 1.0)));
        let mut scores = Vec::new();
        let vector = solve_row(&factors, &gram, &next(), 0.01, 1.0);
        group.bench_function("every product", |bencher| {
            bencher.iter(|| index.score_all(black_box(&vector), &mut scores));
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
