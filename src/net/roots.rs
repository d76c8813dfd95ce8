use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is wrong with the operator's file of roots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    #[error("read roots from `{path}`")]
    Read { path: PathBuf, source: pem::Error },
    #[error("`{path}` holds no certificate in PEM form")]
    Empty { path: PathBuf },
    #[error("certificate {number} of `{path}` cannot be a root")]
    Bad { path: PathBuf, number: usize, source: rustls::Error },
}

/// Whom outgoing TLS trusts: the system's roots, the built-in ones, and those of `ca_file`.
///
/// Reads the system's store, a few milliseconds and about 1.5 MB: once a process. A system without a store, or
/// with bad files in it, is no error, since the built-in roots are there; `ca_file` was asked for by name, and is.
pub(crate) fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, RootsError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        tracing::warn!(%error, "a part of the system's roots cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    Ok(Arc::new(roots))
}

/// Whether `ca_file` would be accepted, without reading the system's store.
pub(crate) fn check_roots(ca_file: &Path) -> Result<(), RootsError> {
    add_file(&mut RootCertStore::empty(), ca_file)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), RootsError> {
    let read = |source| RootsError::Read { path: path.to_owned(), source };
    let mut number = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        number += 1;
        roots.add(certificate.map_err(read)?).map_err(|source| RootsError::Bad {
            path: path.to_owned(),
            number,
            source,
        })?;
    }
    if number == 0 {
        return Err(RootsError::Empty { path: path.to_owned() });
    }
    Ok(())
}

/// TLS 1.2 and up for outgoing connections; the caller says which protocols it speaks inside (ALPN).
pub(crate) fn client_tls(roots: Arc<RootCertStore>) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
