//! OTLP over HTTP: posts what the library has encoded, and believes no answer that is not OTLP.

use crate::base::Chain;
use crate::net::Connector;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A partial success is a number and a sentence; an error's body is not read at all.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const PROTOBUF: &str = "application/x-protobuf";
pub(super) const AGENT: &str = concat!("llmchat/", env!("CARGO_PKG_VERSION"));

/// Why a collector did not take an export over HTTP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("send it")]
    Send(#[source] legacy::Error),
    #[error("the collector answers {status}{}", hint(*.status))]
    Status { status: StatusCode },
    #[error("read the collector's answer")]
    Read(#[source] Box<dyn Error + Send + Sync>),
    #[error("the collector's answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is {status}, but no OTLP (content type `{kind}`): is a collector listening there?")]
    NotOtlp { status: StatusCode, kind: String },
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": see otlp.headers",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ": see the path of otlp.endpoint",
        _ => "",
    }
}

/// Why the last request failed: the library keeps no reason. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed(Arc<Mutex<Option<PostError>>>);

impl Failed {
    pub(super) fn take(&self) -> Option<PostError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) struct Poster {
    client: Client<Connector, Full<Bytes>>,
    headers: HeaderMap,
    failed: Failed,
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").finish_non_exhaustive()
    }
}

impl Poster {
    pub(super) fn new(connector: Connector, headers: HeaderMap, failed: Failed) -> Self {
        // No connection is kept: most servers close one that says nothing for a minute, and a request into a closing
        // connection is lost.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, headers, failed }
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, PostError> {
        let answer = self.client.request(self.ours(request)).await.map_err(PostError::Send)?;
        let (head, body) = answer.into_parts();
        let status = head.status;
        if !status.is_success() {
            return Err(PostError::Status { status });
        }
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { PostError::TooLong } else { PostError::Read(error) }
        })?;
        let body = body.to_bytes();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Nothing at all is how protobuf writes "all taken".
        let is_otlp =
            body.is_empty() || kind.starts_with(PROTOBUF) && ExportMetricsServiceResponse::decode(body.clone()).is_ok();
        if !is_otlp {
            return Err(PostError::NotOtlp { status, kind: kind.to_owned() });
        }
        Ok(Response::new(body))
    }

    /// The library adds headers that it finds in the environment: what is sent is what the configuration says.
    fn ours(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let mut headers = self.headers.clone();
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            if let Some(value) = head.headers.remove(&name) {
                headers.insert(name, value);
            }
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        head.headers = headers;
        Request::from_parts(head, Full::new(body))
    }
}

#[async_trait]
impl HttpClient for Poster {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.post(request).await.map_err(|error| {
            let text = Chain(&error).to_string();
            *self.failed.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            text.into()
        })
    }
}
