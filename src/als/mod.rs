//! Training: alternating least squares for implicit feedback (Hu, Koren, Volinsky: "Collaborative filtering for implicit feedback datasets",
//! ICDM 2008), with the objective of Spark MLlib's `ALS.trainImplicit`.
//!
//! Users and products get vectors whose scalar products tell interest. With one side fixed, each row of the other is a small least-squares
//! problem of its own. So an iteration is two halves: products from users, then users from products. It ends with the users, so that a user
//! solved later from the product vectors alone ([`solve_row`]) gets the vector that training would have given.
//!
//! In reading order: [`factors`] is how vectors lie in memory, [`init`] where they begin, [`columns`] the interests by product,
//! [`axes`] in which coordinates, [`half_step`] who solves which rows on which thread, [`kernel`] how rows are solved, [`loss`] and [`solve`]
//! the yardstick and the reader's side. Nothing here reads a clock or a file, and nothing random has another source than the seed: the same
//! base and settings give the same bits on one kind of processor, whatever the number of threads.

mod axes;
mod columns;
pub mod factors;
mod half_step;
mod init;
pub mod kernel;
pub mod loss;
mod solve;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

pub use self::factors::Factors;
pub use self::kernel::Kernel;
pub use self::loss::objective;
pub use self::solve::{explain_row, solve_row};

use self::columns::{Columns, Part};
use self::half_step::{Kept, Region, Workers};
use self::kernel::{Fit, Side, System};
use crate::interests::Weights;
use crate::interests::base::Base;

/// The largest rank.
pub const MAX_RANK: usize = 256;

/// How many bytes of user vectors a block has: what stays in the caches while the products' cells of the block are gone through. Between a
/// quarter and twice as much was hardly slower, at ranks 10 and 64.
const BLOCK: usize = 4 << 20;

/// Training that goes on from an earlier one ends when an iteration lowers the objective by less than this part of it. A loss that falls so
/// slowly no longer tells anything about the ranking, new users' and new products' included.
const SETTLED: f64 = 1e-3;

/// What to train. All numbers must be finite, and none negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How many numbers a vector has, 1 to 256.
    pub rank: usize,
    /// How many times both sides are solved, at most when training goes on from an earlier one. 0 leaves the vectors as they begin.
    pub iterations: usize,
    /// λ: how strongly long vectors are held back, multiplied by a row's number of interests as MLlib does.
    pub lambda: f32,
    /// α: how much a rating adds to the confidence c = 1 + αr.
    pub alpha: f32,
    /// What a click and a purchase add to a rating r.
    pub weights: Weights,
    /// Where the first vectors come from.
    pub seed: u64,
}

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// How many iterations are done, from 1 on.
    pub number: usize,
    /// The objective per interest after it.
    pub loss: f64,
}

/// The outcome of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// One vector a product: what is served.
    pub products: Factors,
    /// One vector a user, as of the last half-step. Not needed for serving ([`solve_row`] gives them again), so drop it early: at a small
    /// rank it takes 64 bytes a user.
    pub users: Factors,
    /// YᵀY of the products, rank × rank: what [`solve_row`] needs besides.
    pub gram: Vec<f32>,
    /// The objective per interest after the last half-step (0 without interests or iterations).
    pub loss: f64,
    /// The same after each iteration.
    pub losses: Vec<f64>,
}

/// Training stopped because somebody asked for it; nothing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("training was cancelled")]
pub struct Cancelled;

/// Trains on all interests of `base` with the fastest kernel of this processor.
///
/// With the product factors of an `earlier` training (of the same rank: others are ignored) training goes on from there, beginning with the
/// users, and ends when it has settled; products it does not know begin at random. `cancel` is looked at every few microseconds; `progress` is called after each iteration.
/// Beyond `base`, 8 to 9 bytes an interest (more with few users, where that matters little) and the vectors are needed at the peak.
pub fn train(
    base: &Base,
    settings: &Settings,
    earlier: Option<&Factors>,
    pool: &ThreadPool,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(Iteration),
) -> Result<Trained, Cancelled> {
    train_with(Kernel::detect(), base, settings, earlier, pool, cancel, progress)
}

/// [`train`] with a given kernel: for tests and measurements.
pub fn train_with(
    kernel: Kernel,
    base: &Base,
    settings: &Settings,
    earlier: Option<&Factors>,
    pool: &ThreadPool,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(Iteration),
) -> Result<Trained, Cancelled> {
    let bytes = settings.rank.next_multiple_of(factors::LINE).max(factors::LINE) * size_of::<f32>();
    train_in_blocks(Workers { kernel, pool, cancel }, BLOCK / bytes, base, settings, earlier, progress)
}

