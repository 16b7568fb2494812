//! Against naive joins over random events, and against what the talk's own logic computed with Spark on its own sample.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;

use super::kappa::Kappa;
use super::lambda::{Batch, Ended, Lambda, Merge, Stream, StreamSettings};
use super::{Also, MOST, Score, Settings, Table};
use crate::ids::{Id, IdTable};
use crate::interests::base::Base;
use crate::interests::delta::{self, Delta};

/// User, product, is it a purchase.
type Event = (u32, u32, bool);
type Counts = BTreeMap<(u32, u32), u32>;

const USERS: u32 = 9;
const PRODUCTS: u32 = 14;

/// Half of them numbers, half of them texts, so that the order of ids is not the order of their first appearance.
fn ids() -> IdTable {
    let mut ids = IdTable::default();
    for product in 0..PRODUCTS {
        let id = if product % 2 == 0 {
            Id::Text(format!("p{}", 50 - product).into())
        } else {
            Id::Number(-i64::from(product))
        };
        ids.intern(&id).unwrap();
    }
    ids
}

fn base(before: &Base, events: &[Event]) -> Base {
    let mut delta = Delta::default();
    events.iter().for_each(|&(user, product, is_purchase)| delta.push(user, product, is_purchase));
    delta::merge(before, &delta, &[], USERS as usize, PRODUCTS as usize)
}

fn kappa(base: &Base, settings: Settings, before: Option<&Kappa>) -> Kappa {
    Kappa::compute(base, ids().list(), settings, before, &AtomicBool::new(false)).unwrap()
}

/// For each pair of products the users who had both.
fn naive_kappa(events: &[Event], settings: Settings) -> Counts {
    let mut baskets: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for &(user, product, is_purchase) in events {
        if is_purchase || !settings.only_purchases {
            baskets.entry(user).or_default().insert(product);
        }
    }
    let mut counts = Counts::new();
    for products in baskets.values() {
        let newest: Vec<u32> = products.iter().rev().take(settings.max_products_per_user).copied().collect();
        for &one in &newest {
            for &other in newest.iter().filter(|&&other| other != one) {
                *counts.entry((one, other)).or_default() += 1;
            }
        }
    }
    counts
}

/// Every event beside every other of the same user.
fn naive_join(events: &[Event]) -> Counts {
    let mut counts = Counts::new();
    for one in events {
        for other in events.iter().filter(|other| other.0 == one.0 && other.1 != one.1) {
            *counts.entry((one.1, other.1)).or_default() += 1;
        }
    }
    counts
}

/// The counts as lists, by the contract's order: largest first, then by smaller id.
fn sorted(counts: &Counts) -> Table {
    let ids = ids();
    let mut table = Table::default();
    for product in 0..PRODUCTS {
        let of_product = counts.iter().filter(|((one, _), _)| *one == product);
        let mut list: Vec<Also> = of_product.map(|((_, other), &count)| Also { product: *other, count }).collect();
        list.sort_by_key(|also| (std::cmp::Reverse(also.count), ids.list().get(also.product).into_owned()));
        list.truncate(MOST);
        table.set(product, &list);
    }
    table
}

fn same(one: &Table, other: &Table) -> bool {
    (0..PRODUCTS).all(|product| one.get(product) == other.get(product))
}

fn window(events: &[Event]) -> Vec<(u32, Vec<Also>)> {
    let every = Duration::from_secs(10);
    let mut stream = Stream::new(StreamSettings { every, only_purchases: false, max_products_per_user: 1000 });
    assert_eq!(stream.advance(5_000_000), None);
    events.iter().for_each(|&(user, product, is_purchase)| stream.push(user, product, is_purchase));
    assert_eq!(stream.advance(9_999_999), None);
    let ended = stream.advance(10_000_000).unwrap_or(Ended { events: Vec::new(), skipped: 0 });
    ended.join(ids().list(), 1000, &AtomicBool::new(false)).unwrap()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((0..USERS, 0..PRODUCTS, any::<bool>()), 0..120)
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), 1usize..20).prop_map(|(only_purchases, max_products_per_user)| Settings {
        score: Score::Count,
        only_purchases,
        max_products_per_user,
    })
}

