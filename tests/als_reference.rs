//! Training against a dense, slow, obviously right implementation of the same mathematics in `f64`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::AtomicBool;

use bigdatariver::als::{self, Factors, Kernel, Settings, Trained};
use bigdatariver::interests::base::{Base, BaseBuilder};
use bigdatariver::interests::{Counts, Interest, Weights};
use bigdatariver::random::SplitMix64;
use nalgebra::DMatrix;

const USERS: usize = 200;
const PRODUCTS: usize = 100;

/// Users who mostly click what their group of taste likes, early products more than late ones, and buy some of it.
fn base() -> Base {
    let mut random = SplitMix64::new(11);
    let mut builder = BaseBuilder::with_capacity(USERS, USERS * 12);
    for user in 0..USERS {
        let mut row = [Counts::default(); PRODUCTS];
        for _ in 0..4 + random.below(25) {
            let product = (random.unit() * random.unit() * PRODUCTS as f64) as usize;
            let product = if random.below(5) > 0 { product / 5 * 5 + user % 5 } else { product };
            row[product].add(random.below(6) == 0);
        }
        for (product, &counts) in row.iter().enumerate().filter(|(_, counts)| **counts != Counts::default()) {
            builder.push(Interest { product: product as u32, counts });
        }
        builder.end_row();
    }
    builder.finish(PRODUCTS)
}

fn settings(rank: usize) -> Settings {
    let weights = Weights { click: 1.0, purchase: 5.0 };
    Settings { rank, iterations: 20, lambda: 0.02, alpha: 2.0, weights, seed: 3 }
}

fn train(kernel: Kernel, threads: usize, settings: &Settings) -> Trained {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    als::train_with(kernel, &base(), settings, None, &pool, &AtomicBool::new(false), &mut |_| ()).unwrap()
}

/// All ratings, users × products.
fn ratings(base: &Base, settings: &Settings) -> DMatrix<f64> {
    let mut ratings = DMatrix::zeros(base.users(), base.products());
    for user in 0..base.users() {
        for interest in base.row(user as u32) {
            ratings[(user, interest.product as usize)] = f64::from(interest.counts.rating(settings.weights));
        }
    }
    ratings
}

/// One row of factors for each row of `ratings`, by the normal equations over every column, interest or not.
fn dense_half_step(ratings: &DMatrix<f64>, others: &DMatrix<f64>, settings: &Settings) -> DMatrix<f64> {
    let rank = others.ncols();
    let mut solved = DMatrix::zeros(ratings.nrows(), rank);
    for row in 0..ratings.nrows() {
        let (mut a, mut b, mut n) = (DMatrix::zeros(rank, rank), DMatrix::zeros(rank, 1), 0.0);
        for column in 0..ratings.ncols() {
            let rating = ratings[(row, column)];
            let confidence = 1.0 + f64::from(settings.alpha) * rating;
            let v = others.row(column).transpose();
            a += &v * v.transpose() * confidence;
            if rating > 0.0 {
                b += v * confidence;
                n += 1.0;
            }
        }
        a += DMatrix::identity(rank, rank) * (f64::from(settings.lambda) * n);
        solved.set_row(row, &a.lu().solve(&b).unwrap().transpose().row(0));
    }
    solved
}

fn dense_objective(ratings: &DMatrix<f64>, users: &DMatrix<f64>, products: &DMatrix<f64>, settings: &Settings) -> f64 {
    let mut sum = 0.0;
    for user in 0..ratings.nrows() {
        for product in 0..ratings.ncols() {
            let rating = ratings[(user, product)];
            let preference = f64::from(u8::from(rating > 0.0));
            let error = preference - users.row(user).dot(&products.row(product));
            sum += (1.0 + f64::from(settings.alpha) * rating) * error * error;
            let norms = users.row(user).norm_squared() + products.row(product).norm_squared();
            sum += preference * f64::from(settings.lambda) * norms;
        }
    }
    sum
}

fn dense(factors: &Factors) -> DMatrix<f64> {
    DMatrix::from_row_iterator(factors.rows(), factors.rank(), factors.unpadded().map(f64::from))
}