/// [`train`], where long columns are cut when another `block` users begin.
fn train_in_blocks(
    workers: Workers<'_>,
    block: usize,
    base: &Base,
    settings: &Settings,
    earlier: Option<&Factors>,
    progress: &mut dyn FnMut(Iteration),
) -> Result<Trained, Cancelled> {
    let columns = Columns::new(base, block, workers.pool);
    let mut training = Training::begin(base, &columns, settings, earlier, workers)?;
    let mut losses = Vec::with_capacity(settings.iterations);
    for number in 1..=settings.iterations {
        let loss = training.iterate()? / base.pairs().max(1) as f64;
        let settled = losses.last().is_some_and(|before| before - loss < SETTLED * before);
        losses.push(loss);
        progress(Iteration { number, loss });
        if settled && training.continued {
            break;
        }
    }
    let gram = unpadded(&workers.gram(&training.products), settings.rank);
    if workers.cancelled() {
        return Err(Cancelled);
    }
    let Training { products, users, .. } = training;
    Ok(Trained { products, users, gram, loss: losses.last().copied().unwrap_or(0.0), losses })
}

/// Training between two half-steps.
struct Training<'a> {
    base: &'a Base,
    columns: &'a Columns,
    settings: &'a Settings,
    workers: Workers<'a>,
    users: Factors,
    products: Factors,
    kept: Kept,
    /// Whether the products come from an earlier training.
    continued: bool,
}

impl<'a> Training<'a> {
    fn begin(
        base: &'a Base,
        columns: &'a Columns,
        settings: &'a Settings,
        earlier: Option<&Factors>,
        workers: Workers<'a>,
    ) -> Result<Self, Cancelled> {
        let earlier = earlier.filter(|earlier| earlier.rank() == settings.rank);
        let users = match earlier {
            None => init::random(base.starts(), settings.rank, settings.seed, workers.pool),
            Some(_) => Factors::zeros(base.users(), settings.rank),
        };
        let products = match earlier {
            None => Factors::zeros(base.products(), settings.rank),
            Some(earlier) => init::continued(earlier, columns.lengths(), settings.seed),
        };
        let (kept, continued) = (Kept::default(), earlier.is_some());
        let mut training = Self { base, columns, settings, workers, users, products, kept, continued };
        if training.continued {
            training.solve_users()?;
        }
        Ok(training)
    }

    /// Both halves of an iteration; gives the objective after it.
    fn iterate(&mut self) -> Result<f64, Cancelled> {
        let products = self.solve_products()?;
        let users = self.solve_users()?;
        // The users' half knows the whole objective but the products' share of the penalty.
        Ok(users.objective + products.penalty)
    }

    fn solve_products(&mut self) -> Result<Fit, Cancelled> {
        let Self { base, columns, settings, workers, users, products, kept, .. } = self;
        let gram = axes::prepare(*workers, users);
        let region = |part: &'a Part| {
            let (others, counts) = (columns.users(), columns.counts());
            let side = Side { starts: &part.starts, others, counts, base };
            let (rows, long, blocks) = (part.products.clone(), &part.long[..], part.blocks().collect());
            Region { system: System::new(side, users, &gram, settings), rows, long, blocks }
        };
        let regions: Vec<Region<'_>> = columns.parts().iter().map(region).collect();
        let fit = workers.solve(&regions, kept, products);
        if workers.cancelled() { Err(Cancelled) } else { Ok(fit) }
    }

    fn solve_users(&mut self) -> Result<Fit, Cancelled> {
        let Self { base, settings, workers, users, products, kept, .. } = self;
        let gram = axes::prepare(*workers, products);
        let side = Side { starts: base.starts(), others: base.product_column(), counts: base.counts_column(), base };
        let system = System::new(side, products, &gram, settings);
        // Their rows are short, and the products' vectors few.
        let region = Region { system, rows: 0..base.users(), long: &[], blocks: Vec::new() };
        let fit = workers.solve(&[region], kept, users);
        if workers.cancelled() { Err(Cancelled) } else { Ok(fit) }
    }
}

/// The first `rank` rows and columns of a square matrix with padding.
fn unpadded(matrix: &[f64], rank: usize) -> Vec<f32> {
    let stride = rank.next_multiple_of(factors::LINE);
    matrix.chunks(stride).take(rank).flat_map(|row| row[..rank].iter().map(|&number| number as f32)).collect()
}