proptest! {
    #[test]
    fn kappa_counts_as_a_naive_join_does(events in events(), settings in settings()) {
        let found = kappa(&base(&Base::default(), &events), settings, None);
        prop_assert!(same(found.table(), &sorted(&naive_kappa(&events, settings))));
    }

    #[test]
    fn what_changed_is_all_that_must_be_done_again(parts in prop::collection::vec(events(), 1..4), settings in settings()) {
        let (mut all, mut so_far, mut before) = (Vec::new(), Base::default(), None);
        for events in parts {
            so_far = base(&so_far, &events);
            all.extend(events);
            let found = kappa(&so_far, settings, before.as_ref());
            prop_assert!(same(found.table(), &sorted(&naive_kappa(&all, settings))));
            before = Some(found);
        }
    }

    #[test]
    fn a_stream_window_joins_events_as_the_talk_does(events in events()) {
        let mut found = Table::default();
        for (product, list) in window(&events) {
            found.set(product, &list);
        }
        prop_assert!(same(&found, &sorted(&naive_join(&events))));
    }

    #[test]
    fn summed_lambda_answers_as_kappa_does(before in events(), after in events(), limit in 1..20usize) {
        let at_batch = base(&Base::default(), &before);
        let batch = kappa(&at_batch, Settings::default(), None);
        let now = base(&at_batch, &after);
        let sum = kappa(&now, Settings::default(), Some(&batch));
        let batch = Batch { table: Arc::new(batch.table().clone()), offset: 0, computed_micros: 0 };
        let lambda = Lambda { batch: Some(batch), sum: Some(Arc::new(sum.table().clone())), ..Lambda::default() };
        let everything = sorted(&naive_kappa(&[before, after].concat(), Settings::default()));
        for product in 0..PRODUCTS {
            let list = everything.get(product);
            prop_assert_eq!(lambda.answer(product, Merge::Sum, limit), &list[..limit.min(list.len())]);
        }
    }

    #[test]
    fn other_scores_order_the_same_pairs(events in events(), cosine in any::<bool>()) {
        let score = if cosine { Score::Cosine } else { Score::Llr };
        let found = kappa(&base(&Base::default(), &events), Settings { score, ..Settings::default() }, None);
        let counts = naive_kappa(&events, Settings::default());
        let users_of = |product| {
            events.iter().filter(|event| event.1 == product).map(|event| event.0).collect::<BTreeSet<_>>().len() as u64
        };
        let users = events.iter().map(|event| event.0).collect::<BTreeSet<_>>().len() as u64;
        for (product, list) in found.table().iter() {
            let value = |also: &Also| {
                let (both, one, other) = (u64::from(also.count), users_of(product), users_of(also.product));
                if cosine { both as f64 / (one as f64 * other as f64).sqrt() } else { super::score::llr(both, one, other, users) }
            };
            prop_assert!(list.is_sorted_by(|one, next| value(one) > value(next) - 1e-6));
            prop_assert_eq!(list.len(), counts.keys().filter(|pair| pair.0 == product).count());
            prop_assert!(list.iter().all(|also| counts[&(product, also.product)] == also.count));
        }
    }
}

#[test]
fn lambda_shows_the_batch_then_the_stream_without_repeats() {
    let also = |product| Also { product, count: 1 };
    let mut batch = Table::default();
    batch.set(0, &[also(1), also(2)]);
    let mut stream = Table::default();
    stream.set(0, &[also(3), also(1), also(4)]);
    stream.set(5, &[also(0)]);
    let batch = Batch { table: Arc::new(batch), offset: 2, computed_micros: 1 };
    let lambda = Lambda { batch: Some(batch), stream, ..Lambda::default() };
    let products = |product, merge, limit| -> Vec<u32> {
        lambda.answer(product, merge, limit).iter().map(|also| also.product).collect()
    };
    assert_eq!(products(0, Merge::Talk, 5), [1, 2, 3, 4]);
    assert_eq!(products(0, Merge::Talk, 3), [1, 2, 3]);
    assert_eq!(products(5, Merge::Talk, 5), [0]);
    assert_eq!(products(6, Merge::Talk, 5), [0; 0]);
    assert_eq!(products(0, Merge::Sum, 5), [1, 2]);
}

