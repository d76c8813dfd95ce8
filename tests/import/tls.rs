//! What is said to the old database can be encrypted.

use crate::server::{self, Postgres};
use crate::support::{Home, Upstream};
use crate::{import, old};
use rcgen::{CertificateParams, KeyPair};

/// Goal: with `prefer` any certificate will do, and with `require` only one that is trusted.
#[test]
fn a_certificate_is_checked_where_tls_is_required() {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let postgres = Postgres::started(|dir| {
        server::write_secret(&dir.join("server.crt"), &certificate);
        server::write_secret(&dir.join("server.key"), &key.serialize_pem());
    });
    let upstream = Upstream::saying("an answer");
    old::make(&postgres);
    old::fill(&postgres, &upstream, 2);
    let home = Home::new(&[]);
    let _node = home.start();
    let url = |sslmode| server::url_of(postgres.port(), None, sslmode);
    let plain = import(&home, &url("disable"), &["--dry-run"]);
    assert!(plain.code == Some(1) && plain.stderr.contains("no encryption"), "{}", plain.stderr);
    let any = import(&home, &url("prefer"), &["--dry-run"]);
    assert_eq!(any.code, Some(0), "{}", any.stderr);
    let unknown = import(&home, &url("require"), &["--dry-run"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("certificate"), "{}", unknown.stderr);
    home.put("ca.pem", certificate);
    let trusted = import(&home, &url("require"), &["--postgres-ca", &home.path("ca.pem").display().to_string()]);
    assert_eq!(trusted.code, Some(0), "{}", trusted.stderr);
}
