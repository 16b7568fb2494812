//! Asking a running node over HTTP, and finding out whether to ask one at all.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::config::Config;
use crate::recover::{self, LOG_DIR, LockError};

/// A node, by its address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: String,
    agent: Agent,
}

impl Client {
    /// The node that answers at `host:port`.
    pub(super) fn new(address: impl Into<String>) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { address: address.into(), agent }
    }

    /// The answer to `GET path`, whose body is still to be read.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Response<Body>> {
        self.answered(self.agent.get(format!("http://{}{path}", self.address)).call())
    }

    /// The answer to `POST path`, as JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let request = request.content_type("application/json");
        json(self.answered(request.send(body.to_string()))?)
    }

    /// The answer to `GET path`, as JSON.
    pub(super) fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        json(self.get(path)?)
    }

    /// The answer to `DELETE path`, as JSON.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        json(self.answered(self.agent.delete(format!("http://{}{path}", self.address)).call())?)
    }

    /// Tells what the node says is wrong, where it says so.
    fn answered(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let answer = answer.with_context(|| {
            format!("no bdr answers at {}; start one with `bdr serve`, or say where it is with --from", self.address)
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let error = json(answer).ok().and_then(|body| body["error"].as_str().map(str::to_owned));
        bail!("{} says: {}", self.address, error.unwrap_or_else(|| status.to_string()))
    }
}

fn json(answer: Response<Body>) -> anyhow::Result<Value> {
    let mut text = String::new();
    answer.into_body().into_reader().read_to_string(&mut text)?;
    serde_json::from_str(&text).with_context(|| format!("the answer is not JSON: {text:.80}"))
}

/// Where the answer to a command is.
pub(super) enum Origin {
    /// A running node.
    Node(Client),
    /// A data directory that no node uses, locked as long as this lives.
    Directory(File),
}

/// The node at `from` if it is given; else the data directory of the settings, or the node that uses it.
pub(super) fn origin(from: Option<&str>, config: &Config) -> anyhow::Result<Origin> {
    if let Some(address) = from {
        return Ok(Origin::Node(Client::new(address)));
    }
    let (dir, address) = (&config.data.dir, config.http.listen.to_string());
    if dir.join(LOG_DIR).exists() {
        match recover::lock(dir) {
            Ok(lock) => return Ok(Origin::Directory(lock)),
            Err(LockError::InUse(_)) => {}
            Err(error) => bail!(error),
        }
    }
    let client = Client::new(address);
    client.get("/healthcheck").with_context(|| {
        format!(
            "{} is no data directory that can be read; give another with --data-dir, or a node with --from",
            dir.display()
        )
    })?;
    Ok(Origin::Node(client))
}
