//! One file a resource.

pub(super) mod agents;
pub(super) mod agents_edit;
pub(super) mod audit;
pub(super) mod auth;
pub(super) mod chat;
pub(super) mod init;
mod stream;
pub(super) mod users;

use super::error::{self, ApiError};
use crate::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Of any list.
const PAGE_SIZE_MAX: u32 = 200;
const PAGE_SIZE: u32 = 20;

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
}

/// Of a list.
#[derive(Serialize)]
struct Extra {
    total: usize,
}

fn envelope<T>(code: &'static str, data: T) -> Envelope<T> {
    let metadata = Metadata { version: "1.0.0", extra: None };
    Envelope { code, message: "ok", data, timestamp: clock::timestamp(), metadata }
}

/// Envelope E2, of accounts.
fn plain(data: &Value) -> Value {
    json!({ "code": "SUCCESS", "message": "ok", "data": data, "timestamp": clock::timestamp() })
}

/// Envelope E3, of an administrator's lists.
fn listed(data: &[Value], page: Page, total: u32) -> Value {
    let pages = total.div_ceil(page.limit);
    let pagination = json!({ "page": page.page, "limit": page.limit, "total": total, "totalPages": pages });
    json!({ "code": "OK", "message": "ok", "data": data, "pagination": pagination })
}

/// Which part of a list: the query's `page`, from 1 on, and `pageSize` or `limit`.
#[derive(Clone, Copy)]
struct Page {
    page: u32,
    limit: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageQuery {
    page: Option<String>,
    page_size: Option<String>,
    limit: Option<String>,
}

impl PageQuery {
    fn check(&self) -> Result<Page, ApiError> {
        let number = |name, text: Option<&String>, usual, max| match text {
            None => Ok(usual),
            Some(text) => match text.parse::<u32>() {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => Err(error::validation(name, &format!("must be a whole number from 1 to {max}"))),
            },
        };
        let limit = self.page_size.as_ref().map(|text| ("pageSize", text));
        let (name, limit) = limit.or(self.limit.as_ref().map(|text| ("limit", text))).unzip();
        Ok(Page {
            page: number("page", self.page.as_ref(), 1, 1_000_000)?,
            limit: number(name.unwrap_or("limit"), limit, PAGE_SIZE, PAGE_SIZE_MAX)?,
        })
    }
}

impl Page {
    /// The first row, and how many.
    fn rows(self) -> (u32, u32) {
        ((self.page - 1) * self.limit, self.limit)
    }
}
