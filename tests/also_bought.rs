//! "Also bought" from outside: the Kappa view, the Lambda view, and what a power cut leaves of both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bigdatariver::also_bought::lambda::{Stream, StreamSettings};
use bigdatariver::event::{Schema, encoding, ndjson};
use bigdatariver::interests::counters::{Applied, Counters};
use serde_json::{Value, json};
use support::{Node, Setup, eventually, http, line};

/// Counts by product and other product, by their texts.
type Table = BTreeMap<String, BTreeMap<String, u64>>;

/// What the talk's own logic computed with Spark on a hundred real events, and these events, where the data lies beside the project.
fn oracle() -> Option<(Value, String)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let read = |name| fs::read_to_string(data.join(name));
    let (Ok(computed), Ok(events)) = (read("also-bought.sample.json"), read("events.sample.ndjson")) else {
        eprintln!("no data in {}: nothing to try", data.display());
        return None;
    };
    Some((serde_json::from_str(&computed).unwrap(), events))
}

/// What the node answers for this product, with counts.
fn together(node: &Node, view: &str, product: &str) -> BTreeMap<String, u64> {
    let answer = http::get(node.http, &format!("/bdr?{view}={product}&limit=100&explain=true")).json();
    let explained = answer["explain"].as_array().unwrap();
    explained.iter().map(|other| (other["product"].to_string(), other["together"].as_u64().unwrap())).collect()
}

fn products(node: &Node, view: &str, product: &str) -> Value {
    let answer = http::get(node.http, &format!("/bdr?{view}={product}"));
    assert_eq!(answer.status, 200);
    answer.json()["recommendedProducts"].clone()
}

fn post_events(node: &Node, events: &[(u32, u32)]) {
    let lines: String = events.iter().map(|&(user, product)| line(user, product, false)).collect();
    assert_eq!(http::post(node.http, "/bdr", "application/x-ndjson", lines.as_bytes()).status, 201);
}

#[test]
fn the_kappa_view_counts_as_the_talk_does() {
    let Some((computed, events)) = oracle() else { return };
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("events.schema=talk").start();
    assert_eq!(node.send_plain(events.as_bytes()), "{\"accepted\":100,\"rejected\":0}\n");
    node.train();
    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").json()["events"], 100);
    let kappa: Table = serde_json::from_value(computed["kappa"].clone()).unwrap();
    for interest in computed["interests"].as_array().unwrap() {
        let product = interest[1].to_string();
        let expected = kappa.get(&product).cloned().unwrap_or_default();
        assert_eq!(together(&node, "product-kappa", &product), expected, "product {product}");
        // The stream window with the same events may have ended or not: the batch comes first either way.
        let lambda = together(&node, "product-lambda", &product);
        assert!(expected.iter().all(|(other, count)| lambda[other] == *count), "product {product}");
    }
}

#[test]
fn a_stream_window_counts_as_the_talk_does() {
    let Some((computed, events)) = oracle() else { return };
    let every = Duration::from_secs(10);
    let mut stream = Stream::new(StreamSettings { every, only_purchases: false, max_products_per_user: 1000 });
    let mut counters = Counters::default();
    let (mut encoded, mut scratch) = (Vec::new(), Vec::new());
    for line in events.lines() {
        encoding::write(&mut encoded, &mut scratch, &ndjson::parse(line.as_bytes(), Schema::Talk, 0).unwrap());
    }
    stream.advance(0);
    let push = |applied| {
        if let Applied::Event { user, product, is_purchase } = applied {
            stream.push(user, product, is_purchase);
        }
    };
    counters.apply_each(&encoded, push).unwrap();
    let ids = counters.products().list();
    let lists = stream.advance(10_000_000).unwrap().join(ids, 1000, &AtomicBool::new(false)).unwrap();
    let name = |product: u32| ids.get(product).to_string();
    let found: Table = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(product, list)| (name(*product), list.iter().map(|a| (name(a.product), u64::from(a.count))).collect()))
        .collect();
    assert_eq!(found, serde_json::from_value::<Table>(computed["stream"].clone()).unwrap());
}

