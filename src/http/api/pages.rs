//! Which page of a list is wanted.

use crate::http::error::{self, ApiError};
use crate::store::Page;

const PAGE_MAX: u32 = 1_000_000;
const PAGE_SIZE: u32 = 20;
const PAGE_SIZE_MAX: u32 = 100;

/// A whole number of a query: the first of `of` where it is not given, and else from the second to the third.
pub(super) fn number(name: &str, given: Option<&str>, of: (u32, u32, u32)) -> Result<u32, ApiError> {
    let (usual, min, max) = of;
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(usual) };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && (min..=max).contains(number));
    number.ok_or_else(|| error::validation(name, &format!("must be a whole number from {min} to {max}")))
}

/// The page by its number, from 1, and its size; and that number.
pub(super) fn page(page: Option<&str>, page_size: Option<&str>) -> Result<(Page, u32), ApiError> {
    let page = number("page", page, (1, 1, PAGE_MAX))?;
    let limit = number("pageSize", page_size, (PAGE_SIZE, 1, PAGE_SIZE_MAX))?;
    Ok((Page { offset: (page - 1) * limit, limit }, page))
}

/// A text as a cell of CSV. What a spreadsheet would take for a formula begins with an apostrophe there.
pub(super) fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let escaped = if is_formula { format!("'{text}") } else { text.to_owned() };
    if is_formula || escaped.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", escaped.replace('"', "\"\""));
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        for (text, expected) in [
            ("plain text", "plain text"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("\tx", "\"'\tx\""),
            ("\rx", "\"'\rx\""),
            ("1=1", "1=1"),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_page_is_within_its_bounds_or_refused() {
        assert_eq!(page(None, None).unwrap(), (Page { offset: 0, limit: 20 }, 1));
        assert_eq!(page(Some("3"), Some("7")).unwrap(), (Page { offset: 14, limit: 7 }, 3));
        let last = page(Some("1000000"), Some("100")).unwrap();
        assert_eq!(last, (Page { offset: 99_999_900, limit: 100 }, 1_000_000));
        for (number, size) in [("0", "1"), ("-1", "1"), ("+1", "1"), ("1.5", "1"), ("x", "1"), ("1000001", "1")] {
            assert_eq!(page(Some(number), Some(size)).unwrap_err().code, "VALIDATION_ERROR", "{number}");
        }
        for size in ["0", "101", "99999999999999999999", "a"] {
            assert_eq!(page(None, Some(size)).unwrap_err().code, "VALIDATION_ERROR", "{size}");
        }
    }
}
