//! The routes as the contract has them: status, members, headers, and an error in JSON for everything that is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use serde_json::{Value, json};
use support::{Node, Setup, http, line};

fn talk_event() -> Value {
    json!({
        "date_time": "2013-01-07T01:31:24.000Z", "site_name": 8, "user_location_country": 77, "user_location_region": 824,
        "user_location_city": 32261, "user_id": 9491, "is_mobile": 1, "product": 68, "channel": 9,
        "product_generic_category": 1, "product_specific_category": 8279, "is_purchase": 0
    })
}

fn error(answer: &http::Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {answer:?}")).to_owned()
}

/// A node with tastes in it: users 1 to 20 like products 1 to 6, users 21 to 40 products 11 to 16, each all but one.
fn node_with_tastes(dir: &std::path::Path, set: &[&str]) -> Node {
    let setup = set.iter().fold(Setup::new(dir), |setup, set| setup.set(set));
    let node = setup.start();
    let tastes = (1..=20).map(|user| (user, 1)).chain((21..=40).map(|user| (user, 11)));
    let events: String = tastes
        .flat_map(|(user, first)| {
            (first..first + 6).filter(move |product| user % 6 != product - first).map(move |p| (user, p))
        })
        .map(|(user, product)| line(user, product, product % 2 == 0))
        .collect();
    assert!(node.send_plain(events.as_bytes()).starts_with("{\"accepted\":200,"));
    node.train();
    node
}

#[test]
fn one_event_by_post_is_given_back_and_counted_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("events.schema=talk").start();
    let event = serde_json::to_vec_pretty(&talk_event()).unwrap();
    let answer = http::post(node.http, "/bdr", "application/json; charset=utf-8", &event);
    assert_eq!((answer.status, answer.json()), (201, talk_event()));
    let known = http::get(node.http, "/users/9491").json();
    let time = "2013-01-07T01:31:24.000Z";
    let interest = json!({"product": 68, "clicks": 1, "purchases": 0, "first": time, "last": time});
    assert_eq!(known, json!({"user": 9491, "interests": [interest]}));
    let mut wrong = talk_event();
    wrong["is_purchase"] = json!(2);
    let answer = http::post(node.http, "/bdr", "application/json", wrong.to_string().as_bytes());
    assert_eq!((answer.status, error(&answer)), (400, "member `is_purchase` must be 0 or 1, got 2".to_owned()));
    assert_eq!(http::post(node.http, "/bdr", "application/json", b"").status, 400);
    let answer = http::post(node.http, "/bdr", "text/plain", &event);
    assert_eq!(answer.status, 415);
    assert!(error(&answer).contains("application/x-ndjson"));
    let long = format!("{{\"note\":\"{}\"}}", "x".repeat(20_000));
    let answer = http::post(node.http, "/bdr", "application/json", long.as_bytes());
    assert_eq!(answer.status, 413);
    assert!(error(&answer).contains("ingest.max_line_bytes"));
    assert_eq!(node.metric("bdr_events_accepted_total{source=\"http\"}"), 1.0);
}

#[test]
fn many_events_by_post_are_told_apart_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    let bad = "{\"user_id\":1}\n";
    let body = format!("{}{bad}\n{}{}", line(1, 2, false), line(1, 2, true), bad.repeat(150));
    let answer = http::post(node.http, "/bdr", "application/x-ndjson", body.as_bytes());
    let tally = answer.json();
    assert_eq!((answer.status, &tally["accepted"], &tally["rejected"]), (201, &json!(2), &json!(151)));
    let errors = tally["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["line"], &errors[1]["line"]), (100, &json!(2), &json!(5)));
    assert!(errors[0]["error"].as_str().unwrap().starts_with("member `product` is missing"));
    let many: String = (0..50_000).map(|n| line(n % 100, n % 10, false)).collect();
    let answer = http::post(node.http, "/bdr", "application/x-ndjson", many.as_bytes());
    assert_eq!(answer.json(), json!({"accepted": 50_000, "rejected": 0, "errors": []}));
}

