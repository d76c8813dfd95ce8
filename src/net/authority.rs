//! The authority of a cluster: whoever holds it says who is a member. Data nodes do; a witness does not.

use super::certificate::ends_at;
use crate::base::UnixMillis;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// A member's certificate is good for so long, from a day ago on: clocks differ. Nodes of this version do not look at the
/// days (see [`super::timeless`]).
pub(super) const MEMBER_DAYS: Range<i64> = -1..90;
const AUTHORITY_DAYS: Range<i64> = -1..20 * 365;
/// A point of P-256, as X9.62 writes it whole.
const POINT_BYTES: usize = 65;
const POINT_IS_WHOLE: u8 = 4;

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertifyError {
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("what is to be certified is no public key of a node")]
    Key,
}

/// Never shown.
#[derive(Clone)]
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn make() -> Result<Self, CertifyError> {
        let key = KeyPair::generate()?;
        let certificate = params().self_signed(&key)?;
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

    /// Signs that whoever has the key of `public` is `member`; in DER. That it has the key it proves in every handshake.
    ///
    /// # Errors
    ///
    /// `public` is not what [`super::NodeKey::public`] gives.
    pub(crate) fn certify(&self, public: &[u8], member: u8) -> Result<Vec<u8>, CertifyError> {
        self.certify_for(public, member, MEMBER_DAYS)
    }

    /// As [`Authority::certify`], for `days` from today on.
    pub(super) fn certify_for(&self, public: &[u8], member: u8, days: Range<i64>) -> Result<Vec<u8>, CertifyError> {
        if public.len() != POINT_BYTES || public.first() != Some(&POINT_IS_WHOLE) {
            return Err(CertifyError::Key);
        }
        let key = KeyPair::try_from(self.key.as_slice())?;
        let issuer = Issuer::new(params(), key);
        let mut params = named(&name_of(member), days);
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName(name_of(member).try_into().expect("letters, digits and dots"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&Point(public), &issuer)?.der().to_vec())
    }
}

/// A key that another node has.
struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The name that `member`'s certificate is for, wherever it is reached.
pub(super) fn name_of(member: u8) -> String {
    format!("m{member}.llmchat.internal")
}

/// Of the authority itself. It may sign members, and nobody who signs others.
fn params() -> CertificateParams {
    let mut params = named("llmchat cluster", AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str, days: Range<i64>) -> CertificateParams {
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
