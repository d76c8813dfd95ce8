//! Who belongs to a cluster: its own authority signs its nodes, and nobody else's word counts.

use super::certificate::ends_at;
use super::timeless::{Timeless, at_any_time};
use crate::base::UnixMillis;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::sync::Arc;

/// A node's certificate is good for so long, from a day ago on: clocks differ. It is made at each start and lives in
/// memory only. Nodes of this version do not look at the days (see [`super::timeless`]).
const NODE_DAYS: Range<i64> = -1..90;
const AUTHORITY_DAYS: Range<i64> = -1..20 * 365;
/// What is spoken on the peers' port.
const ALPN: [&[u8]; 2] = [STREAM_ALPN, HTTP_ALPN];
/// Records and their acknowledgements.
const STREAM_ALPN: &[u8] = b"llmchat-peer/1";
/// Everything that is asked and answered.
const HTTP_ALPN: &[u8] = b"h2";

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerProtocol {
    Stream,
    Http,
}

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterTlsError {
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("use the cluster's certificates")]
    Tls(#[from] rustls::Error),
    #[error("use the cluster's certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a node shows to others on its peers' port.
pub(crate) struct Shown {
    pub(crate) config: Arc<ServerConfig>,
    /// Of the certificate.
    pub(crate) ends_at: Option<UnixMillis>,
}

/// A chain, and the key of the first of it.
type Signed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The authority of a cluster, which both data nodes hold. Never shown.
#[derive(Clone)]
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn make() -> Result<Self, ClusterTlsError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params().self_signed(&key)?;
        Ok(Self { certificate: certificate.der().clone(), key: key.serialize_der() })
    }

    /// From what [`Authority::certificate`] and [`Authority::key`] gave.
    pub(crate) fn from_der(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        Self { certificate: certificate.into(), key }
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// PKCS #8.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What a joining node knows it by: SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// When its certificate ends.
    pub(crate) fn ends_at(&self) -> Option<UnixMillis> {
        ends_at(&self.certificate)
    }

    /// A certificate for `member`, good for `days` from today on, with the authority's own behind it, and its key.
    fn sign(&self, member: u8, days: Range<i64>) -> Result<Signed, ClusterTlsError> {
        let authority_key = KeyPair::try_from(self.key.as_slice())?;
        let issuer = Issuer::new(authority_params(), authority_key);
        let key = KeyPair::generate()?;
        let mut params = params(&name_of(member), days);
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName(name_of(member).try_into().expect("letters, digits and dots"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, ClusterTlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    /// For the peers' port of `member`: TLS 1.3, both protocols. A client without a certificate comes through, and may do
    /// no more than join: see [`belongs`].
    pub(crate) fn server(&self, member: u8) -> Result<Shown, ClusterTlsError> {
        self.server_for(member, NODE_DAYS)
    }

    pub(super) fn server_for(&self, member: u8, days: Range<i64>) -> Result<Shown, ClusterTlsError> {
        let provider = provider();
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let (chain, key) = self.sign(member, days)?;
        let ends_at = chain.first().and_then(|certificate| ends_at(certificate));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Timeless(clients)))
            .with_single_cert(chain, key)?;
        config.alpn_protocols = ALPN.iter().map(|alpn| alpn.to_vec()).collect();
        Ok(Shown { config: Arc::new(config), ends_at })
    }

    /// For `member`, to reach another one.
    pub(crate) fn client(&self, member: u8, protocol: PeerProtocol) -> Result<ClientConfig, ClusterTlsError> {
        self.client_for(member, protocol, NODE_DAYS)
    }

    pub(super) fn client_for(
        &self,
        member: u8,
        protocol: PeerProtocol,
        days: Range<i64>,
    ) -> Result<ClientConfig, ClusterTlsError> {
        let (chain, key) = self.sign(member, days)?;
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
}

impl PeerProtocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Stream => STREAM_ALPN,
            Self::Http => HTTP_ALPN,
        }
    }

    /// What client and server have agreed on.
    pub(crate) fn of(alpn: Option<&[u8]>) -> Option<Self> {
        [Self::Stream, Self::Http].into_iter().find(|protocol| alpn == Some(protocol.alpn()))
    }
}

/// The name that `member`'s certificate is for, wherever it is reached.
pub(crate) fn name_of(member: u8) -> String {
    format!("m{member}.llmchat.internal")
}

/// Whether a client that has shown `certificates`, which the handshake has checked, is `member`.
pub(crate) fn belongs(certificates: Option<&[CertificateDer<'_>]>, member: u8) -> bool {
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let Ok(name) = ServerName::try_from(name_of(member)) else { return false };
    rustls::client::verify_server_name(&leaf, &name).is_ok()
}

/// For a node that knows no more of a cluster than its authority's fingerprint.
pub(crate) fn pinned(fingerprint: [u8; 32]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_ALPN.to_vec()];
    config
}

/// Trusts the one authority of a fingerprint, which the server has to show.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_it = |shown: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(shown)) == self.fingerprint;
        let Some(authority) = intermediates.iter().find(is_it) else {
            return Err(rustls::Error::General("it is not the cluster that the token is of".to_owned()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        at_any_time(now, |now| verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn authority_params() -> CertificateParams {
    let mut params = params("llmchat cluster", AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, days: Range<i64>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let day = |from_now: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * from_now);
        let date = jiff::tz::TimeZone::UTC.to_datetime(then).date();
        let part = |part: i8| u8::try_from(part).expect("months and days count from 1");
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (day(days.start), day(days.end));
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// What the server makes of a client, and the client of the server.
    async fn meet(server: Arc<ServerConfig>, client: ClientConfig, name: &str) -> (Option<bool>, bool) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let accept = async {
            let mut accepted = TlsAcceptor::from(server).accept(far).await.ok()?;
            let is_member = belongs(accepted.get_ref().1.peer_certificates(), 2);
            accepted.write_all(b"!").await.ok()?;
            accepted.flush().await.ok()?;
            Some(is_member)
        };
        let connect = async {
            let Ok(mut connected) = TlsConnector::from(Arc::new(client)).connect(name, near).await else {
                return false;
            };
            connected.read_u8().await.is_ok()
        };
        tokio::join!(accept, connect)
    }

    #[tokio::test]
    async fn nodes_of_a_cluster_know_each_other_and_nobody_else() {
        let (ours, other) = (Authority::make().unwrap(), Authority::make().unwrap());
        let ours = Authority::from_der(ours.certificate().to_vec(), ours.key().to_vec());
        let server = || ours.server(1).unwrap().config;
        let client = |of: &Authority, member| of.client(member, PeerProtocol::Stream).unwrap();
        assert_eq!(meet(server(), client(&ours, 2), &name_of(1)).await, (Some(true), true));
        assert_eq!(meet(server(), client(&ours, 3), &name_of(1)).await, (Some(false), true), "another member");
        assert!(!meet(server(), client(&ours, 2), &name_of(2)).await.1, "not whom it wanted");
        assert_eq!(meet(server(), client(&other, 2), &name_of(1)).await, (None, false), "another cluster");
        assert_eq!(meet(server(), pinned(ours.fingerprint()), &name_of(1)).await, (Some(false), true), "to join");
        assert!(!meet(server(), pinned(other.fingerprint()), &name_of(1)).await.1, "not its cluster");
    }
}
