//! Names of contents: what a client has, if it is what it would be given, is not sent again.

use axum::http::{HeaderMap, HeaderValue, header};

/// What is added to the name of a content that was packed on its way out.
const PACKED: &str = "-gzip";

/// The name of one content: strong, as it is made of all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u128);

impl Tag {
    fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::try_from(format!("\"{}\"", self.text())).expect("hex is ASCII")
    }

    /// The name by which the client knows that it has this content already, packed or not.
    pub(super) fn known_to(self, request: &HeaderMap) -> Option<HeaderValue> {
        let text = self.text();
        let given = request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
        let mut given = given.flat_map(|line| line.split(',')).map(str::trim);
        let known = given.find(|tag| {
            let name = tag.strip_prefix("W/").unwrap_or(tag);
            let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or_default();
            *tag == "*" || name.strip_suffix(PACKED).unwrap_or(name) == text
        })?;
        if known == "*" { Some(self.header()) } else { HeaderValue::from_str(known).ok() }
    }

    /// Whether a part of exactly this content may be sent to who has another part of it.
    pub(super) fn allows_range(self, request: &HeaderMap) -> bool {
        request.get(header::IF_RANGE).is_none_or(|tag| *tag == self.header())
    }
}

/// Packed bytes are other bytes, and have another name.
pub(super) fn name_packed(headers: &mut HeaderMap) {
    let is_packed = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let name = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()?.strip_suffix('"'));
    if let Some(name) = name.filter(|_| is_packed) {
        let packed = HeaderValue::try_from(format!("{name}{PACKED}\"")).expect("it was a header's value");
        headers.insert(header::ETAG, packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_client_that_has_the_content_is_recognised_however_it_says_so() {
        let tag = Tag(0xab);
        let name = "000000000000000000000000000000ab";
        for known in [
            format!("\"{name}\""),
            format!("W/\"{name}\""),
            format!("\"{name}-gzip\""),
            format!("\"x\", \"{name}\" , \"y\""),
            "*".to_owned(),
        ] {
            assert!(tag.known_to(&asks(header::IF_NONE_MATCH, &known)).is_some(), "{known}");
        }
        for other in
            [name.to_owned(), format!("\"{name}-br\""), "\"\"".to_owned(), "\"x\"".to_owned(), format!("\"{name}")]
        {
            assert_eq!(tag.known_to(&asks(header::IF_NONE_MATCH, &other)), None, "{other}");
        }
        assert_eq!(tag.known_to(&HeaderMap::new()), None);
    }

    #[test]
    fn a_range_is_of_the_content_that_the_client_has() {
        let tag = Tag(7);
        assert!(tag.allows_range(&HeaderMap::new()));
        assert!(tag.allows_range(&asks(header::IF_RANGE, "\"00000000000000000000000000000007\"")));
        for other in ["\"00000000000000000000000000000008\"", "Thu, 01 Jan 2026 00:00:00 GMT"] {
            assert!(!tag.allows_range(&asks(header::IF_RANGE, other)), "{other}");
        }
    }

    #[test]
    fn packed_bytes_have_a_name_of_their_own() {
        let mut headers = HeaderMap::from_iter([(header::ETAG, Tag(1).header())]);
        name_packed(&mut headers);
        assert_eq!(headers[header::ETAG], Tag(1).header());
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        name_packed(&mut headers);
        assert_eq!(headers[header::ETAG], "\"00000000000000000000000000000001-gzip\"");
    }
}
