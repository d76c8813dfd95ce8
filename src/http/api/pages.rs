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

/// The page by its number, from 1, and its size, which has two names, the first of which wins; and that number. What does
/// not win is checked all the same.
pub(super) fn page(page: Option<&str>, page_size: Option<&str>, limit: Option<&str>) -> Result<(Page, u32), ApiError> {
    let page = number("page", page, (1, 1, PAGE_MAX))?;
    let limit = number("limit", limit, (PAGE_SIZE, 1, PAGE_SIZE_MAX))?;
    let limit = number("pageSize", page_size, (limit, 1, PAGE_SIZE_MAX))?;
    Ok((Page { offset: (page - 1) * limit, limit }, page))
}

/// Writes a text as a cell of CSV: in quotes, and what a spreadsheet would take for a formula behind an apostrophe, which
/// makes it text.
pub(super) fn cell(text: &str, out: &mut String) {
    out.push('"');
    if is_formula(text) {
        out.push('\'');
    }
    for letter in text.chars() {
        if letter == '"' {
            out.push('"');
        }
        out.push(letter);
    }
    out.push('"');
}

/// Some take the wide forms of the signs for the signs, and look past white space and what is not seen.
fn is_formula(text: &str) -> bool {
    let shown =
        text.trim_start_matches(|letter: char| letter.is_whitespace() || letter.is_control() || is_unseen(letter));
    text.starts_with(['\t', '\r', '\n'])
        || shown.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

/// Takes no room: marks of direction, joiners, and the mark of byte order.
fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_whatever_stands_in_it() {
        let written = |text: &str| {
            let mut out = String::new();
            cell(text, &mut out);
            out
        };
        assert_eq!(written("杭州, \"天气\"\r\n好"), "\"杭州, \"\"天气\"\"\r\n好\"");
        assert_eq!(written(""), "\"\"");
        for formula in [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "＝1",
            "＋1",
            "－1",
            "＠1",
            "\u{3000}=1",
            "\u{feff}=1",
            "\u{200b}+1",
            "\u{202e} @x",
            "\0=1",
        ] {
            let inner = formula.replace('"', "\"\"");
            assert_eq!(written(formula), format!("\"'{inner}\""), "{formula:?}");
        }
        for text in ["1+1", "a=1", "'=1", "天=1", "\"=1"] {
            assert!(!written(text).starts_with("\"'") || text.starts_with('\''), "{text}");
        }
    }

    #[test]
    fn a_page_is_within_its_bounds_or_refused() {
        assert_eq!(page(None, None, None).unwrap(), (Page { offset: 0, limit: 20 }, 1));
        assert_eq!(page(Some("3"), Some("7"), None).unwrap(), (Page { offset: 14, limit: 7 }, 3));
        let last = page(Some("1000000"), None, Some("100")).unwrap();
        assert_eq!(page(None, Some("7"), Some("5")).unwrap().0.limit, 7);
        assert_eq!(last, (Page { offset: 99_999_900, limit: 100 }, 1_000_000));
        for (number, size) in [("0", "1"), ("-1", "1"), ("+1", "1"), ("1.5", "1"), ("x", "1"), ("1000001", "1")] {
            assert_eq!(page(Some(number), Some(size), None).unwrap_err().code, "VALIDATION_ERROR", "{number}");
        }
        for size in ["0", "101", "99999999999999999999", "a"] {
            for refused in
                [page(None, Some(size), None), page(None, None, Some(size)), page(None, Some("7"), Some(size))]
            {
                assert_eq!(refused.unwrap_err().code, "VALIDATION_ERROR", "{size}");
            }
        }
    }
}
