//! A user who is forgotten is gone: from answers at once, from lists and model with the next window, from the log when it was compacted, and from
//! whatever is built anew out of that log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Node, Setup, http, interests_in, line};

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
    assert_eq!(http::post(node.http, "/batch?wait=true", "", b"").status, 200);
    assert_eq!(lists(&node, 1).1, json!([3]));
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
