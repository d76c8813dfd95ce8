//! The rules that keys have in common. Each returns something usable even when the rule is broken, so that the
//! next rule is checked too; the problem that was added keeps it from being used.

use crate::base::Cidr;
use crate::config::layers::{Origin, shown};
use crate::config::problems::{Problem, Problems};
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A day: longer is a slip, and far from where adding to an instant could overflow.
pub(super) const DAY_MS: u64 = 86_400_000;

/// Collects what is wrong while sections are checked.
pub(super) struct Rules<'a>(pub(super) &'a mut Problems);

impl Rules<'_> {
    /// `rule` must hold for the number `got` of `key`.
    pub(super) fn need(&mut self, holds: bool, key: &str, rule: impl Display, got: impl Display) {
        if !holds {
            self.broken(key, rule.to_string(), got.to_string());
        }
    }

    /// `rule` must hold for the text `got` of `key`.
    pub(super) fn need_text(&mut self, holds: bool, key: &str, rule: &str, got: &str) {
        if !holds {
            self.broken(key, rule.to_owned(), shown(key, &toml::Value::String(got.to_owned())));
        }
    }

    fn broken(&mut self, key: &str, rule: String, got: String) {
        self.0.add(Problem { key: key.to_owned(), rule, got: Some(got), origin: Origin::Default });
    }

    fn within(&mut self, key: &str, got: u64, range: &RangeInclusive<u64>) -> bool {
        let (least, most) = (range.start(), range.end());
        let holds = range.contains(&got);
        self.need(holds, key, format_args!("must be from {least} to {most}"), got);
        holds
    }

    pub(super) fn ms(&mut self, key: &str, got: u64, range: RangeInclusive<u64>) -> Duration {
        let holds = self.within(key, got, &range);
        Duration::from_millis(if holds { got } else { *range.start() })
    }

    pub(super) fn number<N: TryFrom<u64>>(&mut self, key: &str, got: u64, range: RangeInclusive<u64>) -> N {
        let holds = self.within(key, got, &range);
        N::try_from(if holds { got } else { *range.start() }).ok().expect("every range fits its setting's type")
    }

    /// A file that can be opened; `None` for "".
    pub(super) fn file(&mut self, key: &str, got: String) -> Option<PathBuf> {
        let path = path(got)?;
        match fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) => self.need(!metadata.is_dir(), key, "must be a file, not a directory", path.display()),
            Err(error) => {
                self.need(false, key, format_args!("must be a file that can be read: {error}"), path.display());
            }
        }
        Some(path)
    }

    /// What the room that will use a file makes of it; a file that cannot even be opened is a problem already.
    pub(super) fn usable(&mut self, key: &str, path: &Path, tried: Result<(), impl Error>) {
        if let Err(error) = tried
            && path.is_file()
        {
            self.unfit(key, "must be usable", path, &error);
        }
    }

    /// `rule` does not hold for what is at `path`, and why.
    pub(super) fn unfit(&mut self, key: &str, rule: &str, path: &Path, why: &dyn Error) {
        self.need(false, key, format_args!("{rule}: {}", chain(why)), path.display());
    }

    pub(super) fn cidrs(&mut self, key: &str, got: &[String]) -> Vec<Cidr> {
        let parse = |text: &String| match Cidr::parse(text) {
            Ok(range) => Some(range),
            Err(rule) => {
                self.need_text(false, key, &rule.to_string(), text);
                None
            }
        };
        got.iter().filter_map(parse).collect()
    }

    /// `http(s)://host[:port]` and, where `path` allows it, a path; `None` for "".
    pub(super) fn url(&mut self, key: &str, got: String, form: UrlForm) -> Option<String> {
        if got.is_empty() {
            return None;
        }
        self.need_text(form.fits(&got), key, form.rule(), &got);
        Some(got)
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// `""` is no path.
pub(super) fn path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// How much of a URL a key wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum UrlForm {
    /// What a browser sends as `Origin`.
    Origin,
    /// Where people go: an origin and perhaps a path.
    Public,
    /// A proxy: `http` only, perhaps with a user and a password.
    Proxy,
    /// A collector, perhaps with a path. What it wants to be told is told in headers, which are not logged.
    Collector,
}

impl UrlForm {
    fn rule(self) -> &'static str {
        match self {
            Self::Origin => "must be an origin such as https://portal.example.org",
            Self::Public => "must be a URL such as https://chat.example.org, without user, query or fragment",
            Self::Proxy => "must be a URL such as http://proxy.example.org:3128",
            Self::Collector => {
                "must be a URL such as http://collector.example.org:4318, without user, query or fragment"
            }
        }
    }

    fn fits(self, text: &str) -> bool {
        let Ok(url) = text.parse::<hyper::Uri>() else { return false };
        let Some(authority) = url.authority() else { return false };
        let scheme = url.scheme_str().unwrap_or_default();
        let user = authority.as_str().contains('@');
        let bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if authority.host().is_empty() || text.contains('#') {
            return false;
        }
        match self {
            Self::Origin => matches!(scheme, "http" | "https") && !user && bare && !text.ends_with('/'),
            Self::Public | Self::Collector => matches!(scheme, "http" | "https") && !user && url.query().is_none(),
            Self::Proxy => scheme == "http" && bare,
        }
    }
}

/// Whether a Unix socket can be bound at `path`: the kernel's `sun_path` holds 108 bytes with its final zero.
pub(super) fn fits_socket(path: &Path) -> bool {
    path.as_os_str().len() <= 107
}
