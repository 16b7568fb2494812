//! Job Y beside job X: it catches up from the log, is compared, takes over without a failed answer, and can go back in time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use support::{Node, Setup, eventually, http, line};

fn post(node: &Node, path: &str, body: &Value) -> http::Answer {
    http::post(node.http, path, "application/json", body.to_string().as_bytes())
}

/// Each likes what the group likes, and some things of everybody's.
fn product(n: u32) -> u32 {
    if n.is_multiple_of(7) { n % 11 } else { 20 + n % 5 * 4 + n / 50 % 4 }
}

fn send(node: &Node, events: std::ops::Range<u32>) {
    let count = events.len();
    let lines: String = events.map(|n| line(n % 50, product(n), n % 3 == 0)).collect();
    assert!(node.send_plain(lines.as_bytes()).starts_with(&format!("{{\"accepted\":{count},")));
}

/// The replay's status once it is in this phase.
fn reached(node: &Node, id: u64, phase: &str) -> Value {
    eventually(phase, || {
        let status = http::get(node.http, &format!("/replays/{id}")).json();
        assert_ne!(status["phase"], "failed", "{status}");
        (status["phase"] == phase).then_some(status)
    })
}

fn delete(node: &Node, id: u64) {
    assert_eq!(http::request(node.http, "DELETE", &format!("/replays/{id}"), "", b"").unwrap().status, 200);
}

fn rank(node: &Node) -> Value {
    http::get(node.http, "/model").json()["settings"]["rank"].clone()
}

#[test]
fn y_takes_over_without_a_failed_or_mixed_answer_and_stays_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let node = setup.start();
    send(&node, 0..2000);
    node.train();
    let id = post(&node, "/replays", &json!({"set": {"als.rank": 4, "als.alpha": 1.0}})).json()["id"].as_u64().unwrap();
    assert_eq!(post(&node, "/replays", &json!({})).status, 409, "one at a time");
    let status = reached(&node, id, "level");
    assert_eq!(
        (&status["comparison"]["x"]["generation"], &status["comparison"]["y"]["events"]),
        (&json!(1), &json!(2000))
    );
    assert!(status["comparison"]["overlap_at_5"].as_f64().unwrap() > 0.0);
    assert_eq!(rank(&node), 10, "nothing is served yet");

    // What comes now is new to both, and judged.
    send(&node, 2000..3000);
    let judged = |status: &Value| status["comparison"]["judged_events"].as_u64().unwrap() > 0;
    let status = eventually("judged events", || Some(reached(&node, id, "level")).filter(judged));
    assert!(status["comparison"]["y"]["hit_rate_at_5"].is_f64() && status["comparison"]["x"]["hit_rate_at_5"].is_f64());

    let (http_address, done) = (node.http, AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let answer = http::get(http_address, "/bdr?user=7");
                assert_eq!(answer.status, 200);
                let generation: u64 = answer.header("x-generation").unwrap().parse().unwrap();
                answers.push((generation, answer.json()["recommendedProducts"].clone()));
            }
            answers
        });
        let promoted = post(&node, &format!("/replays/{id}/promote"), &json!({}));
        assert_eq!((promoted.status, promoted.json()), (200, json!({"generation": 2})));
        let after = http::get(http_address, "/bdr?user=7");
        assert_eq!(after.header("x-generation"), Some("2"));
        done.store(true, Ordering::Relaxed);
        let mut answers = reader.join().unwrap();
        answers.push((2, after.json()["recommendedProducts"].clone()));
        // One generation, one answer.
        answers.sort_by_key(|answer| answer.0);
        answers.dedup();
        assert!(answers.len() <= 2, "{answers:?}");
    });
    assert_eq!(rank(&node), 4);
    send(&node, 3000..3100);
    node.train();
    assert_eq!(rank(&node), 4, "the next window is trained under the promoted settings");
    delete(&node, id);

    node.kill();
    let node = setup.start();
    send(&node, 3100..3200);
    node.train();
    assert_eq!(rank(&node), 4);
    let settings = http::get(node.http, "/model").json()["settings"].clone();
    assert_eq!((&settings["alpha"], &settings["iterations"]), (&json!(1.0), &json!(20)));
}

