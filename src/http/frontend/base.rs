//! The page lies at many paths and names its files relative to one.

const BASE: &[u8] = br#"<base href="/">"#;

/// The page with our `<base>` behind its `<head …>`; `None` where it has no head. Browsers take the first base there is.
pub(super) fn with_base(page: &[u8]) -> Option<Vec<u8>> {
    let end = head_end(page)?;
    let mut based = Vec::with_capacity(page.len() + BASE.len());
    based.extend_from_slice(&page[..end]);
    based.extend_from_slice(BASE);
    based.extend_from_slice(&page[end..]);
    Some(based)
}

/// Where the first `<head …>` is over that stands in no comment and in no attribute.
fn head_end(page: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += page[at..].iter().position(|byte| *byte == b'<')?;
        let rest = &page[at..];
        if rest.starts_with(b"<!--") {
            at += 4 + rest[4..].windows(3).position(|end| end == b"-->")? + 3;
            continue;
        }
        let end = at + tag_end(rest)?;
        let is_head = rest.get(1..5).is_some_and(|name| name.eq_ignore_ascii_case(b"head"))
            && rest.get(5).is_some_and(|next| next.is_ascii_whitespace() || matches!(next, b'>' | b'/'));
        if is_head {
            return Some(end);
        }
        at = end;
    }
}

/// Behind the `>` of a tag at the beginning of `rest`; one in quotes is part of an attribute.
fn tag_end(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn based(page: &str) -> Option<String> {
        with_base(page.as_bytes()).map(|page| String::from_utf8(page).unwrap())
    }

    #[test]
    fn the_base_stands_behind_the_head_however_that_is_written() {
        for (before, after) in [
            ("<!doctype html><html><head>", "<title>x</title></head><body><head></body>"),
            ("<HTML>\n<HEAD\n  lang=\"zh\">", "</HEAD>"),
            ("<head data-a='>' data-b=\"</head>\">", "<base href=\"./\">"),
            ("<head/>", "<body>"),
            ("<!-- <head> -->\n<Head\tx>", ""),
            ("<html data-x=\"<head>\"><head>", "x"),
            ("<!DOCTYPE html PUBLIC \"-//W3C//DTD>\"><header></header><head>", "你好"),
        ] {
            assert_eq!(based(&format!("{before}{after}")), Some(format!("{before}<base href=\"/\">{after}")));
        }
    }

    #[test]
    fn a_page_without_a_head_is_none_of_ours() {
        for page in ["", "<", "<head", "<head x='>", "<!-- <head>", "<header>", "<html><body>", "head>", "<headx>"] {
            assert_eq!(based(page), None, "{page}");
        }
    }

    proptest! {
        #[test]
        fn any_page_keeps_its_bytes_and_gets_one_base(
            before in "[a-z<>!'\" -]{0,40}", attributes in "( [a-z]{1,5}=\"[a-z<>]{0,9}\"){0,3}", after in "[a-z<>!'\" -]{0,40}",
        ) {
            let page = format!("{before}<head{attributes}>{after}");
            if let Some(based) = based(&page) {
                prop_assert_eq!(based.replacen("<base href=\"/\">", "", 1), page);
                prop_assert_eq!(based.matches("<base href=\"/\">").count(), 1);
            }
        }
    }
}
