use crate::config::layers::Origin;
use std::fmt;

/// One thing that is wrong: which key (or variable, or file), the rule it breaks, and what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) rule: String,
    /// As the operator may see it again: secrets are already out. `None` where the value says nothing.
    pub(crate) got: Option<String>,
    /// Where the value came from; a default needs no word.
    pub(crate) origin: Origin,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.rule)?;
        if let Some(got) = &self.got {
            write!(f, ", got {got}")?;
        }
        match &self.origin {
            Origin::Default => Ok(()),
            origin => write!(f, " ({origin})"),
        }
    }
}

/// Everything that is wrong, in the order of the layers and then of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// sysexits' `EX_USAGE`: the operator's input was wrong, and starting again will not help.
    pub(crate) const EXIT_CODE: u8 = 64;

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether something is wrong with `key`.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.0.iter().any(|problem| problem.key == key)
    }

    /// What is wrong in a file that the configuration names: where in it, and the rule that is broken.
    pub(crate) fn add_of_file(&mut self, key: String, rule: String) {
        self.add(Problem { key, rule, got: None, origin: Origin::Default });
    }

    /// Names what only the layers know: which of them gave the value of `key`.
    pub(super) fn trace(&mut self, origin_of: impl Fn(&str) -> Origin) {
        for problem in self.0.iter_mut().filter(|problem| problem.origin == Origin::Default) {
            problem.origin = origin_of(&problem.key);
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Something an operator should know though it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note(pub(super) String);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
