//! What a process of a run is besides its part: nginx, and everybody's processor time.

use llmchat_benches::{PATIENCE, Process};
use nix::sys::time::TimeSpec;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Names the part of the bare forwarder.
pub(crate) const PART_FORWARDER: &str = "forwarder";

/// nginx as a reverse proxy in front of `upstream`, in a directory of its own; or why not.
pub(crate) fn nginx(dir: &Path, upstream: SocketAddr) -> Result<Process, String> {
    let prefix = dir.join("nginx");
    std::fs::create_dir_all(&prefix).expect("make nginx's directory");
    // Nobody else takes a port that was free a moment ago, and if so nginx says it.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    std::fs::write(prefix.join("nginx.conf"), nginx_conf(free, upstream)).expect("write nginx.conf");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&prefix).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut child = command.stderr(Stdio::null()).spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let by = Instant::now() + PATIENCE;
    while TcpStream::connect(free).is_err() {
        if let Some(status) = child.try_wait().expect("wait for nginx") {
            let log = std::fs::read_to_string(prefix.join("error.log")).unwrap_or_default();
            return Err(format!("ended with {status}: {}", log.trim()));
        }
        assert!(Instant::now() < by, "nginx does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Process { child, address: free })
}

/// One process, without a master, so that whoever kills it has killed all of it; therefore one
/// worker, and its figure of a core is that of a core.
fn nginx_conf(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  client_body_temp_path client_body;\n  \
         proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
         keepalive_requests 1000000000;\n  upstream up {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {listen};\n    location / {{\n      proxy_pass http://up;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    )
}

/// What a process has run so far, user and system, to the nanosecond and with the threads that have
/// ended: the ticks of `/proc/PID/stat` are as long as a hundred requests.
pub(crate) fn cpu(pid: u32) -> Duration {
    let pid = Pid::from_raw(pid.try_into().expect("a pid"));
    let time: TimeSpec = clock_getcpuclockid(pid).and_then(clock_gettime).expect("read a process's clock");
    Duration::from(time)
}