/// The objective of the dense implementation after all iterations, from random vectors of its own for each seed.
fn dense_training(ratings: &DMatrix<f64>, settings: &Settings) -> f64 {
    let mut random = SplitMix64::new(settings.seed);
    let mut users = DMatrix::from_fn(ratings.nrows(), settings.rank, |_, _| random.unit() - 0.5);
    users.row_iter_mut().for_each(|mut row| row /= row.norm());
    let mut products = DMatrix::zeros(0, 0);
    for _ in 0..settings.iterations {
        products = dense_half_step(&ratings.transpose(), &users, settings);
        users = dense_half_step(ratings, &products, settings);
    }
    dense_objective(ratings, &users, &products, settings)
}

#[test]
fn reaches_the_objective_of_the_dense_implementation() {
    let base = base();
    for rank in [5, 10, 16, 24] {
        // Where training ends depends on where it began by half a percent, so these are averages.
        let starts: Vec<Settings> = (1..=4).map(|seed| Settings { seed, ..settings(rank) }).collect();
        let mean = |objective: &dyn Fn(&Settings) -> f64| starts.iter().map(objective).sum::<f64>() / 4.0;
        let expected = mean(&|settings| dense_training(&ratings(&base, settings), settings));
        for kernel in Kernel::available() {
            let reached = mean(&|settings| train(kernel, 1, settings).loss * base.pairs() as f64);
            assert!(reached <= expected * 1.005, "{kernel:?} rank {rank}: {reached} against {expected}");
        }
    }
}

#[test]
fn the_reported_loss_is_the_objective() {
    let base = base();
    for rank in [3, 10, 40] {
        let settings = settings(rank);
        let ratings = ratings(&base, &settings);
        for kernel in Kernel::available() {
            let trained = train(kernel, 1, &settings);
            let Settings { weights, lambda, alpha, .. } = settings;
            let dense = dense_objective(&ratings, &dense(&trained.users), &dense(&trained.products), &settings);
            let sparse = als::objective(&base, &trained.users, &trained.products, weights, lambda, alpha);
            let reported = trained.loss * base.pairs() as f64;
            assert!((sparse / dense - 1.0).abs() < 1e-9, "{sparse} {dense}");
            assert!((reported / dense - 1.0).abs() < 1e-4, "{kernel:?} rank {rank}: {reported} {dense}");
            assert_eq!(trained.losses.len(), settings.iterations);
            // Conjugate gradient stops early, but never goes uphill.
            assert!(trained.losses.windows(2).all(|pair| pair[1] <= pair[0] * 1.000_01), "{:?}", trained.losses);
        }
    }
}

#[test]
fn half_a_step_solves_the_normal_equations() {
    let base = base();
    for rank in [1, 4, 7, 10, 12, 16] {
        let settings = settings(rank);
        let ratings = ratings(&base, &settings);
        for kernel in Kernel::available() {
            let trained = train(kernel, 1, &settings);
            let expected = dense_half_step(&ratings, &dense(&trained.products), &settings);
            let error = (dense(&trained.users) - &expected).amax();
            assert!(error < 1e-4 * expected.amax(), "{kernel:?} rank {rank}: {error}");
        }
    }
}

#[test]
fn a_reader_gets_the_vector_of_training() {
    let base = base();
    for (rank, tolerance) in [(10, 1e-4), (32, 2e-2)] {
        let settings = Settings { iterations: 40, ..settings(rank) };
        let trained = train(Kernel::detect(), 1, &settings);
        for user in 0..USERS {
            let rating = |interest: Interest| (interest.product, interest.counts.rating(settings.weights));
            let interests: Vec<_> = base.row(user as u32).map(rating).collect();
            let x = als::solve_row(&trained.products, &trained.gram, &interests, settings.lambda, settings.alpha);
            for (found, expected) in x.iter().zip(trained.users.row(user)) {
                assert!((found - expected).abs() < tolerance, "rank {rank}, user {user}: {found} {expected}");
            }
        }
    }
}

#[test]
fn kernels_agree_within_rounding() {
    for rank in [2, 8, 10, 15, 33] {
        let settings = Settings { iterations: 2, ..settings(rank) };
        let portable = train(Kernel::Portable, 1, &settings);
        for kernel in Kernel::available() {
            let trained = train(kernel, 1, &settings);
            let largest = dense(&portable.users).amax();
            let error = (dense(&trained.users) - dense(&portable.users)).amax();
            assert!(error < 1e-3 * largest, "{kernel:?} rank {rank}: {error} of {largest}");
        }
    }
}
