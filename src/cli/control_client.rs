//! The operator's end of the control socket.

use super::outcome::{Unfinished, is_of_input, wrong};
use crate::config::Config;
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;

/// The longest answer: a list of thousands of agents.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// `agents test` waits for an upstream's own timers, the longest of which is the first token's.
const CALL_MAX: Duration = Duration::from_mins(5);

/// Whether a node answers at the socket.
pub(super) enum Reached {
    Running(Client),
    Nobody,
}

/// Connects. A socket that nobody listens on is left over from a process that died.
pub(super) async fn reach(socket: &Path) -> Result<Reached> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(Reached::Nobody);
        }
        Err(error) => return Err(error).with_context(|| format!("connect to `{}`", socket.display())),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("speak to the running node")?;
    let connection = AbortOnDropHandle::new(TaskTracker::new().spawn(async move { drop(connection.await) }));
    Ok(Reached::Running(Client { sender, _connection: connection }))
}

/// What to say of `config`'s node where none is reached. `needed`: of what one is wanted for, such as `, which makes the
/// backup`.
pub(super) fn no_node(config: &Config, needed: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "no node runs here{needed}: nobody listens on `{}`. Start it (systemctl start llmchat, or llmchat serve), or name its configuration with --config",
        shown(&config.control_socket())
    )
}

/// A path as whoever reads it can find it.
pub(super) fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// One connection for one call.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Client {
    /// The answer's JSON, or its error's sentence as an error.
    pub(super) async fn call(self, method: &str, path: &str, body: String) -> Result<Value> {
        self.call_within(CALL_MAX, method, path, body).await
    }

    /// Writes the answer into `to` as it comes; how many bytes it has.
    pub(super) async fn download(mut self, path: &str, to: &mut impl Write) -> Result<u64> {
        let request = hyper::Request::builder().uri(path).header("host", "control").body(Full::default());
        let response = self.sender.send_request(request.context("write the request")?);
        let response = tokio::time::timeout(CALL_MAX, response).await?.context("ask the running node")?;
        let is_success = response.status().is_success();
        let mut body = response.into_body();
        if !is_success {
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("read the running node's answer: {error}"))?.to_bytes();
            let body: Value = serde_json::from_slice(&body).context("read the running node's answer")?;
            bail!("{}", body["message"].as_str().unwrap_or("the running node refused"));
        }
        let mut bytes = 0;
        while let Some(frame) = tokio::time::timeout(CALL_MAX, body.frame()).await? {
            let frame = frame.context("the running node broke off; ask again")?;
            if let Some(data) = frame.data_ref() {
                to.write_all(data).context("write what came")?;
                bytes += u64::try_from(data.len()).unwrap_or_default();
            }
        }
        Ok(bytes)
    }

    /// As [`Client::call`], for what takes longer.
    pub(super) async fn call_within(
        mut self,
        within: Duration,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Value> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "control")
            .header("content-type", "application/json")
            .body(Full::from(body))
            .context("write the request")?;
        // From here on the node may have heard it.
        let answered = tokio::time::timeout(within, async {
            let response = self.sender.send_request(request).await.context("ask the running node")?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("read the running node's answer: {error}"))?.to_bytes();
            let body: Value = serde_json::from_slice(&body).context("read the running node's answer")?;
            anyhow::Ok((status, body))
        });
        let (status, body) = answered.await.map_err(anyhow::Error::from).flatten().context(Unfinished::Unheard)?;
        let said = || body["message"].as_str().unwrap_or("the running node refused").to_owned();
        match body["code"].as_str() {
            _ if status.is_success() => Ok(body),
            Some("UNFINISHED") => Err(Unfinished::Begun(said()).into()),
            Some(code) if is_of_input(code) => Err(wrong(said())),
            _ => bail!(said()),
        }
    }
}
