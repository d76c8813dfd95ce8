//! From a transport's error to a failure whose message an operator understands.

use crate::base::Secret;
use crate::net::ResolveError;
use crate::protocol::agent::Agent;
use crate::protocol::answer::{Class, Failure};
use std::error::Error;
use std::io;
use std::time::Duration;

/// The question could not be sent, or no head came back.
pub(super) fn sending(error: &reqwest::Error, connect_limit: Duration) -> Failure {
    if error.is_connect() {
        return failure(Class::Unreachable, connecting(error, connect_limit));
    }
    failure(Class::Reset, format!("the connection broke before an answer came: {}", deepest(error)))
}

/// The answer broke off.
pub(super) fn reading(error: &reqwest::Error) -> Failure {
    failure(Class::Truncated, format!("the answer broke off: {}", deepest(error)))
}

/// The server says nothing.
pub(super) fn timed_out(what: &str, limit: Duration) -> Failure {
    failure(Class::TimedOut, format!("waited {limit:?} for {what}"))
}

/// The server is alive, and its answer does not come.
pub(super) fn too_slow(what: &str, limit: Duration) -> Failure {
    failure(Class::TooSlow, format!("waited {limit:?} for {what}"))
}

pub(super) fn too_long(bytes_max: usize) -> Failure {
    failure(Class::TooLong, format!("the answer is longer than {bytes_max} bytes"))
}

pub(super) fn ended() -> Failure {
    failure(Class::Truncated, "the answer has ended before".to_owned())
}

/// No key is shorter; a shorter text would be found everywhere.
const KEY_BYTES_MIN: usize = 4;

/// An upstream may repeat our key, or a header of the operator's, and their form is the operator's: nobody above this room
/// may see them.
pub(super) fn without_keys(failure: Failure, agent: &Agent) -> Failure {
    let Failure { class, mut message } = failure;
    let headers = agent.profile.features.custom_headers.0.values();
    for key in std::iter::once(&agent.api_key).chain(headers).map(Secret::expose) {
        // Of `Bearer <key>` the key alone is one too.
        for part in [key, key.rsplit(' ').next().unwrap_or_default()] {
            if part.len() >= KEY_BYTES_MIN {
                message = message.replace(part, "…");
            }
        }
    }
    Failure::new(class, message)
}

fn failure(class: Class, message: String) -> Failure {
    Failure::new(class, message)
}

fn connecting(error: &reqwest::Error, limit: Duration) -> String {
    if error.is_timeout() {
        return format!("no connection within {limit:?}: wrong address, or a firewall drops packets");
    }
    for cause in causes(error) {
        if let Some(cause) = cause.downcast_ref::<ResolveError>() {
            return format!("DNS: {cause}");
        }
        if let Some(cause) = cause.downcast_ref::<rustls::Error>() {
            return format!("TLS: {}", tls(cause));
        }
        let Some(cause) = cause.downcast_ref::<io::Error>() else { continue };
        let cause = innermost(cause);
        if let Some(inner) = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return format!("TLS: {}", tls(inner));
        }
        match cause.kind() {
            io::ErrorKind::ConnectionRefused => {
                return "connection refused: nothing listens at that address".to_owned();
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                return "no route to that address".to_owned();
            }
            io::ErrorKind::UnexpectedEof => {
                return "TLS: the server hung up during the handshake; does that port speak TLS?".to_owned();
            }
            _ => {}
        }
    }
    deepest(error)
}

/// The HTTP client wraps an I/O error into another, which is no cause of it.
fn innermost(error: &io::Error) -> &io::Error {
    let mut error = error;
    while let Some(deeper) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = deeper;
    }
    error
}

fn tls(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the certificate is signed by nobody we trust; set upstream.ca_file to its CA".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "the certificate is for another name than the endpoint's".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::Other(other)) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the certificate is a CA's own, which no server may show; make it with basicConstraints=CA:FALSE".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on that port; is it http?".to_owned(),
        other => other.to_string(),
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&cause| cause.source())
}

/// The last cause says what happened; those above it repeat the URL.
fn deepest(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
