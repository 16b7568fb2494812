//! Exports, backups and restores: the tables say what was sent, and a restore is a count of what was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use support::{Interests, Node, Setup, count, eventually, http, interests_in, line, producer};

fn bdr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bdr")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

/// Runs a command that must succeed.
fn run(arguments: &[&str]) {
    let output = bdr(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A table in CSV as rows of members by name; no value in it has a comma.
fn read_csv(path: &Path) -> Vec<BTreeMap<String, String>> {
    let content = fs::read_to_string(path).unwrap();
    let mut lines = content.lines().map(|line| line.split(',').map(str::to_owned));
    let names: Vec<String> = lines.next().unwrap().collect();
    lines.map(|values| names.iter().cloned().zip(values).collect()).collect()
}

fn interests_of(rows: &[BTreeMap<String, String>]) -> Interests {
    let number = |row: &BTreeMap<String, String>, name: &str| row[name].parse::<u32>().unwrap();
    let pair = |row: &BTreeMap<String, String>| (row["user_id"].clone(), row["product"].clone());
    rows.iter().map(|row| (pair(row), (number(row, "clicks"), number(row, "purchases")))).collect()
}

fn export(node: &Node, table: &str, format: &str, dir: &Path) -> std::path::PathBuf {
    let out = dir.join(format!("{table}.{format}"));
    run(&["export", table, "--format", format, "--out", text(&out), "--from", &node.http.to_string()]);
    out
}

#[test]
fn tables_of_a_running_node_say_what_was_sent() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let setup = Setup::new(dir.path());
    let node = setup.start();
    let lines: Vec<String> = (0..600u32).map(|n| line(n % 40, format!("\"p{}\"", n * n % 23), n % 5 == 0)).collect();
    let expected = count(lines.iter().map(String::as_str));
    assert!(node.send_plain(lines.concat().as_bytes()).starts_with("{\"accepted\":600,"));
    let answer = http::get(node.http, "/export/recommendations");
    assert_eq!(answer.status, 404, "no model yet: {answer:?}");
    node.train();

    assert_eq!(interests_of(&read_csv(&export(&node, "interests", "csv", out.path()))), expected);
    let events = export(&node, "events", "ndjson", out.path());
    assert_eq!(count(fs::read_to_string(&events).unwrap().lines()), expected);
    assert_eq!(read_csv(&export(&node, "events", "csv", out.path())).len(), 600);
    let recommended = read_csv(&export(&node, "recommendations", "csv", out.path()));
    let of_seven: Vec<String> =
        recommended.iter().filter(|row| row["user_id"] == "7").map(|row| row["product"].clone()).collect();
    let answer = http::get(node.http, "/bdr?user=7").json();
    assert_eq!(serde_json::json!(of_seven), answer["recommendedProducts"]);
    assert_eq!(recommended.len(), 40 * 5);
    let pairs = read_csv(&export(&node, "also-bought", "csv", out.path()));
    let of_one: Vec<String> =
        pairs.iter().filter(|row| row["product"] == "p1").map(|row| row["other"].clone()).collect();
    let answer = http::get(node.http, "/bdr?product-kappa=p1&limit=100").json();
    assert_eq!(serde_json::json!(of_one), answer["recommendedProducts"]);
    let factors = read_csv(&export(&node, "factors", "csv", out.path()));
    let products = expected.keys().map(|pair| &pair.1).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((factors.len(), factors[0].len()), (40 + products, 12));

    // What train reads is what was exported, from the data directory of a node that rests too.
    let parquet = export(&node, "interests", "parquet", out.path());
    assert!(node.stop().success());
    let resting = out.path().join("resting.parquet");
    run(&["export", "interests", "--out", text(&resting), "--data-dir", text(dir.path())]);
    assert_eq!(fs::read(&parquet).unwrap(), fs::read(&resting).unwrap());
    let trained = bdr(&["train", text(&resting), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&trained.stdout).unwrap();
    assert_eq!(report["interests"], expected.len());
    let again = setup.start();
    assert_eq!(http::get(again.http, "/export/secrets").status, 404);
    assert_eq!(http::get(again.http, "/export/interests?format=xml").status, 400);
}

#[test]
fn a_restore_is_a_count_of_the_acknowledged_events_up_to_its_offset() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Setup::new(dir.path()).set("event_log.segment_bytes=1MiB").set("window.every=200ms").start();
    let lines: Vec<String> = (0..200_000u32).map(|n| line(n % 971, n % 89, n % 7 == 0)).collect();
    let acknowledged = AtomicU64::new(0);
    let backup = out.path().join("backup");
    let at_least = thread::scope(|scope| {
        scope.spawn(|| producer::send_all(node.events, "shop", &lines, &acknowledged));
        eventually("half of it", || (acknowledged.load(Ordering::SeqCst) > 100_000).then_some(()));
        let at_least = acknowledged.load(Ordering::SeqCst);
        run(&["backup", text(&backup), "--from", &node.http.to_string()]);
        at_least
    });
    drop(node);
    let restored = out.path().join("restored");
    run(&["restore", text(&backup), "--data-dir", text(&restored)]);
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap();
    let offset = manifest["offset"].as_u64().unwrap();
    assert!(offset >= at_least, "{offset} of at least {at_least}");
    // The lines are acknowledged in their order.
    assert_eq!(interests_in(&restored), count(lines[..offset as usize].iter().map(String::as_str)));

    // With the log alone: the checkpoint only saves time.
    fs::remove_dir_all(restored.join("sled")).unwrap();
    assert_eq!(interests_in(&restored), count(lines[..offset as usize].iter().map(String::as_str)));
    let node = Setup::new(&restored).start();
    assert!(node.send_plain(line(1, 1, true).as_bytes()).starts_with("{\"accepted\":1,"));
    drop(node);

    let refused = bdr(&["restore", text(&backup), "--data-dir", text(&restored)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("already"), "{refused:?}");
    let refused = bdr(&["backup", text(&backup), "--data-dir", text(&restored)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("something in"), "{refused:?}");
    let refused = bdr(&["restore", text(out.path()), "--data-dir", text(&out.path().join("other"))]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a backup"), "{refused:?}");
    let some_log = fs::read_dir(backup.join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&some_log).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&some_log).unwrap();
    fs::write(&some_log, bytes).unwrap();
    let refused = bdr(&["restore", text(&backup), "--data-dir", text(&out.path().join("other"))]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("damaged"), "{refused:?}");
    assert!(!out.path().join("other").join("log").exists());
}

#[test]
fn a_node_that_rests_is_backed_up_too() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Setup::new(dir.path()).start();
    assert!(node.send_plain((line(1, 1, true) + &line(2, 1, false)).as_bytes()).starts_with("{\"accepted\":2,"));
    node.train();
    assert!(node.stop().success());
    let backup = out.path().join("backup");
    run(&["backup", text(&backup), "--data-dir", text(dir.path())]);
    let restored = out.path().join("restored");
    run(&["restore", text(&backup), "--data-dir", text(&restored)]);
    assert_eq!(interests_in(&restored), interests_in(dir.path()));
    let node = Setup::new(&restored).start();
    assert_eq!(http::get(node.http, "/model").json()["generation"], 1, "the model is served at once");
    let missing = bdr(&["export", "interests", "--out", "x", "--data-dir", text(&out.path().join("nothing"))]);
    assert_eq!(missing.status.code(), Some(1));
}
