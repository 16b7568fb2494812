//! The harness of the tests from outside: the real binary, real sockets, real files.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

pub mod http;
pub mod producer;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bigdatariver::actors::node::{log_options, stream_settings};
use bigdatariver::config::Config;
use bigdatariver::recover;
use crossbeam_channel::Receiver;
use rustix::net;

/// No test waits longer than this for anything: a machine that is slow is not one that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `bdr serve`, killed when it is dropped.
pub struct Node {
    child: Child,
    pub events: SocketAddr,
    pub http: SocketAddr,
    log: Arc<Mutex<String>>,
    _ports: [Reserved; 2],
}

/// How to start a node.
#[derive(Clone)]
pub struct Setup {
    pub data_dir: PathBuf,
    pub set: Vec<String>,
    pub failpoints: String,
    events: Reserved,
    http: Reserved,
}

/// A port that is kept for one node. A socket is bound to it that never listens: the node may listen there, since both
/// say `SO_REUSEADDR`, but no connection and no listener of another test is given it, before, between or after.
#[derive(Clone)]
struct Reserved {
    address: SocketAddr,
    _placeholder: Arc<OwnedFd>,
}

impl Reserved {
    fn new() -> Self {
        let not_inherited = net::SocketFlags::CLOEXEC;
        let placeholder =
            net::socket_with(net::AddressFamily::INET, net::SocketType::STREAM, not_inherited, None).unwrap();
        net::sockopt::set_socket_reuseaddr(&placeholder, true).unwrap();
        net::bind(&placeholder, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = net::getsockname(&placeholder).unwrap().try_into().unwrap();
        Self { address, _placeholder: Arc::new(placeholder) }
    }
}

impl Setup {
    /// A node with this data directory, on ports that stay the same over restarts.
    pub fn new(data_dir: &Path) -> Self {
        let set = vec!["events.schema=minimal".into(), "window.every=1h".into()];
        let (events, http) = (Reserved::new(), Reserved::new());
        Self { data_dir: data_dir.to_owned(), set, failpoints: String::new(), events, http }
    }

    /// With one more setting.
    pub fn set(mut self, setting: &str) -> Self {
        self.set.push(setting.to_owned());
        self
    }

    /// With places that fail; see `fail_point!` in the sources.
    pub fn failpoints(mut self, failpoints: &str) -> Self {
        failpoints.clone_into(&mut self.failpoints);
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bdr"));
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        for setting in &self.set {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("ingest.listen={}", self.events.address)]);
        command.args(["--set", &format!("http.listen={}", self.http.address)]);
        command.env("FAILPOINTS", &self.failpoints).env_remove("RUST_LOG");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts the node and waits until it is ready.
    pub fn start(&self) -> Node {
        let mut child = self.command().spawn().unwrap();
        let (log, ready) = follow(child.stderr.take().unwrap());
        let (events, http) = (self.events.address, self.http.address);
        let node = Node { child, events, http, log, _ports: [self.events.clone(), self.http.clone()] };
        assert!(ready.recv_timeout(PATIENCE).is_ok(), "the node did not become ready:\n{}", node.log());
        node
    }

    /// Starts a node that must refuse to start; gives its exit code and what it said.
    pub fn start_in_vain(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Collects what the node logs, and tells when it says that it is ready (or hangs up when it ends before).
fn follow(stderr: impl Read + Send + 'static) -> (Arc<Mutex<String>>, Receiver<()>) {
    let log = Arc::new(Mutex::new(String::new()));
    let (tell, ready) = crossbeam_channel::bounded(1);
    let kept = Arc::clone(&log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let is_ready = line.contains("ready: events on");
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
            drop(kept);
            if is_ready {
                let _ = tell.try_send(());
            }
        }
    });
    (log, ready)
}

impl Node {
    /// What the node logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The power cut.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the node to stop and waits until it did.
    pub fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Sends bytes as plain lines, half-closes, and gives everything that the node answers.
    pub fn send_plain(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.events).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The value of one metric, by its whole name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = http::get(self.http, "/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}")).parse().unwrap()
    }

    /// Closes the window and waits for its model, again where an internal failure interrupted it.
    pub fn train(&self) -> serde_json::Value {
        eventually("a model", || {
            let answer = http::post(self.http, "/windows?wait=true", "", b"");
            (answer.status == 200).then(|| answer.json())
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the node logged ---\n{}", self.log());
        }
    }
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "still no {what} after {PATIENCE:?}");
        thread::yield_now();
    }
}

/// Clicks and purchases by user and product, by their texts.
pub type Interests = BTreeMap<(String, String), (u32, u32)>;

/// One event in the minimal schema, as a line.
pub fn line(user: impl std::fmt::Display, product: impl std::fmt::Display, is_purchase: bool) -> String {
    format!("{{\"user_id\":{user},\"product\":{product},\"is_purchase\":{}}}\n", u8::from(is_purchase))
}

/// What a single pass over the lines counts.
pub fn count<'a>(lines: impl IntoIterator<Item = &'a str>) -> Interests {
    let mut interests = Interests::new();
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| event[name].as_str().map_or_else(|| event[name].to_string(), str::to_owned);
        let counts = interests.entry((text("user_id"), text("product"))).or_default();
        if event["is_purchase"] == 1 {
            counts.1 += 1;
        } else {
            counts.0 += 1;
        }
    }
    interests
}

/// What a data directory holds, read as a start reads it. No node may run on it.
pub fn interests_in(data_dir: &Path) -> Interests {
    let (store, config) = (recover::open_store(data_dir).unwrap(), Config::default());
    let recovered = recover::recover(data_dir, &store, log_options(&config), stream_settings(&config)).unwrap();
    let counters = &recovered.state.counters;
    let mut interests = Interests::new();
    for (user, name) in counters.users().list().iter().enumerate() {
        for interest in counters.row(user as u32) {
            let product = counters.products().list().get(interest.product).to_string();
            interests.insert((name.to_string(), product), (interest.counts.clicks, interest.counts.purchases));
        }
    }
    interests
}
