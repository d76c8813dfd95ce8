//! The variables that systemd gives the packaged service, for a command that an operator runs beside it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What the packaged units have in `EnvironmentFile=`.
const FILE: &str = "/etc/llmchat/environment";

/// Where variables were looked for besides this process's own, and what came of it.
#[derive(Debug)]
pub(crate) struct UnitVariables {
    pub(crate) variables: Vec<(String, String)>,
    /// For an operator.
    pub(crate) note: String,
}

/// What the units of the package would be given; `None` where the package is not there.
pub(super) fn of_package() -> Option<UnitVariables> {
    read(Path::new(FILE))
}

fn read(path: &Path) -> Option<UnitVariables> {
    let (variables, came) = match fs::read_to_string(path) {
        Ok(text) => (parse(&text), "are looked up, as systemd gives them to the service".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => (Vec::new(), unread(&error)),
    };
    Some(UnitVariables { variables, note: format!("the variables of `{}` {came}", path.display()) })
}

fn unread(error: &io::Error) -> String {
    let why = if error.kind() == ErrorKind::PermissionDenied { "; run this as root" } else { "" };
    format!("cannot be read and are not known here: {error}{why}")
}

/// As systemd.exec(5) has it: one `NAME=value` a line, `#` or `;` before a comment, quotes around a value taken off.
fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text.replace("\\\n", "");
    let of_line = |line: &str| {
        let line = line.trim_start();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|mark| value.strip_prefix(mark)?.strip_suffix(mark));
        Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
    };
    lines.lines().filter_map(of_line).collect()
}

impl UnitVariables {
    /// The value of `name`, as the service would have it: the last of several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.into(), value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        let text = "# A=1\n; B=2\n\nFASTGPT_KEY=fastgpt-a=b\n  SPACED = one two \nQ=\"in quotes\"\nS='it is'\nLONG=a\\\nb\nnone\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("environment");
        crate::disk::replace(&path, text.as_bytes()).unwrap();
        let unit = read(&path).unwrap();
        let expected =
            [("FASTGPT_KEY", "fastgpt-a=b"), ("SPACED", "one two"), ("Q", "in quotes"), ("S", "it is"), ("LONG", "ab")];
        assert_eq!(unit.variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((unit.get("Q"), unit.get("A")), (Some("in quotes"), None));
        assert!(
            unit.note.ends_with("environment` are looked up, as systemd gives them to the service"),
            "{}",
            unit.note
        );
    }

    #[test]
    fn a_file_that_is_not_there_or_not_to_be_read_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("none")).is_none());
        let unit = read(dir.path()).unwrap();
        assert!(
            unit.variables.is_empty() && unit.note.contains("cannot be read and are not known here"),
            "{}",
            unit.note
        );
        assert!(unread(&ErrorKind::PermissionDenied.into()).ends_with("; run this as root"));
    }
}
