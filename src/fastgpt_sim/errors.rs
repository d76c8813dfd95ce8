//! FastGPT's refusals and their envelopes, by generation.

use super::script::{Generation, UnknownWord};
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::str::FromStr;

/// Why a question is refused before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadKey,
    NoAuth,
    AppMissing,
    AppEmpty,
    AccountKey,
    Quota,
    KeyLimit,
    RateLimit {
        seconds: u32,
    },
    IpLimit,
    Zod,
    TooLarge,
    MessagesNotArray,
    MessagesEmpty,
    QuestionEmpty,
    DuplicateItem,
    Infra,
    Model,
    Unknown,
    Generating,
    /// A proxy in between speaks: 502, 503 or 504.
    Gateway(u16),
    /// A proxy in between shows a page and calls it a success.
    Html,
}

/// What FastGPT says about it.
struct Envelope {
    code: u64,
    /// Empty: an error without a name.
    name: &'static str,
    message: String,
    /// What the handler itself asks for; only generation C listens.
    status: Option<StatusCode>,
}

impl Refusal {
    /// Answers as FastGPT would a request that asked for a stream, or did not.
    pub(super) fn respond(self, stream: bool, generation: Generation) -> Response {
        match self {
            Self::Gateway(status) => return gateway(status),
            Self::Html => return html(StatusCode::OK, "<h1>Please log in to the network</h1>"),
            _ => {}
        }
        let envelope = self.envelope();
        // These two are checked before the handler knows that a stream was asked for.
        let is_early = matches!(self, Self::RateLimit { .. } | Self::IpLimit | Self::Zod | Self::TooLarge);
        if stream && !is_early {
            // HTTP 200 and no Content-Type: the headers of a stream are set when its workflow starts.
            let frame = format!("event: error\ndata: {}\n\n", envelope.in_stream());
            return Response::new(Body::from(frame));
        }
        let mut body = envelope.body(generation);
        if self == Self::Zod {
            body["zodError"] = zod();
        }
        json_response(envelope.status(generation), &body)
    }

    fn envelope(self) -> Envelope {
        let known = |code, name, message: &str| Envelope { code, name, message: message.to_owned(), status: None };
        let other = |message: &str| known(500, "", message);
        let with_status = |status, envelope| Envelope { status: Some(status), ..envelope };
        let too_many = |message: &str| with_status(StatusCode::TOO_MANY_REQUESTS, known(429, "", message));
        match self {
            Self::BadKey => known(514, "unAuthApiKey", "Api Key is invalid"),
            Self::NoAuth => known(403, "unAuthorization", "Credential error"),
            Self::AppMissing => known(502_000, "appUnExist", "common:code_error.app_error.not_exist"),
            Self::AppEmpty => other("app is empty"),
            Self::AccountKey => other("Key is error. You need to use the app key rather than the account key."),
            Self::Quota => known(500_004, "aiPointsNotEnough", "AI points not enough"),
            Self::KeyLimit => known(506_002, "openapiExceedLimit", "Api Key usage limit exceeded"),
            Self::RateLimit { seconds } => too_many(&format!(
                "Rate limit exceeded. Maximum 30 requests per 60 seconds for this team. Please try again in {seconds} seconds."
            )),
            Self::IpLimit => too_many("Too many request, request 10 times every 60 seconds"),
            Self::Zod => other(&zod().to_string()),
            Self::TooLarge => with_status(StatusCode::PAYLOAD_TOO_LARGE, other("EntityTooLarge")),
            Self::MessagesNotArray => other("messages is not array"),
            Self::MessagesEmpty => other("messages is empty"),
            Self::QuestionEmpty => other("User question is empty"),
            Self::DuplicateItem => other("responseChatItemId already exists in this chat"),
            Self::Infra => other("connect ECONNREFUSED 127.0.0.1:27017"),
            Self::Model => other(
                "当前分组 default 下对于模型 demo-chat-32k 无可用渠道 (request id: 20260101000000000000000simulated)",
            ),
            Self::Unknown => other("Cannot read properties of undefined (reading 'nodes')"),
            Self::Generating => with_status(
                StatusCode::CONFLICT,
                known(504_001, "chatIsGenerating", "A reply is already being generated in this chat"),
            ),
            Self::Gateway(_) | Self::Html => other("answered by a proxy"),
        }
    }
}

impl Envelope {
    fn in_stream(&self) -> Value {
        if self.name.is_empty() { json!({ "message": self.message }) } else { self.full(self.name) }
    }

    fn full(&self, name: &str) -> Value {
        json!({ "code": self.code, "statusText": name, "message": self.message, "data": null })
    }

    fn body(&self, generation: Generation) -> Value {
        match (self.name, generation) {
            ("", Generation::A) => self.full(""),
            ("", Generation::B | Generation::C) => self.full("error"),
            (name, _) => self.full(name),
        }
    }

    fn status(&self, generation: Generation) -> StatusCode {
        let of_code = u16::try_from(self.code).ok().filter(|code| (400..500).contains(code));
        match generation {
            Generation::A if !self.name.is_empty() => StatusCode::OK,
            Generation::A | Generation::B => StatusCode::INTERNAL_SERVER_ERROR,
            Generation::C => of_code
                .and_then(|code| StatusCode::from_u16(code).ok())
                .or(self.status)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

fn zod() -> Value {
    json!([{ "code": "invalid_type", "path": ["messages", 0, "content"], "message": "Invalid input" }])
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let head = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, head, Bytes::from(body.to_string())).into_response()
}

fn gateway(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    html(status, &format!("<center><h1>{status}</h1></center><hr><center>nginx</center>"))
}

fn html(status: StatusCode, content: &str) -> Response {
    let page =
        format!("<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n{content}\r\n</body>\r\n</html>\r\n");
    (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
}

impl FromStr for Refusal {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Ok(match text {
            "bad-key" => Self::BadKey,
            "no-auth" => Self::NoAuth,
            "app-missing" => Self::AppMissing,
            "app-empty" => Self::AppEmpty,
            "account-key" => Self::AccountKey,
            "quota" => Self::Quota,
            "key-limit" => Self::KeyLimit,
            "rate-limit" => Self::RateLimit { seconds: 17 },
            "ip-limit" => Self::IpLimit,
            "zod" => Self::Zod,
            "too-large" => Self::TooLarge,
            "messages-empty" => Self::MessagesEmpty,
            "infra" => Self::Infra,
            "model" => Self::Model,
            "unknown" => Self::Unknown,
            "generating" => Self::Generating,
            "502" => Self::Gateway(502),
            "503" => Self::Gateway(503),
            "504" => Self::Gateway(504),
            "html" => Self::Html,
            other => match other.strip_prefix("rate-limit:").and_then(|seconds| seconds.parse().ok()) {
                Some(seconds) => Self::RateLimit { seconds },
                None => return Err(UnknownWord::new(other)),
            },
        })
    }
}
