//! A user who is forgotten is gone: from answers at once, from lists and model with the next window, from the log when it was compacted, and from
//! whatever is built anew out of that log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Node, Setup, eventually, http, interests_in, line};

fn delete(node: &Node, path: &str) -> http::Answer {
    http::request(node.http, "DELETE", path, "", b"").unwrap()
}

fn lists(node: &Node, product: u32) -> (Value, Value) {
    let list = |view| http::get(node.http, &format!("/bdr?{view}={product}")).json()["recommendedProducts"].clone();
    (list("product-kappa"), list("product-lambda"))
}

/// Whether any file below `dir` holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().any(|file| memchr::memmem::find(&fs::read(file).unwrap(), bytes).is_some())
}

#[test]
fn a_forgotten_user_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let setup = Setup::new(dir.path());
    let node = setup.start();
    let gone = "\"somebody in particular\"";
    let events: String = [line(gone, 1, true), line(gone, 2, false), line(gone, 7, false)]
        .into_iter()
        .chain((10..20).flat_map(|user| [line(user, 1, false), line(user, 3, true)]))
        .collect();
    assert!(node.send_plain(events.as_bytes()).starts_with("{\"accepted\":23,"));
    node.train();
    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").json()["events"], 23);
    assert_eq!(lists(&node, 1), (json!([3, 2, 7]), json!([3, 2, 7])));
    let known = http::get(node.http, "/users/somebody%20in%20particular").json();
    assert_eq!(known["interests"][1]["product"], 2);
    assert!(known["interests"][1]["first"].as_str().unwrap().ends_with('Z'), "{known}");
    assert_eq!(known["interests"][1]["first"], known["interests"][1]["last"]);

    let answer = delete(&node, "/users/somebody%20in%20particular?wait=true");
    assert_eq!((answer.status, answer.json()), (200, json!({"user": "somebody in particular", "forgotten": true})));
    assert_eq!(http::get(node.http, "/users/somebody%20in%20particular").status, 404);
    assert_eq!(delete(&node, "/users/somebody%20in%20particular").status, 404, "nothing is left to forget");
    assert_eq!(lists(&node, 1).0, json!([3]));
    eventually("a batch without the user", || (lists(&node, 1).1 == json!([3])).then_some(()));
    assert_eq!((node.metric("bdr_users"), node.metric("bdr_interests")), (10.0, 20.0));

    // A power cut right after: the log still has the events, and the request behind them.
    node.kill();
    assert!(holds(&log, b"somebody in particular"));
    let node = setup.start();
    assert_eq!(http::get(node.http, "/users/somebody%20in%20particular").status, 404);
    // Who comes back is somebody new.
    assert!(node.send_plain(line(gone, 3, true).as_bytes()).starts_with("{\"accepted\":1,"));
    let known = http::get(node.http, "/users/somebody%20in%20particular?times=false").json();
    assert_eq!(known["interests"], json!([{"product": 3, "clicks": 0, "purchases": 1}]));
    assert_eq!(delete(&node, "/users/somebody%20in%20particular").status, 200);

    let compacted = http::post(node.http, "/compact", "", b"").json();
    assert_eq!(compacted["events"], 4, "{compacted}");
    assert!(compacted["bytes"].as_u64().unwrap() > 4 * 20, "{compacted}");
    assert!(!holds(&log, b"somebody in particular"));
    assert_eq!(http::post(node.http, "/compact", "", b"").json(), json!({"events": 0, "bytes": 0}));
    // A power cut right after: what the log does not say any more, the checkpoint knows.
    node.kill();
    let node = setup.start();
    assert_eq!(http::get(node.http, "/users/somebody%20in%20particular").status, 404);
    assert!(node.send_plain(line(30, 3, true).as_bytes()).starts_with("{\"accepted\":1,"));
    assert!(node.stop().success());

    // With the counters: as with the log alone.
    let kept = interests_in(dir.path());
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(interests_in(dir.path()), kept);
    assert_eq!(kept.len(), 21);
    let node = setup.start();
    node.train();
    assert_eq!(lists(&node, 1).0, json!([3]));
    assert_eq!(http::get(node.http, "/model").json()["users"], 11);
}

#[test]
fn a_quiet_node_forgets_for_good_and_in_every_view() {
    for merge in ["talk", "sum"] {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::new(dir.path()).set("lambda.stream_every=100ms").set(&format!("lambda.merge={merge}"));
        let node = setup.start();
        let events = line(1, 1, true) + &line(1, 2, false) + &line(2, 1, false) + &line(2, 3, true);
        assert!(node.send_plain(events.as_bytes()).starts_with("{\"accepted\":4,"));
        node.train();
        eventually("both", || (lists(&node, 1) == (json!([2, 3]), json!([2, 3]))).then_some(()));
        // Stopped in order, so that all events are in the checkpoint.
        assert!(node.stop().success());
        let node = setup.start();
        assert_eq!(delete(&node, "/users/1?wait=true").status, 200);
        eventually("without the user", || (lists(&node, 1) == (json!([3]), json!([3]))).then_some(()));
        assert_eq!(http::post(node.http, "/compact", "", b"").json()["events"], 2);
        assert!(node.stop().success());
        let node = setup.start();
        assert_eq!(http::get(node.http, "/users/1").status, 404);
        assert_eq!(http::get(node.http, "/users/2").status, 200);
        eventually("without the user", || (lists(&node, 1) == (json!([3]), json!([3]))).then_some(()));
    }
}

#[test]
fn a_replay_forgets_too_and_numbers_products_anew() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    // The first product of all is the forgotten user's alone at first.
    let others: String = (10..30).flat_map(|user| [line(user, user % 3, true), line(user, 5, false)]).collect();
    let events = line(1, 77, true) + &line(1, 5, true) + &others + &line(10, 77, false);
    assert!(node.send_plain(events.as_bytes()).starts_with("{\"accepted\":43,"));
    node.train();
    let before = http::get(node.http, "/bdr?user=10").json();
    assert_eq!(delete(&node, "/users/1?wait=true").status, 200);
    let replayed = || {
        let id = http::post(node.http, "/replays", "application/json", b"").json()["id"].as_u64().unwrap();
        eventually("level", || {
            let status = http::get(node.http, &format!("/replays/{id}")).json();
            (status["phase"] == "level").then_some(())
        });
        let pairs = http::get(node.http, &format!("/replays/{id}/bdr?product-kappa=77&limit=100")).json();
        let asked = eventually("answer", || {
            let answer = http::get(node.http, &format!("/replays/{id}/bdr?user=10"));
            (answer.status == 200).then(|| answer.json())
        });
        assert_eq!(delete(&node, &format!("/replays/{id}")).status, 200);
        (pairs["recommendedProducts"].clone(), asked)
    };
    // Only user 10 is left who had both: 5 and 1.
    assert_eq!(replayed().0, json!([1, 5]));
    assert_eq!(http::post(node.http, "/compact", "", b"").json()["events"], 2);
    let (pairs, asked) = replayed();
    assert_eq!(pairs, json!([1, 5]));
    assert_eq!(
        asked["recommendedProducts"].as_array().unwrap().len(),
        before["recommendedProducts"].as_array().unwrap().len()
    );
}
