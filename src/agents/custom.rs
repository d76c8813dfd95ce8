//! What an operator may set for the provider `custom`: a path and headers. Each is sent as it stands, so each is checked.

use super::check::Faults;
use crate::protocol::agent::{Features, Provider};

const PATH_BYTES_MAX: usize = 1024;
const HEADERS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 4096;

/// Headers that are the connection's or ours: who sets them breaks the request, or smuggles another one.
const RESERVED: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Checks both; a problem never shows a value.
pub(super) fn check(provider: Provider, features: &Features, has_key: bool, faults: &mut Faults<'_>) {
    let Features { custom_path, custom_headers, .. } = features;
    if provider != Provider::Custom {
        faults.need(custom_path.is_none(), "features.customPath", "is for the provider custom only");
        faults.need(custom_headers.is_empty(), "features.customHeaders", "is for the provider custom only");
        return;
    }
    let sane = custom_path.as_deref().is_none_or(is_path);
    faults.need(
        sane,
        "features.customPath",
        "must be a path of visible ASCII that begins with `/`, without `..` and `#`",
    );
    let few = custom_headers.0.len() <= HEADERS_MAX;
    faults.need(few, "features.customHeaders", "must be at most 16 headers");
    for (name, value) in &custom_headers.0 {
        if !is_name(name) {
            faults.need(false, "features.customHeaders", "must have names of at most 64 letters, digits, `-` and `_`");
            continue;
        }
        let field = format!("features.customHeaders.{name}");
        let ours = RESERVED.contains(&name.as_str()) || name.starts_with("proxy-");
        faults.need(!ours, &field, "is the connection's own and cannot be set");
        let clashes = name == "authorization" && has_key;
        faults.need(!clashes, &field, "is made of apiKey; give one of the two");
        faults.need(is_value(value.expose()), &field, "must be given, as visible ASCII of at most 4096 bytes");
    }
}

fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\')
        && !path.split(['/', '?']).any(|part| part == "..")
}

fn is_name(name: &str) -> bool {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(sane)
}

fn is_value(value: &str) -> bool {
    (1..=VALUE_BYTES_MAX).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && value.trim() == value
}

/// The base with the path behind it; itself where it has that already, so that a checked agent stays as it is.
pub(super) fn url(endpoint: &str, path: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    if trimmed.ends_with(path.trim_end_matches('/')) { endpoint.to_owned() } else { format!("{trimmed}{path}") }
}