#[test]
fn recommendations_follow_tastes_and_say_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_tastes(dir.path(), &["als.alpha=1", "als.rank=2"]);
    let answer = http::get(node.http, "/bdr?user=6&limit=1&exclude_seen=true");
    assert_eq!(answer.text(), "{\"user\":6,\"recommendedProducts\":[1]}");
    assert_eq!((answer.header("x-generation"), answer.header("x-source")), (Some("1"), Some("als")));
    let explained = http::get(node.http, "/bdr?user=6&limit=1&exclude_seen=true&explain=true").json();
    let because = explained["explain"][0]["because"].as_array().unwrap();
    assert_eq!((&explained["explain"][0]["product"], because.len()), (&json!(1), 5));
    let shares: Vec<f64> = because.iter().map(|reason| reason["share"].as_f64().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-3 && shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    // As a text the id is the same.
    let five = http::get(node.http, "/bdr?user=%36").json();
    assert_eq!(five["recommendedProducts"].as_array().unwrap().len(), 5);
    // A user that the model never saw: the very next answer knows the click.
    assert_eq!(http::get(node.http, "/bdr?user=99").text(), "{\"user\":99,\"recommendedProducts\":[]}");
    node.send_plain(line(99, 12, false).as_bytes());
    let answer = http::get(node.http, "/bdr?user=99&exclude_seen=true&limit=5").json();
    let products: Vec<i64> =
        answer["recommendedProducts"].as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect();
    assert!(products.iter().all(|product| (11..=16).contains(product) && *product != 12), "{products:?}");
    let model = http::get(node.http, "/model").json();
    assert_eq!((&model["users"], &model["products"], &model["interests"]), (&json!(40), &json!(12), &json!(200)));
}

#[test]
fn strangers_get_nothing_or_what_is_popular() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_tastes(dir.path(), &["serve.fallback=popular"]);
    let answer = http::get(node.http, "/bdr?user=nobody&limit=2");
    assert_eq!(answer.header("x-source"), Some("popular"));
    assert_eq!(answer.json()["user"], "nobody");
    assert_eq!(answer.json()["recommendedProducts"].as_array().unwrap().len(), 2);
    drop(node);
    let other = tempfile::tempdir().unwrap();
    let node = Setup::new(other.path()).start();
    let answer = http::get(node.http, "/bdr?user=nobody");
    assert_eq!(
        (answer.status, answer.header("x-source"), answer.header("x-generation")),
        (200, Some("none"), Some("0"))
    );
    assert_eq!(http::get(node.http, "/model").status, 404);
    assert_eq!(http::get(node.http, "/users/nobody").status, 404);
    assert_eq!(node.train()["generation"], 0);
}

#[test]
fn everything_that_is_wrong_is_an_error_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    let which = "Parameter *product-lambda*, *product-kappa* or *user* must be provided in the query string";
    for (method, path, status, expected) in [
        ("GET", "/bdr", 400, which),
        ("GET", "/bdr?user=1&limit=0", 400, "parameter limit must be a number from 1 to 100, got \"0\""),
        ("GET", "/bdr?user=1&limit=101", 400, "parameter limit must be"),
        ("GET", "/bdr?user=1&limit=many", 400, "parameter limit must be"),
        ("GET", "/bdr?user=1&exclude_seen=yes", 400, "parameter exclude_seen must be true or false, got \"yes\""),
        ("GET", "/bdr?user=", 400, "parameter user must be an id of 1 to 128 bytes"),
        ("POST", "/windows?wait=perhaps", 400, "parameter wait must be true or false"),
        ("DELETE", "/bdr", 405, "DELETE is not allowed at /bdr"),
        ("POST", "/metrics", 405, "POST is not allowed at /metrics"),
        ("GET", "/nothing", 404, "there is nothing at /nothing"),
    ] {
        let answer = http::request(node.http, method, path, "", b"").unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(error(&answer).starts_with(expected), "{method} {path}: {answer:?}");
    }
    assert_eq!(http::get(node.http, "/healthcheck").text(), "{\"healthcheck\":\"ok\"}");
    assert_eq!(http::get(node.http, "/ready").status, 200);
    assert_eq!(http::get(node.http, "/openapi.json").json()["info"]["title"], "BigDataRiver");
}

#[test]
fn windows_are_remembered_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    for window in 1..=3 {
        node.send_plain(line(window, 1, false).repeat(window).as_bytes());
        assert_eq!(node.train(), json!({"window": window, "generation": window}));
    }
    let windows = http::get(node.http, "/windows").json();
    let seen: Vec<_> =
        windows.as_array().unwrap().iter().map(|w| (w["window"].as_u64(), w["events"].as_u64())).collect();
    assert_eq!(seen, [(Some(3), Some(3)), (Some(2), Some(2)), (Some(1), Some(1))]);
}
