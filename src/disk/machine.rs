//! What the machine says of itself.

use rustix::system::{sysinfo, uname};
use std::time::Duration;

/// The machine, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    /// The kernel's release.
    pub(crate) release: String,
    pub(crate) arch: String,
    /// Since it was started.
    pub(crate) uptime: Duration,
    pub(crate) memory_bytes: u64,
    /// What could be used without taking it from anybody; where the kernel does not say, what nobody uses at all.
    pub(crate) free_bytes: u64,
    /// Of the last minute: programs that run or want to.
    pub(crate) load: f64,
    pub(crate) cores: usize,
}

/// `sysinfo` counts load in these.
const LOAD_UNIT: f64 = 65_536.0;

/// Asks the kernel, which answers at once.
pub(crate) fn machine() -> Machine {
    let (info, name) = (sysinfo(), uname());
    let unit = u64::from(info.mem_unit);
    let bytes = |units: u64| units.saturating_mul(unit);
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Machine {
        release: text(name.release()),
        arch: text(name.machine()),
        uptime: Duration::from_secs(u64::try_from(info.uptime).unwrap_or_default()),
        memory_bytes: bytes(info.totalram),
        free_bytes: available().unwrap_or_else(|| bytes(info.freeram)),
        load: f64::from(u32::try_from(info.loads[0]).unwrap_or(u32::MAX)) / LOAD_UNIT,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_is_and_has() {
        let Machine { release, arch, uptime, memory_bytes, free_bytes, load, cores } = machine();
        assert!(release.starts_with(|letter: char| letter.is_ascii_digit()) && !arch.is_empty(), "{release} {arch}");
        assert!(uptime > Duration::ZERO && cores > 0 && load >= 0.0, "{uptime:?} {cores} {load}");
        assert!(0 < free_bytes && free_bytes <= memory_bytes, "{free_bytes} of {memory_bytes}");
        assert!(memory_bytes > 64 << 20, "{memory_bytes}");
    }
}
