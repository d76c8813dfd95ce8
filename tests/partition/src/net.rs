//! Namespaces, wires between them, and what is cut. Nothing here touches the host's own network.

use crate::freezer::Freezer;
use crate::place::{ALL, HUB, Place};
use crate::run::{ip, run, try_run};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::{self, File};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// What all names begin with; the harness's process id follows.
const PREFIX: &str = "llp";
/// Packets from the first to the second are dropped.
pub(crate) type Cut = (Place, Place);

/// Why this machine cannot run anything of it; `None` where it can.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("namespaces need root".to_owned());
    }
    let tools = [["ip", "-V"], ["nft", "-v"], ["tc", "-V"], ["setpriv", "-V"]];
    let missing: Vec<&str> = tools.iter().filter(|tool| run(&tool[..], "").is_err()).map(|tool| tool[0]).collect();
    if missing.is_empty() { None } else { Some(format!("missing: {}", missing.join(", "))) }
}

/// The namespaces of one cluster; they go with it.
pub(crate) struct Net {
    tag: String,
    places: Vec<Place>,
    cuts: Mutex<BTreeSet<Cut>>,
}

impl Net {
    /// `slot` tells the clusters of one harness apart.
    ///
    /// # Errors
    ///
    /// Not root, or the system cannot do it.
    pub(crate) fn make(slot: usize, has_witness: bool) -> Result<Self, String> {
        let tag = format!("{PREFIX}{}x{slot}", std::process::id());
        let places = ALL.into_iter().filter(|place| has_witness || *place != Place::W).collect();
        let net = Self { tag, places, cuts: Mutex::default() };
        net.wire()?;
        net.put()?;
        Ok(net)
    }

    fn wire(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&format!("netns add {hub}"))?;
        without_ipv6(&hub)?;
        ip(&format!("-n {hub} link set lo up"))?;
        ip(&format!("-n {hub} link add br0 type bridge"))?;
        ip(&format!("-n {hub} addr add {HUB}/24 dev br0"))?;
        ip(&format!("-n {hub} link set br0 up"))?;
        for place in &self.places {
            let (name, port) = (self.name(*place), port(*place));
            ip(&format!("netns add {name}"))?;
            without_ipv6(&name)?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {hub} link add {port} type veth peer name eth0 netns {name}"))?;
            ip(&format!("-n {hub} link set {port} master br0 up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", place.ip()))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        Ok(())
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.tag)
    }

    pub(crate) fn name(&self, place: Place) -> String {
        format!("{}-{place}", self.tag)
    }

    /// Starts a thread whose sockets are `place`'s.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        within(self.name(place), work)
    }

    /// As [`Net::within`], beside the bridge.
    pub(crate) fn within_hub<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        within(self.hub(), work)
    }

    /// Cuts these, beside what is cut already.
    pub(crate) fn cut(&self, cuts: &[Cut]) -> Result<(), String> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).extend(cuts.iter().copied());
        self.put()
    }

    pub(crate) fn mend(&self, cuts: &[Cut]) -> Result<(), String> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).retain(|cut| !cuts.contains(cut));
        self.put()
    }

    /// All is well again.
    pub(crate) fn heal(&self) -> Result<(), String> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for place in &self.places {
            self.unshape(*place);
        }
        self.put()
    }

    fn put(&self) -> Result<(), String> {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for place in &self.places {
            // One transaction: there is no moment without the rules.
            let mut rules = "add table inet chaos\ndelete table inet chaos\ntable inet chaos {\n  chain arriving {\n    type filter hook input priority 0;\n".to_owned();
            for (from, _) in cuts.iter().filter(|(_, to)| to == place) {
                let _ = writeln!(rules, "    ip saddr {} drop", from.ip());
            }
            rules.push_str("  }\n}\n");
            run(&["ip", "netns", "exec", &self.name(*place), "nft", "-f", "-"], &rules)?;
        }
        Ok(())
    }

    /// So many kilobits a second reach `place` at most. Not what leaves it: a question that lies in a queue when its sender
    /// loses its role would reach the upstream later, and look as if it had been asked then.
    pub(crate) fn shape(&self, place: Place, kilobits: u64) -> Result<(), String> {
        self.unshape(place);
        let (hub, port, rate) = (self.hub(), port(place), format!("{kilobits}kbit"));
        let words = ["tc", "-n", &hub, "qdisc", "add", "dev", &port, "root", "tbf", "rate", &rate];
        run(&[&words[..], &["burst", "16k", "latency", "400ms"]].concat(), "").map(drop)
    }

    pub(crate) fn unshape(&self, place: Place) {
        try_run(&["tc", "-n", &self.hub(), "qdisc", "del", "dev", &port(place), "root"]);
    }

    /// Counts what `place` exchanges with each other one, from now on.
    pub(crate) fn meter(&self, place: Place) -> Result<(), String> {
        let mut rules = "add table inet tally\ndelete table inet tally\ntable inet tally {\n".to_owned();
        for (chain, hook, field) in [("arriving", "input", "saddr"), ("leaving", "output", "daddr")] {
            let _ = writeln!(rules, "  chain {chain} {{\n    type filter hook {hook} priority 10;");
            for other in &self.places {
                let _ = writeln!(rules, "    ip {field} {} counter", other.ip());
            }
            rules.push_str("  }\n");
        }
        rules.push_str("}\n");
        run(&["ip", "netns", "exec", &self.name(place), "nft", "-f", "-"], &rules).map(drop)
    }

    /// Bytes from and to `other`, of the network layer, since [`Net::meter`].
    pub(crate) fn metered(&self, place: Place, other: Place) -> Result<u64, String> {
        let listed = run(&["ip", "netns", "exec", &self.name(place), "nft", "list", "table", "inet", "tally"], "")?;
        let ours = listed.lines().filter(|line| line.contains(&format!("addr {} counter", other.ip())));
        Ok(ours.filter_map(|line| line.rsplit_once("bytes ")?.1.trim().parse::<u64>().ok()).sum())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove(&self.tag);
    }
}

