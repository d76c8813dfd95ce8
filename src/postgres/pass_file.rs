//! The password file that `psql` reads: lines of `host:port:database:user:password`, of which the first that fits counts.

use super::error::AddressError;
use crate::base::Secret;

const FIELDS: usize = 5;

/// The password for the given host, port, database and user.
pub(super) fn password(file: &Secret, wanted: [&str; 4]) -> Result<Option<Secret>, AddressError> {
    for line in file.expose().lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut fields = fields(line);
        if fields.len() != FIELDS {
            return Err(AddressError::PassFile);
        }
        let password = fields.pop().unwrap_or_default();
        if fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted) {
            return Ok(Some(Secret::new(password)));
        }
    }
    Ok(None)
}

/// A colon or a backslash in a field has a backslash before it.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let last = fields.last_mut().expect("there is one from the beginning");
        match letter {
            '\\' => last.extend(letters.next()),
            ':' => fields.push(String::new()),
            letter => last.push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = Secret::new("# a note\n\nh:5432:d:other:no\nh:*:d:u:a\\:b\\\\c\n*:*:*:*:any\n");
        let of = |wanted| password(&file, wanted).unwrap().map(|secret| secret.expose().to_owned());
        assert_eq!(of(["h", "5432", "d", "u"]).as_deref(), Some("a:b\\c"));
        assert_eq!(of(["x", "1", "d", "u"]).as_deref(), Some("any"));
        assert!(password(&Secret::new("h:1:d:u"), ["h", "1", "d", "u"]).is_err());
        assert_eq!(password(&Secret::new("h:1:d:u:p"), ["h", "2", "d", "u"]).unwrap(), None);
    }
}