#[test]
fn batch_and_stream_are_merged_and_survive_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path()).set("lambda.stream_every=100ms");
    let node = setup.start();
    let streams = |node: &Node| node.metric("bdr_lambda_layers_total{layer=\"stream\"}");
    // Twice the same product beside another: two pairs of events, one user.
    post_events(&node, &[(1, 10), (1, 11), (1, 11), (2, 10), (2, 12)]);
    eventually("stream window", || (streams(&node) >= 1.0).then_some(()));
    assert_eq!(products(&node, "product-lambda", "10"), json!([11, 12]));
    assert_eq!(together(&node, "product-lambda", "10"), BTreeMap::from([("11".into(), 2), ("12".into(), 1)]));
    assert_eq!(products(&node, "product-kappa", "10"), json!([]), "no window has closed");

    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").json()["events"], 5);
    assert_eq!(together(&node, "product-lambda", "10"), BTreeMap::from([("11".into(), 1), ("12".into(), 1)]));
    let before = streams(&node);
    post_events(&node, &[(3, 10), (3, 13), (3, 12)]);
    eventually("stream window", || (streams(&node) > before).then_some(()));
    assert_eq!(products(&node, "product-lambda", "10"), json!([11, 12, 13]), "batch, then stream, without repeats");
    assert_eq!(products(&node, "product-lambda", "13"), json!([10, 12]), "only the stream knows it");

    node.kill();
    let node = setup.start();
    // The last stream window is read from the log again; whether it has ended shows only when the next group is committed or the clock ticks.
    eventually("stream from the log", || (products(&node, "product-lambda", "13") == json!([10, 12])).then_some(()));
    // The batch was kept, or else it is computed again at once, with what came after it.
    let all = [json!([11, 12, 13]), json!([12, 11, 13])];
    eventually("batch", || all.contains(&products(&node, "product-lambda", "10")).then_some(()));
    node.train();
    assert_eq!(together(&node, "product-kappa", "10")["12"], 2);
    assert!(node.stop().success());
    let node = setup.start();
    assert_eq!(together(&node, "product-kappa", "10")["12"], 2, "the lists are kept with the model");
}

#[test]
fn summed_lambda_is_kappa_without_waiting_for_a_window() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("lambda.stream_every=100ms").set("lambda.merge=sum").start();
    post_events(&node, &[(1, 10), (1, 11), (2, 10), (2, 11)]);
    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").json()["events"], 4);
    post_events(&node, &[(3, 10), (3, 11), (3, 12)]);
    eventually("sum", || (together(&node, "product-lambda", "10").len() == 2).then_some(()));
    node.train();
    for product in ["10", "11", "12"] {
        assert_eq!(together(&node, "product-lambda", product), together(&node, "product-kappa", product));
    }
    assert_eq!(together(&node, "product-kappa", "10")["11"], 3);
}

#[test]
fn strange_questions_get_sensible_answers() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("lambda.stream_every=100ms").start();
    let answer = http::get(node.http, "/bdr?product-kappa=7");
    assert_eq!((answer.status, answer.json()), (200, json!({"product": 7, "recommendedProducts": []})));
    assert_eq!((answer.header("x-source"), answer.header("x-generation")), (Some("none"), Some("0")));
    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").json()["events"], 0, "nothing happened yet");
    // One user only; the same product again and again; a product that was seen once.
    post_events(&node, &[(1, 5), (1, 5), (1, 5)]);
    node.train();
    assert_eq!(products(&node, "product-kappa", "5"), json!([]));
    post_events(&node, &[(1, 6)]);
    node.train();
    let answer = http::get(node.http, "/bdr?product-kappa=5");
    assert_eq!(answer.json()["recommendedProducts"], json!([6]));
    assert_eq!((answer.header("x-source"), answer.header("x-generation")), (Some("also-bought"), Some("2")));
    for (query, status) in [
        ("product-kappa=5&user=1", 400),
        ("product-kappa=", 400),
        ("product-lambda=5&limit=0", 400),
        ("product-lambda=nobody", 200),
        ("product-lambda=5&limit=1", 200),
    ] {
        let answer = http::get(node.http, &format!("/bdr?{query}"));
        assert_eq!(answer.status, status, "{query}: {answer:?}");
    }
    assert_eq!(http::get(node.http, "/batch").status, 405);
}
