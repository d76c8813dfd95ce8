//! What stands around the data of an answer.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Envelope E1.
#[derive(ToSchema)]
pub(in crate::http) struct E1<T> {
    code: DoneCode,
    message: String,
    data: T,
    #[schema(format = DateTime)]
    timestamp: String,
    metadata: Metadata,
}

#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
enum DoneCode {
    Ok,
    Created,
    Success,
}

#[derive(ToSchema)]
struct Metadata {
    version: String,
    #[schema(nullable = false)]
    extra: Option<Extra>,
    #[schema(nullable = false)]
    pagination: Option<Pagination>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Extra {
    total: u64,
    /// Of a search: it went as far as it may, and there may be more.
    #[schema(nullable = false)]
    is_cut: Option<bool>,
}

/// Where in a list a page is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Pagination {
    #[schema(minimum = 1)]
    page: u32,
    limit: u32,
    total: u64,
    total_pages: u64,
}

/// Envelope E2, of accounts.
#[derive(ToSchema)]
pub(in crate::http) struct E2<T> {
    #[schema(pattern = "^SUCCESS$")]
    code: String,
    message: String,
    data: T,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Envelope E3, of administrators.
#[derive(ToSchema)]
pub(in crate::http) struct E3<T> {
    #[schema(pattern = "^OK$")]
    code: String,
    message: String,
    data: T,
    #[schema(nullable = false)]
    pagination: Option<Pagination>,
}

/// Where there is nothing to say.
pub(in crate::http) enum Nothing {}

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Null).into()
    }
}

impl ToSchema for Nothing {}
