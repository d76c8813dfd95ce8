//! A write of the API, taken where the primary is.

use super::edge::Edge;
use super::error::ApiError;
use super::extract::JsonBody;
use super::forward::{self, Asked, Place};
use crate::replica::Entered;
use crate::sessions::HistoryError;
use crate::store::StoreError;
use axum::body::HttpBody;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// A request that writes, on the node that it is done on: a handler that takes it runs on the primary alone. On another
/// node the primary is asked, and its answer is the rejection; so is what is wrong with the body, before anybody is asked.
///
/// It takes the request's body, so it comes last of a handler's arguments.
pub(super) struct Write {
    /// This node stays the primary for as long as that is held: to be dropped once the store has the write in hand, and
    /// not kept while that becomes durable.
    pub(super) entered: Entered,
    /// Empty where the client has sent none: whether there may be none is for the handler to say.
    pub(super) body: JsonBody,
}

/// An answer waits no longer than that for what it tells of to be on both disks.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

impl Write {
    /// The body. From here on another node may become the primary, and then nothing is written here: for what has to wait,
    /// for a password's hash, the disks or somebody else's server, before it is done.
    pub(super) fn release(self) -> JsonBody {
        drop(self.entered);
        self.body
    }

    /// What comes of `change`, which writes nothing where this node is not the primary any more.
    pub(super) async fn does<T>(self, change: impl Future<Output = Result<T, HistoryError>>) -> Result<T, ApiError> {
        drop(self.body);
        drop(self.entered); // It may have to wait for a turn to end, and a change of roles does not wait for that.
        kept(change).await.map_err(ApiError::from)
    }
}

/// What comes of `change`, within the time that a client is kept waiting.
pub(super) async fn kept<T, E: From<StoreError>>(change: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(KEPT_WITHIN, change).await.unwrap_or_else(|_| Err(StoreError::OutcomeUnknown.into()))
}

impl FromRequest<Edge> for Write {
    type Rejection = Response;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let asked = Asked::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        let body = if body.is_end_stream() {
            JsonBody::empty(edge) // What is not there has no type either.
        } else {
            JsonBody::from_request(Request::from_parts(parts, body), edge).await
        };
        let body = body.map_err(IntoResponse::into_response)?;
        match forward::place(edge, &asked, &body.0).await {
            Ok(Place::Here(entered)) => Ok(Self { entered, body }),
            Ok(Place::There(answered)) => Err(answered),
            Err(error) => Err(error.into_response()),
        }
    }
}