fn within<T: Send + 'static>(name: String, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        let space = File::open(format!("/run/netns/{name}")).expect("the namespace was made");
        setns(space, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        work()
    })
}

/// The bridge's end of a place's wire.
fn port(place: Place) -> String {
    format!("to-{place}")
}

/// What a host says to its neighbours by itself must not be taken for our traffic.
fn without_ipv6(name: &str) -> Result<(), String> {
    let written = within(name.to_owned(), || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"));
    // Where the kernel has no IPv6 there is nothing to switch off.
    written.join().map(drop).map_err(|_| format!("cannot enter {name}"))
}

/// Ends what runs in the namespaces whose names begin with `tag`, and removes them.
fn remove(tag: &str) {
    for name in names().filter(|name| name.starts_with(&format!("{tag}-"))) {
        for pid in try_run(&["ip", "netns", "pids", &name]).lines().filter_map(|line| line.trim().parse().ok()) {
            // A thread of the harness is in there by itself too.
            if Pid::from_raw(pid) != Pid::this() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        try_run(&["ip", "netns", "del", &name]);
    }
    Freezer::sweep(&format!("{tag}-"));
}

fn names() -> impl Iterator<Item = String> {
    let listed = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Removes what harnesses left that are no more, and with `ours` what this one has made.
pub(crate) fn sweep(ours: bool) {
    let tags: BTreeSet<String> = names()
        .filter_map(|name| Some(name.split_once('-').filter(|(tag, _)| tag.starts_with(PREFIX))?.0.into()))
        .collect();
    for tag in tags {
        let Some(pid) = tag[PREFIX.len()..].split('x').next().and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let is_ours = pid == std::process::id();
        if is_ours && ours || !is_ours && !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            remove(&tag);
        }
    }
}
