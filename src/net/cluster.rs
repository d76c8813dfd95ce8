//! How nodes of a cluster prove to each other that they belong to it: its own authority signs them, and nobody else's word
//! counts.

use super::authority::{Authority, CertifyError, MEMBER_DAYS, name_of};
use super::certificate::ends_at;
use super::pinned::provider;
use super::timeless::Timeless;
use crate::base::UnixMillis;
use rcgen::KeyPair;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Records and their acknowledgements.
const STREAM_ALPN: &[u8] = b"llmchat-peer/1";
/// Votes, configurations and leases.
const REGISTER_ALPN: &[u8] = b"llmchat-register/1";
/// Everything that is asked and answered.
pub(super) const HTTP_ALPN: &[u8] = b"h2";

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerProtocol {
    Stream,
    Register,
    Http,
}

impl PeerProtocol {
    const ALL: [Self; 3] = [Self::Stream, Self::Register, Self::Http];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Stream => STREAM_ALPN,
            Self::Register => REGISTER_ALPN,
            Self::Http => HTTP_ALPN,
        }
    }

    /// What client and server have agreed on.
    pub(crate) fn of(alpn: Option<&[u8]>) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| alpn == Some(protocol.alpn()))
    }
}

/// Why a node cannot prove who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterTlsError {
    #[error(transparent)]
    Certify(#[from] CertifyError),
    #[error("make a node's key")]
    Key(#[from] rcgen::Error),
    #[error("use the cluster's certificates")]
    Tls(#[from] rustls::Error),
    #[error("use the cluster's certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A node's own key. Never shown.
#[derive(Clone)]
pub(crate) struct NodeKey {
    /// PKCS #8.
    secret: Vec<u8>,
    public: Vec<u8>,
}

impl NodeKey {
    pub(crate) fn make() -> Result<Self, ClusterTlsError> {
        let pair = KeyPair::generate()?;
        Ok(Self { secret: pair.serialize_der(), public: pair.public_key_raw().to_vec() })
    }

    /// From what [`NodeKey::secret`] gave.
    pub(crate) fn from_secret(secret: Vec<u8>) -> Result<Self, ClusterTlsError> {
        let public = KeyPair::try_from(secret.as_slice())?.public_key_raw().to_vec();
        Ok(Self { secret, public })
    }

    /// PKCS #8, for the node's own disk.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// What [`Authority::certify`] signs: a point of P-256.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }
}

/// What one member proves itself by. Cheap enough to clone.
#[derive(Clone)]
pub(crate) struct Credentials {
    member: u8,
    held: Held,
}

#[derive(Clone)]
enum Held {
    /// The authority: the node signs itself, a new key each time, in memory only.
    Authority(Authority),
    /// A key of its own, and what the authority has said of it.
    Certified(Certified),
}

/// What a member holds that cannot sign.
#[derive(Clone)]
pub(crate) struct Certified {
    /// Certificate of the authority, DER.
    pub(crate) authority: Vec<u8>,
    /// The member's own, of `key`, DER.
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: NodeKey,
}

/// What a node shows to others on its peers' port.
pub(crate) struct Shown {
    pub(crate) config: Arc<ServerConfig>,
    /// Of the certificate.
    pub(crate) ends_at: Option<UnixMillis>,
}

/// A chain, and the key of the first of it.
type Signed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Credentials {
    /// Of a node that holds the cluster's authority.
    pub(crate) fn of_authority(authority: Authority, member: u8) -> Self {
        Self { member, held: Held::Authority(authority) }
    }

    /// Of a node that an authority has certified as `member`.
    pub(crate) fn of_certified(certified: Certified, member: u8) -> Self {
        Self { member, held: Held::Certified(certified) }
    }

    /// The authority; `None` where the node cannot sign for anybody.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        match &self.held {
            Held::Authority(authority) => Some(authority),
            Held::Certified(_) => None,
        }
    }

    /// When they are worth nothing any more, unless they are renewed: of the authority, or of what it has signed.
    pub(crate) fn ends_at(&self) -> Option<UnixMillis> {
        match &self.held {
            Held::Authority(authority) => authority.ends_at(),
            Held::Certified(certified) => ends_at(&certified.certificate),
        }
    }

    /// For the member's peers' port: TLS 1.3, every protocol. A client without a certificate comes through, and may do no
    /// more than join: see [`belongs`].
    pub(crate) fn server(&self) -> Result<Shown, ClusterTlsError> {
        self.server_for(MEMBER_DAYS)
    }

    /// As [`Credentials::server`], with `days` in a certificate that is made for it.
    pub(super) fn server_for(&self, days: Range<i64>) -> Result<Shown, ClusterTlsError> {
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, provider()).allow_unauthenticated().build()?;
        let (chain, key) = self.sign(days)?;
        let ends_at = chain.first().and_then(|certificate| ends_at(certificate));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Timeless(clients)))
            .with_single_cert(chain, key)?;
        config.alpn_protocols = PeerProtocol::ALL.map(|protocol| protocol.alpn().to_vec()).to_vec();
        Ok(Shown { config: Arc::new(config), ends_at })
    }

    /// For the member, to reach another one.
    pub(crate) fn client(&self, protocol: PeerProtocol) -> Result<ClientConfig, ClusterTlsError> {
        self.client_for(protocol, MEMBER_DAYS)
    }

    /// As [`Credentials::client`], with `days` in a certificate that is made for it.
    pub(super) fn client_for(&self, protocol: PeerProtocol, days: Range<i64>) -> Result<ClientConfig, ClusterTlsError> {
        let (chain, key) = self.sign(days)?;
        let servers: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(self.roots()?, provider()).build()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Timeless(servers)))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(config)
    }

    /// What the member shows, with the authority's certificate behind it, and its key.
    fn sign(&self, days: Range<i64>) -> Result<Signed, ClusterTlsError> {
        let (authority, certificate, key) = match &self.held {
            Held::Authority(authority) => {
                let key = NodeKey::make()?;
                (authority.certificate().to_vec(), authority.certify_for(key.public(), self.member, days)?, key)
            }
            Held::Certified(Certified { authority, certificate, key }) => {
                (authority.clone(), certificate.clone(), key.clone())
            }
        };
        Ok((vec![certificate.into(), authority.into()], PrivatePkcs8KeyDer::from(key.secret).into()))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, ClusterTlsError> {
        let authority = match &self.held {
            Held::Authority(authority) => authority.certificate(),
            Held::Certified(certified) => &certified.authority,
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.to_vec().into())?;
        Ok(Arc::new(roots))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("member", &self.member).finish_non_exhaustive()
    }
}

/// Whether a client that has shown `certificates`, which the handshake has checked, is `member`.
pub(crate) fn belongs(certificates: Option<&[CertificateDer<'_>]>, member: u8) -> bool {
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let Ok(name) = ServerName::try_from(name_of(member)) else { return false };
    rustls::client::verify_server_name(&leaf, &name).is_ok()
}
