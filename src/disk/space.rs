use super::DiskError;
use std::path::Path;

/// Bytes that we may still write where `path` lies.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| DiskError::new("ask for the free space of", path, error))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    #[cfg(test)]
    let free = super::faults::free_bytes(path, free);
    Ok(free)
}

/// The process's memory in RAM, in bytes; `None` where the system does not say.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?))
}
