//! Files that anybody may read, in a directory that an operator fills. A link in it may lead elsewhere in it, and not out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const PIECE_BYTES: usize = 64 << 10;

/// What a file is, as far as that can be told without reading it. Two that are equal have the same content: nobody can
/// set the time of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), bytes: file.len(), changed }
    }
}

/// A regular file, and where it really is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// The regular file `relative` of `dir`; `None` where there is none that may be read by everybody: it leads out of the
/// directory, or to a name that begins with a dot.
pub(crate) fn find_within(dir: &Path, relative: &str) -> Option<Found> {
    let dir = dir.canonicalize().ok()?;
    let path = dir.join(relative).canonicalize().ok()?;
    let is_open = |part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"."));
    if !path.strip_prefix(&dir).ok()?.components().all(is_open) {
        return None;
    }
    let file = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    Some(Found { path, stamp: Stamp::of(&file) })
}

/// Reads a file of at most `bytes_max`.
pub(crate) fn read_found(found: &Found, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(&found.path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max);
    if is_whole { Ok(bytes) } else { Err(io::Error::other(format!("it is longer than {bytes_max} bytes"))) }
}

/// The XXH3 digest of a file's content. One that has changed since it was found, or while it is read, has none.
pub(crate) fn digest_found(found: &Found) -> io::Result<u128> {
    let (mut file, mut digest) = (File::open(&found.path)?, Xxh3::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 if Stamp::of(&file.metadata()?) == found.stamp => return Ok(digest.digest128()),
            0 => return Err(io::Error::other("it has changed")),
            length => digest.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_leads_out_of_the_directory_is_not_there() {
        let (home, secret) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let put = |name: &str| crate::disk::replace(&home.path().join(name), name.as_bytes()).unwrap();
        for name in ["a.js", ".env"] {
            put(name);
        }
        std::fs::create_dir(home.path().join("sub")).unwrap();
        for (link, to) in [("in.js", "a.js"), ("hidden.js", ".env"), ("up", ".."), ("sub/back.js", "../a.js")] {
            symlink(to, home.path().join(link)).unwrap();
        }
        symlink(secret.path(), home.path().join("out.js")).unwrap();
        symlink("loop", home.path().join("loop")).unwrap();
        let find = |name| find_within(home.path(), name);
        let file = find("a.js").expect("it is there");
        assert_eq!((find("in.js").as_ref(), find("sub/back.js").as_ref()), (Some(&file), Some(&file)));
        let sibling = secret.path().file_name().unwrap().to_str().unwrap().to_owned();
        for name in
            ["out.js", ".env", "hidden.js", "sub", "", ".", "loop", "a.js/b", "none", "../", "a\0.js", "/etc/passwd"]
        {
            assert_eq!(find(name), None, "{name:?}");
        }
        assert_eq!(find_within(home.path(), &format!("up/{sibling}")), None);
        assert_eq!(find_within(&home.path().join("none"), "a.js"), None);
    }

    #[test]
    fn a_stamp_tells_one_content_from_the_next_of_the_same_length() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.js");
        let put = |text: &str| {
            crate::disk::replace(&path, text.as_bytes()).unwrap();
            find_within(home.path(), "a.js").unwrap()
        };
        let (first, second) = (put("one"), put("two"));
        assert_ne!(first.stamp, second.stamp);
        assert!(digest_found(&first).is_err(), "it is another one by now");
        assert_eq!(read_found(&second, 3).unwrap(), b"two");
        assert!(read_found(&second, 2).is_err());
        let long = put(&"x".repeat(3 * PIECE_BYTES + 1));
        let content = read_found(&long, 1 << 20).unwrap();
        assert_eq!(digest_found(&long).unwrap(), xxhash_rust::xxh3::xxh3_128(&content));
    }
}
