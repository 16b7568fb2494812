//! Training as a whole: the corners of its input, and that threads do not matter.

use std::sync::atomic::AtomicBool;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::*;
use crate::interests::base::BaseBuilder;
use crate::interests::{Counts, Interest};
use crate::random::SplitMix64;

const WEIGHTS: Weights = Weights { click: 1.0, purchase: 5.0 };

fn settings(rank: usize) -> Settings {
    Settings { rank, iterations: 8, lambda: 0.1, alpha: 1.0, weights: WEIGHTS, seed: 1 }
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// A base where `clicks` says how often the user clicked on the product (0: no interest).
fn base_of(users: usize, products: usize, clicks: impl Fn(usize, usize) -> u32) -> Base {
    let mut builder = BaseBuilder::with_capacity(users, users);
    for user in 0..users {
        for product in 0..products {
            let clicks = clicks(user, product);
            if clicks > 0 {
                builder.push(Interest { product: product as u32, counts: Counts { clicks, purchases: 0 } });
            }
        }
        builder.end_row();
    }
    builder.finish(products)
}

/// Sparse random interests with a few popular products.
fn random_base(users: usize, products: usize, per_user: usize) -> Base {
    let mut builder = BaseBuilder::with_capacity(users, users * per_user);
    for user in 0..users {
        let mut random = SplitMix64::for_row(5, user as u64);
        let product = |random: &mut SplitMix64| (random.unit().powi(3) * products as f64) as u32;
        let mut row: Vec<u32> = (0..per_user).map(|_| product(&mut random)).collect();
        row.sort_unstable();
        row.dedup();
        for product in row {
            builder
                .push(Interest { product, counts: Counts { clicks: 1 + random.below(3), purchases: random.below(2) } });
        }
        builder.end_row();
    }
    builder.finish(products)
}

/// Trains with every kernel, checks that all is finite, the loss is the objective, and gives the last outcome.
fn check(base: &Base, settings: &Settings) -> Trained {
    let mut last = None;
    for kernel in Kernel::available() {
        let none = &AtomicBool::new(false);
        let trained = train_with(kernel, base, settings, None, &pool(1), none, &mut |_| ()).unwrap();
        assert!(trained.users.padded().iter().chain(trained.products.padded()).all(|x| x.is_finite()), "{kernel:?}");
        assert!(trained.gram.iter().all(|x| x.is_finite()) && trained.gram.len() == settings.rank * settings.rank);
        for row in 0..base.users() {
            assert!(trained.users.padded_row(row)[settings.rank..].iter().all(|&x| x == 0.0), "{kernel:?}");
        }
        let Settings { weights, lambda, alpha, .. } = *settings;
        let objective = objective(base, &trained.users, &trained.products, weights, lambda, alpha);
        let (pairs, reported) = (base.pairs().max(1) as f64, trained.loss);
        let expected = objective / pairs;
        // Rounding grows with what there was to explain, the sum of all confidences.
        let confidence = |counts| 1.0 + f64::from(alpha * base.rating(counts, weights));
        let tolerance = 1e-5 * base.counts_column().iter().map(|&counts| confidence(counts)).sum::<f64>() / pairs;
        assert!((reported - expected).abs() <= tolerance, "{kernel:?}: {reported} is not {expected}");
        last = Some(trained);
    }
    last.unwrap()
}

#[test]
fn the_smallest_bases_train() {
    for rank in [1, 3, 10, 16, 17, 64] {
        check(&Base::default(), &settings(rank));
        check(&base_of(3, 0, |_, _| 0), &settings(rank));
        check(&base_of(1, 1, |_, _| 1), &settings(rank));
        check(&base_of(1, 40, |_, product| 1 + product as u32), &settings(rank));
        check(&base_of(40, 1, |user, _| 1 + user as u32), &settings(rank));
        // More factors than products, all products alike.
        check(&base_of(30, 2, |_, _| 1), &settings(rank));
    }
}

#[test]
fn full_rows_and_columns_train() {
    let base = base_of(90, 70, |user, product| u32::from(user == 3 || product == 5 || (user + product) % 17 == 0));
    for rank in [10, 33] {
        let trained = check(&base, &settings(rank));
        let score = |user, product| -> f32 {
            trained.users.row(user).iter().zip(trained.products.row(product)).map(|(x, y)| x * y).sum()
        };
        assert!(score(20, 5) > 0.5, "everybody likes product 5: {}", score(20, 5));
    }
}

#[test]
fn a_row_longer_than_a_window_and_a_chunk_trains() {
    let base = base_of(20_000, 3, |user, product| u32::from(product == 0 || user % 7 == product));
    for rank in [4, 20] {
        check(&base, &Settings { iterations: 3, ..settings(rank) });
    }
}

#[test]
fn ratings_of_zero_give_zero_vectors() {
    let base = random_base(30, 20, 5);
    for rank in [10, 20] {
        let nothing = Weights { click: 0.0, purchase: 0.0 };
        let trained = check(&base, &Settings { weights: nothing, ..settings(rank) });
        assert!(trained.users.padded().iter().chain(trained.products.padded()).all(|&x| x == 0.0));
        assert_eq!(trained.loss, 0.0);
    }
}

#[test]
fn rows_without_interests_get_zero_vectors() {
    let base =
        base_of(40, 30, |user, product| u32::from(user % 2 == 0 && product % 3 == 0 && (user + product) % 5 != 0));
    for rank in [10, 20] {
        let trained = check(&base, &settings(rank));
        assert!(trained.users.row(1).iter().chain(trained.products.row(1)).all(|&x| x == 0.0));
        assert!(trained.users.row(2).iter().any(|&x| x != 0.0));
    }
}

#[test]
fn without_regularisation_or_confidence_nothing_is_nan() {
    let base = random_base(60, 40, 4);
    for rank in [10, 16, 64] {
        check(&base, &Settings { alpha: 0.0, ..settings(rank) });
        check(&base, &Settings { lambda: 0.0, ..settings(rank) });
        check(&base, &Settings { lambda: 0.0, alpha: 0.0, ..settings(rank) });
        // Fewer products than factors: every system is singular.
        check(
            &base_of(50, 4, |user, product| u32::from((user + product) % 3 > 0)),
            &Settings { lambda: 0.0, ..settings(rank) },
        );
        // Counts as large as they can be.
        check(
            &base_of(9, 9, |user, product| u32::MAX / (1 + user * product) as u32),
            &Settings { alpha: 100.0, ..settings(rank) },
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let base = random_base(12_000, 900, 8);
    for rank in [10, 24] {
        for kernel in Kernel::available() {
            let settings = Settings { iterations: 2, ..settings(rank) };
            let run = |threads| {
                let never = AtomicBool::new(false);
                train_with(kernel, &base, &settings, None, &pool(threads), &never, &mut |_| ()).unwrap()
            };
            let (one, three) = (run(1), run(3));
            assert!(one.users == three.users && one.products == three.products, "{kernel:?} rank {rank}");
            assert_eq!((one.gram, one.losses), (three.gram, three.losses));
        }
    }
}

/// A training where long columns are cut into cells of `block` users.
fn in_blocks(kernel: Kernel, block: usize, threads: usize, base: &Base, settings: &Settings) -> Trained {
    let (never, pool) = (AtomicBool::new(false), pool(threads));
    let workers = Workers { kernel, pool: &pool, cancel: &never };
    train_in_blocks(workers, block, base, settings, None, &mut |_| ()).unwrap()
}

#[test]
fn columns_in_cells_train_to_the_same_vectors() {
    let base = random_base(3_000, 60, 8);
    let weights = Weights { click: 1.0, purchase: 0.0 };
    for rank in [3, 10, 16, 40] {
        for kernel in Kernel::available() {
            let settings = Settings { iterations: 3, weights, ..settings(rank) };
            let whole = in_blocks(kernel, 3_000, 1, &base, &settings);
            let cells = in_blocks(kernel, 200, 1, &base, &settings);
            assert_ne!(
                whole.products, cells.products,
                "sums are rounded differently, so these would be the same computation"
            );
            for (a, b) in whole.products.padded().iter().zip(cells.products.padded()) {
                assert!((a - b).abs() < 1e-3, "{kernel:?} rank {rank}: {a} is not {b}");
            }
            for (a, b) in whole.losses.iter().zip(&cells.losses) {
                assert!((a - b).abs() < 1e-5 * a.abs(), "{kernel:?} rank {rank}: {a} is not {b}");
            }
            let three = in_blocks(kernel, 200, 3, &base, &settings);
            assert!(cells.products == three.products && cells.losses == three.losses, "{kernel:?} rank {rank}");
        }
    }
}

#[test]
fn cells_without_a_positive_rating_give_zero_vectors() {
    let base = base_of(900, 3, |_, product| u32::from(product < 2));
    for rank in [10, 20] {
        let nothing = Weights { click: 0.0, purchase: 1.0 };
        let trained = in_blocks(Kernel::detect(), 50, 2, &base, &Settings { weights: nothing, ..settings(rank) });
        assert!(trained.users.padded().iter().chain(trained.products.padded()).all(|&x| x == 0.0));
        let trained = in_blocks(Kernel::detect(), 50, 2, &base, &Settings { lambda: 0.0, ..settings(rank) });
        assert!(trained.products.padded().iter().all(|x| x.is_finite()) && trained.products.row(0)[0] != 0.0);
    }
}

#[test]
fn training_goes_on_from_an_earlier_one() {
    let (base, settings) = (random_base(300, 100, 9), settings(10));
    let never = AtomicBool::new(false);
    let run = |iterations, earlier: Option<&Factors>| {
        train(&base, &Settings { iterations, ..settings }, earlier, &pool(1), &never, &mut |_| ()).unwrap()
    };
    let cold = run(10, None);
    let warm = run(1, Some(&cold.products));
    assert!(warm.loss <= cold.loss * 1.0001, "{} {}", warm.loss, cold.loss);
    // Products that the earlier training did not know.
    let known = Factors::from_unpadded(10, &cold.products.unpadded().take(600).collect::<Vec<_>>());
    let extended = run(10, Some(&known));
    assert!(extended.loss <= cold.loss * 1.02, "{} {}", extended.loss, cold.loss);
    // Another rank is of no use.
    assert_eq!(run(2, Some(&Factors::zeros(100, 9))).losses, run(2, None).losses);
}

#[test]
fn training_stops_when_cancelled_and_tells_its_progress() {
    let (base, settings, cancel) = (random_base(300, 100, 9), settings(10), AtomicBool::new(false));
    let mut seen = Vec::new();
    let outcome = train(&base, &settings, None, &pool(2), &cancel, &mut |iteration| {
        seen.push(iteration);
        cancel.store(iteration.number == 3, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(outcome, Err(Cancelled));
    assert_eq!(seen.iter().map(|iteration| iteration.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(seen.windows(2).all(|pair| pair[1].loss < pair[0].loss), "{seen:?}");
}
