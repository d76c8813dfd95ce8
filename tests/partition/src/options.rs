//! The command line.

use std::path::PathBuf;

/// Everything that may be said.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) command: String,
    pub(crate) argument: String,
    pub(crate) from: u64,
    pub(crate) count: u64,
    pub(crate) jobs: usize,
    pub(crate) is_pair: bool,
    pub(crate) keeps: bool,
    pub(crate) runs: u64,
    pub(crate) kind: String,
    pub(crate) bytes: u64,
    pub(crate) seconds: u64,
    pub(crate) rate: u64,
    pub(crate) minutes: u64,
    /// Where figures are added up.
    pub(crate) log: Option<PathBuf>,
    dir: Option<PathBuf>,
}

impl Given {
    pub(crate) fn read() -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let mut given = Self {
            command: words.next().unwrap_or_default(),
            argument: String::new(),
            from: 1,
            count: 200,
            jobs: 2,
            is_pair: false,
            keeps: false,
            runs: 100,
            kind: String::new(),
            bytes: 0,
            seconds: 30,
            rate: 400,
            minutes: 28,
            log: None,
            dir: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: wants a value"));
            let number =
                |text: String| text.replace('_', "").parse::<u64>().map_err(|error| format!("{word} {text}: {error}"));
            match word.as_str() {
                "--from" => given.from = number(value()?)?,
                "--count" => given.count = number(value()?)?,
                "--jobs" => given.jobs = usize::try_from(number(value()?)?).map_err(|error| error.to_string())?,
                "--runs" => given.runs = number(value()?)?,
                "--bytes" => given.bytes = number(value()?)?,
                "--seconds" => given.seconds = number(value()?)?,
                "--minutes" => given.minutes = number(value()?)?,
                "--rate" => given.rate = number(value()?)?,
                "--kind" => given.kind = value()?,
                "--log" => given.log = Some(value()?.into()),
                "--dir" => given.dir = Some(value()?.into()),
                "--pair" => given.is_pair = true,
                "--keep" => given.keeps = true,
                _ if word.starts_with('-') => return Err(format!("{word}: there is no such option")),
                _ => given.argument = word,
            }
        }
        Ok(given)
    }

    /// Where state and records go: beside this program, because the system's temporary directory may be memory, where a
    /// sync of the disk costs nothing.
    pub(crate) fn dir(&self) -> Result<PathBuf, String> {
        let beside = || std::env::current_exe().map(|exe| exe.with_file_name("partition"));
        let dir = self.dir.clone().map_or_else(beside, Ok).map_err(|error| error.to_string())?;
        std::path::absolute(dir).map_err(|error| error.to_string())
    }
}
