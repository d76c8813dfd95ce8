//! One file a resource.

pub(super) mod after;
pub(super) mod agents;
pub(super) mod agents_edit;
pub(super) mod analytics;
pub(super) mod attachments;
pub(super) mod audit;
pub(super) mod auth;
pub(super) mod chat;
pub(super) mod config;
pub(super) mod export;
pub(super) mod files;
pub(super) mod history;
pub(super) mod init;
pub(super) mod logs;
mod pages;
pub(super) mod sessions;
mod stream;
pub(super) mod system;
pub(super) mod uploads;
pub(super) mod user_data;
pub(super) mod users;

use super::error::ApiError;
use crate::clock;
use crate::store::Page;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::IntoParams;

/// Envelope E1.
#[derive(Serialize)]
struct Envelope<T> {
    code: &'static str,
    message: &'static str,
    data: T,
    timestamp: String,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<Extra>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

/// Where in a list a page is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    page: u32,
    limit: u32,
    total: u64,
    total_pages: u64,
}

impl Pagination {
    fn of(number: u32, page: Page, total: u64) -> Self {
        let total_pages = total.div_ceil(u64::from(page.limit.max(1)));
        Self { page: number, limit: page.limit, total, total_pages }
    }
}

/// Of a list.
#[derive(Serialize)]
struct Extra {
    total: usize,
}

fn envelope<T>(code: &'static str, data: T) -> Envelope<T> {
    let metadata = Metadata { version: "1.0.0", extra: None, pagination: None };
    Envelope { code, message: "ok", data, timestamp: clock::timestamp(), metadata }
}

/// Envelope E2, of accounts.
fn plain(data: &Value) -> Value {
    json!({ "code": "SUCCESS", "message": "ok", "data": data, "timestamp": clock::timestamp() })
}

/// Envelope E3, of what is no list.
fn described(data: &Value) -> Value {
    json!({ "code": "OK", "message": "ok", "data": data })
}

/// Envelope E3, of an administrator's lists.
fn listed(data: &[Value], number: u32, page: Page, total: u32) -> Value {
    let pagination = Pagination::of(number, page, u64::from(total));
    json!({ "code": "OK", "message": "ok", "data": data, "pagination": pagination })
}

/// Envelope E4, of numbers.
fn counted(data: &Value) -> Value {
    json!({ "success": true, "data": data, "timestamp": clock::timestamp() })
}

/// Which part of a list: the query's `page`, from 1 on, and `pageSize` or `limit`.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1_000_000, default = 1)]
    page: Option<String>,
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100, default = 20)]
    page_size: Option<String>,
    /// As `pageSize`, which wins.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100)]
    limit: Option<String>,
}

impl PageQuery {
    fn check(&self) -> Result<(Page, u32), ApiError> {
        pages::page(self.page.as_deref(), self.page_size.as_deref(), self.limit.as_deref())
    }
}