#[test]
fn somebody_with_very_many_products_pairs_only_the_newest() {
    let events: Vec<Event> = (0..PRODUCTS).map(|product| (3, product, false)).collect();
    let settings = Settings { max_products_per_user: 3, ..Settings::default() };
    let found = kappa(&base(&Base::default(), &events), settings, None);
    assert_eq!(found.cut_users, 1);
    assert!((0..PRODUCTS - 3).all(|product| found.table().get(product).is_empty()));
    assert_eq!(found.table().get(PRODUCTS - 1).len(), 2);
}

#[test]
fn one_user_one_product_and_the_same_product_again_and_again_give_nothing() {
    for events in
        [&[][..], &[(0, 0, false)], &[(0, 0, false), (0, 0, true), (0, 0, false)], &[(0, 0, true), (1, 1, true)]]
    {
        let found = kappa(&base(&Base::default(), events), Settings::default(), None);
        assert_eq!(found.table().iter().count(), 0);
        assert!(window(events).iter().all(|(_, list)| list.is_empty()));
    }
}

#[test]
fn more_products_than_a_list_holds_leave_the_best() {
    let mut ids = IdTable::default();
    let mut delta = Delta::default();
    for product in 0..300u32 {
        ids.intern(&Id::Number(i64::from(product))).unwrap();
        // The more often beside product 0 the higher the number.
        (0..=product).for_each(|user| delta.push(user, product, false));
    }
    (0..300).for_each(|user| delta.push(user, 0, false));
    let base = delta::merge(&Base::default(), &delta, &[], 300, 300);
    let found = Kappa::compute(&base, ids.list(), Settings::default(), None, &AtomicBool::new(false)).unwrap();
    let list: Vec<(u32, u32)> = found.table().get(0).iter().map(|also| (also.product, also.count)).collect();
    assert_eq!(list, (200..300).rev().map(|product| (product, product + 1)).collect::<Vec<_>>());
}

/// More products than are kept, and equal scores at the end of the list.
const MANY: u32 = 2_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_best_of_many_are_those_that_sorting_finds(
        // With one basket few counters are touched, with several many.
        baskets in prop::collection::vec(prop::collection::btree_set(0..MANY, 205..240), 1..4),
        score in prop::sample::select(vec![Score::Count, Score::Llr, Score::Cosine]),
    ) {
        let mut ids = IdTable::default();
        (0..MANY).for_each(|product| { ids.intern(&Id::Number(i64::from(product * 7 % MANY))).unwrap(); });
        let (mut delta, mut sizes) = (Delta::default(), vec![0u32; MANY as usize]);
        for (user, basket) in (0u32..).zip(&baskets) {
            for &product in basket {
                delta.push(user, product, false);
                sizes[product as usize] += 1;
            }
        }
        let base = delta::merge(&Base::default(), &delta, &[], baskets.len(), MANY as usize);
        let settings = Settings { score, ..Settings::default() };
        let found = Kappa::compute(&base, ids.list(), settings, None, &AtomicBool::new(false)).unwrap();
        let margins = super::score::Margins { users: baskets.len() as u64, sizes: &sizes };
        for product in (0..MANY).filter(|&product| sizes[product as usize] > 0).step_by(17) {
            let together = |other: u32| baskets.iter().filter(|b| b.contains(&product) && b.contains(&other)).count() as u32;
            let mut naive: Vec<(u32, u32)> = (0..MANY).map(|other| (other, together(other))).collect();
            naive.retain(|&(other, count)| other != product && count > 0);
            naive.sort_by_key(|&(other, count)| {
                (std::cmp::Reverse(score.key(margins, product, other, count)), ids.list().get(other))
            });
            naive.truncate(MOST);
            let found: Vec<(u32, u32)> = found.table().get(product).iter().map(|also| (also.product, also.count)).collect();
            prop_assert_eq!(found, naive);
        }
    }
}
