//! A write of the API, taken where the primary is.

use super::edge::Edge;
use super::extract::JsonBody;
use super::forward::{self, Asked, Place};
use crate::replica::Entered;
use axum::body::HttpBody;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};

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
