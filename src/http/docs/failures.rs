//! Answers that are no success, as types: a route's document names those that it gives, and gets their statuses and codes
//! from here.

use axum::http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Ref, Type};
use utoipa::openapi::{Content, HeaderBuilder, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// What every answer that is no success looks like.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is read, and no value made: see ApiError")]
pub(super) struct Error {
    /// Part of the contract: what a program decides by.
    #[schema(pattern = "^[A-Z_]+$")]
    code: String,
    /// One sentence for a person.
    #[schema(min_length = 1)]
    message: String,
    #[schema(inline)]
    data: super::Nothing,
    #[schema(format = DateTime)]
    timestamp: String,
    /// As `X-Request-ID` says.
    request_id: String,
    category: Option<String>,
    /// The fields that are wrong, each with its rule.
    #[schema(required = false, nullable = false)]
    details: Option<Vec<Problem>>,
}

/// A field of a request, and the rule that it breaks.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its shape is read, and no value made")]
pub(super) struct Problem {
    field: String,
    rule: String,
}

/// One or more answers that are no success.
pub(in crate::http) trait Failures {
    /// Adds the status and the code of each.
    fn add(to: &mut Vec<(u16, &'static str)>);
}

/// Types of [`Failures`] by their statuses and codes.
macro_rules! failures {
    ($($(#[doc = $doc:literal])* $name:ident: $($status:literal $code:ident),+;)+) => {$(
        $(#[doc = $doc])*
        pub(in crate::http) enum $name {}

        impl Failures for $name {
            fn add(to: &mut Vec<(u16, &'static str)>) {
                to.extend([$(($status, stringify!($code))),+]);
            }
        }
    )+};
}

failures! {
    /// What every route may answer.
    Broken: 500 INTERNAL_ERROR;
    /// What every route below `/api/` may answer: too many requests of one client, and a node that stops or cannot know.
    Refused: 429 TOO_MANY_REQUESTS, 503 SERVICE_UNAVAILABLE;
    /// What there is to say cannot be read.
    Unavailable: 503 SERVICE_UNAVAILABLE;
    /// Something about the request is not as it has to be.
    Invalid: 400 VALIDATION_ERROR;
    /// What is wrong with a body before it is read.
    BadBody: 408 REQUEST_TIMEOUT, 413 PAYLOAD_TOO_LARGE, 415 UNSUPPORTED_MEDIA_TYPE;
    /// The position of `X-LLMChat-Read: at_least=…` is no part of the history.
    StaleToken: 409 STALE_TOKEN;
    /// A login is wanted.
    NoLogin: 401 AUTHENTICATION_REQUIRED, 401 TOKEN_EXPIRED, 401 TOKEN_REVOKED, 401 TOKEN_INVALID;
    /// Visitors are wanted to log in, with `auth.anonymous_chat = false`.
    NoVisitors: 401 AUTHENTICATION_REQUIRED;
    /// The login's user is removed.
    UserGone: 401 TOKEN_REVOKED;
    /// A write under a cookie that no page of ours has sent.
    CrossSite: 403 CROSS_SITE;
    /// The login is no administrator's.
    NoAdmin: 403 ADMIN_REQUIRED;
    /// No refresh token that is good for anything.
    NoRefresh: 401 TOKEN_EXPIRED, 401 TOKEN_REVOKED, 401 TOKEN_INVALID;
    /// Wrong name or password, or a user who is switched off.
    NoEntry: 401 INVALID_CREDENTIALS, 403 ACCOUNT_INACTIVE;
    /// Too many wrong passwords.
    Locked: 423 ACCOUNT_LOCKED;
    WrongOldPassword: 400 INVALID_OLD_PASSWORD;
    WeakPassword: 400 WEAK_PASSWORD;
    NoRegistration: 403 REGISTRATION_DISABLED;
    UsernameTaken: 409 USERNAME_TAKEN;
    UnknownUser: 404 USER_NOT_FOUND;
    LastAdmin: 409 LAST_ADMIN;
    UnknownAgent: 404 AGENT_NOT_FOUND;
    AgentExists: 409 AGENT_EXISTS;
    NoAgentsFile: 409 NO_AGENTS_FILE;
    AgentInactive: 400 AGENT_INACTIVE;
    /// There is nothing of that name, or it is somebody else's.
    NotFound: 404 NOT_FOUND;
    /// What an address says of its end is not so, or that has come.
    LinkExpired: 403 LINK_EXPIRED;
    /// There is no such question to ask again.
    NoRetryTarget: 404 RETRY_TARGET_NOT_FOUND;
    /// The chat is still answering an earlier question.
    ChatBusy: 409 CHAT_BUSY;
    /// There is a chat of that name already.
    SessionExists: 409 SESSION_EXISTS;
    /// The turn was asked before with another body.
    TurnMismatch: 422 TURN_MISMATCH;
    /// The upstream rests after too many failures.
    CircuitOpen: 503 CIRCUIT_OPEN;
    /// What an upstream may have to say.
    OfUpstream: 400 UPSTREAM_REJECTED, 402 UPSTREAM_QUOTA, 409 CHAT_BUSY, 413 UPSTREAM_REJECTED, 429 UPSTREAM_BUSY,
        502 UPSTREAM_FAILED, 502 AGENT_MISCONFIGURED, 504 UPSTREAM_TIMEOUT;
}

/// Of every route below `/api/`.
pub(in crate::http) type Always = (Broken, Refused);
/// Of a read, which may say by `X-LLMChat-Read` how fresh it has to be.
pub(in crate::http) type Reads = (Always, Invalid);
/// Of a read that is as fresh as was asked for.
pub(in crate::http) type FreshReads = (Reads, StaleToken);
/// Of what is done on the primary.
pub(in crate::http) type Writes = (Always, Invalid, BadBody);
/// Of a read for whoever is logged in.
pub(in crate::http) type UserReads = (Reads, NoLogin);
pub(in crate::http) type UserWrites = (Writes, NoLogin, CrossSite);
/// Of a read for administrators.
pub(in crate::http) type AdminReads = (UserReads, NoAdmin);
pub(in crate::http) type AdminWrites = (UserWrites, NoAdmin);
/// Of a question to an agent.
pub(in crate::http) type Asks = (AsksAgain, TurnMismatch);
/// Of one that was asked before.
pub(in crate::http) type AsksAgain =
    (Writes, NoVisitors, UnknownAgent, AgentInactive, ChatBusy, CircuitOpen, OfUpstream);

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Failures),+> Failures for ($($name,)+) {
            fn add(to: &mut Vec<(u16, &'static str)>) {
                $($name::add(to);)+
            }
        }
    };
}

tuples! { A B }
tuples! { A B C }
tuples! { A B C D }
tuples! { A B C D E }
tuples! { A B C D E F }
tuples! { A B C D E F G }
tuples! { A B C D E F G H }

/// The failures `T` in the document of a route.
pub(in crate::http) struct Fails<T>(PhantomData<T>);

impl<T: Failures> IntoResponses for Fails<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut failures = Vec::new();
        T::add(&mut failures);
        let mut codes: BTreeMap<u16, BTreeSet<&'static str>> = BTreeMap::new();
        for (status, code) in failures {
            codes.entry(status).or_default().insert(code);
        }
        codes.into_iter().map(|(status, codes)| (status.to_string(), RefOr::T(response(status, &codes)))).collect()
    }
}

fn response(status: u16, codes: &BTreeSet<&'static str>) -> Response {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let listed: Vec<&str> = codes.iter().copied().collect();
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(listed.clone()));
    let one_of_them = ObjectBuilder::new().schema_type(Type::Object).property("code", code);
    let schema = AllOfBuilder::new().item(Ref::from_schema_name("Error")).item(one_of_them);
    let mut response = ResponseBuilder::new()
        .description(format!("{reason}: {}", listed.join(", ")))
        .content("application/json", Content::new(Some(schema)));
    if [423, 429, 503].contains(&status) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0.0)).build();
        let header = HeaderBuilder::new().schema(Some(seconds));
        response = response.header("Retry-After", header.description(Some("Seconds, where they are known")).build());
    }
    response.build()
}
