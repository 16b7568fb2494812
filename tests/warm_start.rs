//! A training that goes on from the one before ends sooner, and ranks what is new since then as well as a cold one does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::atomic::AtomicBool;

use bigdatariver::als::{Factors, Settings, Trained, train};
use bigdatariver::also_bought::Table;
use bigdatariver::evaluation::{Hidden, evaluate};
use bigdatariver::ids::{Id, IdList};
use bigdatariver::interests::base::{Base, BaseBuilder};
use bigdatariver::interests::{Counts, Interest, Weights};
use bigdatariver::random::SplitMix64;
use bigdatariver::training;

const GROUPS: u32 = 12;
const OLD_USERS: u32 = 6000;
const NEW_USERS: u32 = 120;
const OLD_PRODUCTS: u32 = 240;
const NEW_PRODUCTS: u32 = 12;
/// How many products a user has an interest in, beside the hidden one.
const SEEN: usize = 8;

const SETTINGS: Settings = Settings {
    rank: 12,
    iterations: 20,
    lambda: 0.05,
    alpha: 2.0,
    weights: Weights { click: 1.0, purchase: 3.0 },
    seed: 42,
};

/// What a user likes, mostly products of the own group, and one more of them, which is hidden. `Now` some old users also like the
/// newest product of their group; for a quarter of them it is the hidden one.
fn interests_of(user: u32, now: bool) -> (Vec<u32>, u32) {
    let mut random = SplitMix64::for_row(3, u64::from(user));
    let mut liked = Vec::new();
    while liked.len() <= SEEN {
        let product = match random.below(10) {
            0..8 => random.below(OLD_PRODUCTS / GROUPS) * GROUPS + user % GROUPS,
            _ => random.below(OLD_PRODUCTS),
        };
        if !liked.contains(&product) {
            liked.push(product);
        }
    }
    if now && user < OLD_USERS && user % 7 < 4 {
        let at = if user.is_multiple_of(7) { SEEN } else { 0 };
        liked[at] = OLD_PRODUCTS + user % GROUPS;
    }
    let hidden = liked.pop().unwrap_or(0);
    liked.sort_unstable();
    (liked, hidden)
}

fn base(now: bool) -> Base {
    let users = if now { OLD_USERS + NEW_USERS } else { OLD_USERS };
    let mut builder = BaseBuilder::with_capacity(users as usize, users as usize * SEEN);
    for user in 0..users {
        for product in interests_of(user, now).0 {
            builder.push(Interest { product, counts: Counts { clicks: 1, purchases: 0 } });
        }
        builder.end_row();
    }
    builder.finish((if now { OLD_PRODUCTS + NEW_PRODUCTS } else { OLD_PRODUCTS }) as usize)
}

fn trained(base: &Base, earlier: Option<&Factors>) -> Trained {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    train(base, &SETTINGS, earlier, &pool, &AtomicBool::new(false), &mut |_| ()).unwrap()
}

/// NDCG at 10 of the hidden events, without what users had.
fn ndcg(base: &Base, trained: Trained, hidden: &[Hidden]) -> f64 {
    let mut ids = IdList::default();
    for product in 0..base.products() {
        ids.push(&Id::Number(product as i64)).unwrap();
    }
    let model = training::model(base, ids, &SETTINGS, trained, Table::default());
    evaluate(&model, base, model.products(), hidden).als_unseen.ndcg[1]
}

#[test]
fn a_warm_retrain_settles_early_and_ranks_new_users_and_new_products_as_well() {
    let (before, now) = (base(false), base(true));
    let earlier = trained(&before, None);
    let (cold, warm) = (trained(&now, None), trained(&now, Some(&earlier.products)));
    assert_eq!(cold.losses.len(), SETTINGS.iterations);
    assert!(warm.losses.len() <= 4, "{:?}", warm.losses);
    assert!(warm.loss <= cold.loss * 1.001, "{} {}", warm.loss, cold.loss);

    let hidden = |user| Hidden { user, product: interests_of(user, true).1 };
    let new_users: Vec<Hidden> = (OLD_USERS..OLD_USERS + NEW_USERS).map(hidden).collect();
    let new_products: Vec<Hidden> =
        (0..OLD_USERS).map(hidden).filter(|hidden| hidden.product >= OLD_PRODUCTS).collect();
    assert!(new_products.len() > 100, "{}", new_products.len());
    for (what, hidden) in [("users", new_users), ("products", new_products)] {
        let [cold, warm] = [&cold, &warm].map(|trained| ndcg(&now, trained.clone(), &hidden));
        assert!(cold > 0.02 && warm >= cold * 0.97, "new {what}: NDCG@10 {warm} warm, {cold} cold");
    }
}
