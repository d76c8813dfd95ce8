//! Nodes know each other by the cluster's authority, whatever their clocks say.
//!
//! A certificate between nodes is renewed every day: a data node makes its own, in memory, for it holds the authority's key;
//! a witness asks one for it. A node is shut out by its number, which is no member's any more. So the days in a certificate protect nothing,
//! and could only cut a pair whose clocks are wrong: where one has come back with a clock of years ago, its own certificate
//! is of those years, and no later time that it checks at ("no time before the build") lets the *other* node take it. Hence
//! the days are not looked at, on either side. Everything else is: signatures up to the authority, name, purpose, key.
//!
//! rustls hands its verifier the time and says in its refusal which bound was broken; the certificate is looked at again,
//! all of it, at that bound. That a clock is wrong is logged, for a node goes on and an operator has to know.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt::Debug;
use std::sync::Arc;

/// Verifies as what it holds does, at whatever time the certificate is of.
#[derive(Debug)]
pub(super) struct Timeless<V: ?Sized>(pub(super) Arc<V>);

pub(super) fn at_any_time<T>(now: UnixTime, verify: impl Fn(UnixTime) -> Result<T, Error>) -> Result<T, Error> {
    match verify(now) {
        Err(Error::InvalidCertificate(
            bound @ (CertificateError::ExpiredContext { not_after: then, .. }
            | CertificateError::NotValidYetContext { not_before: then, .. }),
        )) => {
            let verified = verify(then)?;
            tracing::warn!("the clock of this node or of the other one is wrong: {bound}");
            Ok(verified)
        }
        verified => verified,
    }
}

impl ServerCertVerifier for Timeless<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        at_any_time(now, |now| self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Timeless<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        at_any_time(now, |now| self.0.verify_client_cert(end_entity, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