#[test]
fn what_would_have_been_recommended_then() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    send(&node, 0..1500);
    node.train();
    let then = http::get(node.http, "/bdr?user=9").json();
    let pairs = http::get(node.http, "/bdr?product-kappa=20").json();
    send(&node, 1500..4000);
    node.train();
    let mut checksums = Vec::new();
    for _ in 0..2 {
        let id = post(&node, "/replays", &json!({"until_offset": 1500})).json()["id"].as_u64().unwrap();
        let status = reached(&node, id, "done");
        assert_eq!(status["events"], 1500);
        checksums.push(status["comparison"]["y"]["crc32c"].clone());
        assert_eq!(http::get(node.http, &format!("/replays/{id}/bdr?user=9")).json(), then);
        assert_eq!(http::get(node.http, &format!("/replays/{id}/bdr?product-kappa=20")).json(), pairs);
        assert_eq!(
            post(&node, &format!("/replays/{id}/promote"), &json!({})).status,
            409,
            "the past does not take over"
        );
        delete(&node, id);
    }
    assert_eq!(checksums[0], checksums[1], "the same log twice gives the same bits");
    let id = post(&node, "/replays", &json!({"until": "2020-01-01T00:00:00Z"})).json()["id"].as_u64().unwrap();
    let failed = eventually("end", || {
        Some(http::get(node.http, &format!("/replays/{id}")).json()).filter(|status| status["phase"] == "failed")
    });
    assert!(failed["error"].as_str().unwrap().contains("no events"), "{failed}");
}

#[test]
fn a_resting_data_directory_is_replayed_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let node = setup.start();
    send(&node, 0..2500);
    node.train();
    let served = http::get(node.http, "/bdr?user=9").json();
    assert!(node.stop().success());
    let replay = |more: &[&str]| {
        let command = ["replay", "--json", "--user", "9", "--data-dir", dir.path().to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_bdr")).args(command).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let outcome = replay(&[]);
    let comparison = &outcome["comparison"];
    assert_eq!(comparison["x"]["crc32c"], comparison["y"]["crc32c"]);
    assert_eq!(comparison["overlap_at_5"], 1.0);
    assert_eq!(outcome["recommended"]["9"], served["recommendedProducts"]);
    let past = replay(&["--until-offset", "2000"]);
    // Each user's first event with a product, of those that came after: as a map of its own counts them.
    let mut had = std::collections::BTreeSet::new();
    let new = (0..2500).filter(|&n| had.insert((n % 50, product(n))) && n >= 2000).count();
    assert_eq!(past["comparison"]["judged_events"], new, "{past}");
    let promoted = replay(&["--set", "als.rank=6", "--promote"]);
    assert_eq!(promoted["promoted"]["generation"], 2);
    let node = setup.start();
    assert_eq!(rank(&node), 6);
    assert_eq!(http::get(node.http, "/model").json()["generation"], 2);
}

#[test]
fn wrong_orders_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    for (body, part) in [
        (json!({"set": {"http.workers": 2}}), "no setting of a model"),
        (json!({"set": {"als.rnk": 2}}), "did you mean `als.rank`"),
        (json!({"set": {"als.rank": 0}}), "1 to 256"),
        (json!({"until": "yesterday"}), "until must be a time"),
        (json!({"until": "2020-01-01T00:00:00Z", "until_offset": 3}), "only one of"),
        (json!({"unknown": 3}), "unknown"),
    ] {
        let answer = post(&node, "/replays", &body);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && error.contains(part), "{body}: {error}");
    }
    assert_eq!(http::get(node.http, "/replays/7").status, 404);
    assert_eq!(post(&node, "/replays/7/promote", &json!({})).status, 404);
}
