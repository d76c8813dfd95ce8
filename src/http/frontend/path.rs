//! What a path asks for.

use percent_encoding::percent_decode_str;

/// What we answer ourselves, whether or not there is such a route.
const OURS: [&str; 4] = ["/api/", "/health/", "/metrics/", "/uploads/"];

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The page of the application.
    Page,
    /// A file below the directory; where there is none and the name has no extension, the page.
    File { relative: String, has_extension: bool },
}

impl Wanted {
    /// `None` for what is not there for anybody, whatever the directory holds: parts that begin with a dot or are empty,
    /// slashes and control characters in disguise, and what is ours.
    pub(super) fn of(path: &str) -> Option<Self> {
        let relative = path.strip_prefix('/')?;
        if OURS.iter().any(|ours| path.starts_with(ours)) {
            return None;
        }
        let decoded = percent_decode_str(relative).decode_utf8().ok()?;
        // As many slashes as before: none was hidden.
        let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
        let is_plain =
            slashes(&decoded) == slashes(relative) && !decoded.contains(|c: char| c.is_control() || c == '\\');
        let place = decoded.strip_suffix('/').unwrap_or(&decoded);
        if place.is_empty() && is_plain && !decoded.starts_with('/') || decoded == "index.html" {
            return Some(Self::Page);
        }
        if !is_plain || place.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return None;
        }
        if decoded.ends_with('/') {
            return Some(Self::Page);
        }
        let name = place.rsplit('/').next().unwrap_or_default();
        Some(Self::File { has_extension: name.contains('.'), relative: decoded.into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(relative: &str, has_extension: bool) -> Wanted {
        Wanted::File { relative: relative.to_owned(), has_extension }
    }

    #[test]
    fn a_path_asks_for_the_page_or_for_a_file() {
        for page in ["/", "/index.html", "/index%2Ehtml", "/chat/", "/admin/users/"] {
            assert_eq!(Wanted::of(page), Some(Wanted::Page), "{page}");
        }
        assert_eq!(Wanted::of("/api.js"), Some(file("api.js", true)));
        assert_eq!(Wanted::of("/assets/a%20b.png"), Some(file("assets/a b.png", true)));
        assert_eq!(Wanted::of("/%E4%BD%A0.js"), Some(file("你.js", true)));
        assert_eq!(Wanted::of("/admin/index.html"), Some(file("admin/index.html", true)));
        assert_eq!(Wanted::of("/api"), Some(file("api", false)));
        assert_eq!(Wanted::of("/chat/session_1"), Some(file("chat/session_1", false)));
        assert_eq!(Wanted::of("/apiary/x.js"), Some(file("apiary/x.js", true)));
        // Decoded once and not twice.
        assert_eq!(Wanted::of("/%252e%252e/x.js"), Some(file("%2e%2e/x.js", true)));
    }

    #[test]
    fn what_hides_or_climbs_is_not_there() {
        for refused in [
            "",
            "x",
            "//",
            "//etc/passwd",
            "/..",
            "/../x.js",
            "/a/../x.js",
            "/%2e%2e/x.js",
            "/%2E%2E%2Fx.js",
            "/a%2fb.js",
            "/a%2Fb.js",
            "/%2f",
            "/%2Fetc%2Fpasswd",
            "/..%2fx",
            "/a%5cb.js",
            "/a\\b.js",
            "/a%00.js",
            "/%00",
            "/a%0a.js",
            "/.env",
            "/.git/config",
            "/a/.b/c.js",
            "/%2eenv",
            "/.",
            "/a/./b.js",
            "/a//b.js",
            "/%ff.js",
            "/api/",
            "/api/x",
            "/health/x",
            "/uploads/x.png",
            "/metrics/",
        ] {
            assert_eq!(Wanted::of(refused), None, "{refused}");
        }
    }
}
