//! Routes by what is written over their handlers, in `#[utoipa::path(…)]`: one table of handlers gives the router that serves
//! them and, in a test, the document that describes them.

use super::edge::Edge;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::Path;
use utoipa::openapi::HttpMethod;

/// What a table of handlers can be made into.
pub(super) trait Routes: Sized {
    /// Adds a handler, with what is written over it.
    fn with<O, H, T>(self, operation: O, handler: H) -> Self
    where
        O: Path + Tags<'static> + SchemaReferences,
        H: Handler<T, Edge>,
        T: 'static;
}

/// Takes paths and methods alone: descriptions are some 20 MB while they are put together, and no node needs them.
impl Routes for Router<Edge> {
    fn with<O, H, T>(self, _: O, handler: H) -> Self
    where
        O: Path + Tags<'static> + SchemaReferences,
        H: Handler<T, Edge>,
        T: 'static,
    {
        let methods =
            O::methods().into_iter().map(|method| filter(&method)).reduce(MethodFilter::or).expect("each has a method");
        self.route(&O::path(), MethodRouter::new().on(methods, handler))
    }
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}

/// Adds handlers to [`Routes`], by their files.
macro_rules! with {
    ($routes:expr; $($($room:ident)::+ { $($handler:ident),+ $(,)? })+) => { pastey::paste! {{
        let routes = $routes;
        $(let routes = {
            use $($room)::+ as room;
            $(let routes = super::routes::Routes::with(routes, room::[<__path_ $handler>], room::$handler);)+
            routes
        };)+
        routes
    }}};
}
pub(super) use with;
