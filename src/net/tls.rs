use super::certificate::ends_at;
use crate::base::UnixMillis;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// The listener's certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is wrong with [`TlsFiles`]. Never holds a part of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read a certificate from `{path}`")]
    Cert { path: PathBuf, source: pem::Error },
    #[error("`{path}` holds no certificate in PEM form")]
    NoCert { path: PathBuf },
    #[error("read a private key from `{path}`")]
    Key { path: PathBuf, source: pem::Error },
    #[error("`{path}` holds no private key in PEM form (an encrypted one cannot be used)")]
    NoKey { path: PathBuf },
    #[error("use the certificate of `{cert}` with the key of `{key}`")]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
}

/// TLS for a listener, with a certificate that can be replaced while it listens.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    files: TlsFiles,
    newest: Arc<Newest>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads both files: TLS 1.2 and up, HTTP/2 and HTTP/1.1.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let newest = Arc::new(Newest(RwLock::new(read(&files)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Newest>::clone(&newest));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files, newest, config: Arc::new(config) })
    }

    /// For the acceptor. Its handshakes use the newest certificate, also after a [`ServerTls::reload`].
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// When the newest certificate ends.
    pub(crate) fn ends_at(&self) -> Option<UnixMillis> {
        let newest = Arc::clone(&self.newest.0.read().unwrap_or_else(PoisonError::into_inner));
        newest.end_entity_cert().ok().and_then(|certificate| ends_at(certificate))
    }

    /// Reads both files again. Handshakes from now on use what they hold; open connections are not touched.
    ///
    /// # Errors
    ///
    /// The files are bad, or only half replaced: the old certificate stays in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.files)?;
        *self.newest.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }
}

/// What the next handshake shows.
#[derive(Debug)]
struct Newest(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &TlsFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let TlsFiles { cert, key } = files;
    let bad_cert = |source| TlsError::Cert { path: cert.clone(), source };
    let certs = CertificateDer::pem_file_iter(cert).map_err(bad_cert)?;
    let chain = certs.collect::<Result<Vec<_>, _>>().map_err(bad_cert)?;
    if chain.is_empty() {
        return Err(TlsError::NoCert { path: cert.clone() });
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.clone() },
        source => TlsError::Key { path: key.clone(), source },
    })?;
    let pair = CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider());
    pair.map(Arc::new).map_err(|source| TlsError::Pair { cert: cert.clone(), key: key.clone(), source })
}
