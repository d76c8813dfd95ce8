use crate::clock;
use crate::net::resolver::System;
use crate::net::tls::TlsError;
use crate::net::{
    Authority, Certified, CertifyError, ClusterTlsError, Credentials, NodeKey, PeerProtocol, ResolveError, Resolver,
    RootsError, ServerTls, TlsFiles, belongs, client_tls, pinned, roots,
};
use hickory_resolver::Hosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use rustls::pki_types::{ServerName, UnixTime};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

fn hosts(text: &str) -> Hosts {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(text.as_bytes()).unwrap();
    hosts
}

type Servers = (ResolverConfig, ResolverOpts);

fn server(address: SocketAddr) -> Servers {
    let mut udp = ConnectionConfig::udp();
    udp.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![udp]);
    (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
}

/// A name server that knows 192.0.2.7 for names with "fast" in them and nothing else. Counts what it is asked.
async fn name_server() -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::Relaxed);
            let query = &buffer[..length];
            let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
            let is_a = query[name_end..name_end + 2] == [0, 1];
            let known = query.windows(4).any(|word| word.eq_ignore_ascii_case(b"fast"));
            let answers = u8::from(known && is_a);
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
            answer.extend(&query[12..name_end + 4]);
            if answers == 1 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    (address, asked, task)
}

fn resolver(text: &'static str, servers: impl Fn() -> Result<Servers, NetError> + Send + Sync + 'static) -> Resolver {
    Resolver::with(clock::now, move || System { hosts: hosts(text), servers: servers() })
}

#[tokio::test]
async fn addresses_and_localhost_are_answered_without_reading_anything() {
    let resolver = Resolver::with(clock::now, || panic!("nothing to read"));
    for (host, first) in [
        ("192.0.2.1", "192.0.2.1:0"),
        ("::1", "[::1]:0"),
        ("[2001:db8::1]", "[2001:db8::1]:0"),
        ("localhost", "127.0.0.1:0"),
        ("LocalHost.", "127.0.0.1:0"),
        ("api.localhost", "127.0.0.1:0"),
    ] {
        assert_eq!(resolver.resolve(host).await.unwrap()[0], first.parse().unwrap(), "{host}");
    }
    let malformed = resolver.resolve("a..b").await.unwrap_err();
    assert!(matches!(malformed, ResolveError::Malformed { .. }), "{malformed}");
}

#[tokio::test]
async fn the_hosts_file_is_enough_and_servers_that_cannot_be_read_are_an_error_of_the_lookup() {
    let resolver = resolver("10.0.0.5 fastgpt fast.lan\nfd00::5 fastgpt\n", || Err(NetError::Message("empty")));
    let both = ["10.0.0.5:0".parse().unwrap(), "[fd00::5]:0".parse().unwrap()];
    assert_eq!(resolver.resolve("FastGPT").await.unwrap(), both);
    assert_eq!(resolver.resolve("fast.lan").await.unwrap(), both[..1]);
    let error = resolver.resolve("other").await.unwrap_err();
    assert_eq!(error.to_string(), "read /etc/resolv.conf to look up `other`");
}

#[tokio::test]
async fn servers_are_asked_once_and_their_no_is_told_from_their_silence() {
    let (address, asked, _task) = name_server().await;
    let resolver = resolver("", move || Ok(server(address)));
    let found = [SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 0))];
    // Underscores are in the names of containers.
    for host in ["fastgpt.example", "fast_gpt", "fastgpt.example."] {
        assert_eq!(resolver.resolve(host).await.unwrap(), found, "{host}");
    }
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(resolver.clone().resolve("fastgpt.example").await.unwrap(), found);
    assert_eq!(asked.load(Ordering::Relaxed), before);
    let unknown = resolver.resolve("nobody.example").await.unwrap_err();
    assert!(matches!(unknown, ResolveError::Unknown { .. }), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let resolver = resolver("", move || Ok(server(address)));
    let began = tokio::time::Instant::now();
    let silent = resolver.resolve("fastgpt.example").await.unwrap_err();
    assert!(matches!(silent, ResolveError::Silent { .. }), "{silent:?}");
    assert!(began.elapsed() <= super::resolver::LOOKUP_MAX);
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_mends_counts_after_a_while_and_at_once_after_an_error() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let (address, _, _task) = name_server().await;
    let resolver = Resolver::with(clock::now, move || match counter.fetch_add(1, Ordering::Relaxed) {
        0 => System { hosts: Hosts::default(), servers: Err(NetError::Message("empty")) },
        1 => System { hosts: hosts("10.0.0.5 mended"), servers: Ok(server(address)) },
        _ => System { hosts: hosts("10.0.0.6 mended"), servers: Ok(server(address)) },
    });
    assert!(resolver.resolve("mended").await.is_err());
    assert_eq!(resolver.resolve("mended").await.unwrap(), ["10.0.0.5:0".parse().unwrap()]);
    assert_eq!(resolver.resolve("mended").await.unwrap(), ["10.0.0.5:0".parse().unwrap()]);
    assert_eq!(reads.load(Ordering::Relaxed), 2);
    tokio::time::advance(super::resolver::REREAD_EVERY).await;
    assert_eq!(resolver.resolve("mended").await.unwrap(), ["10.0.0.6:0".parse().unwrap()]);
}

/// Writes a fresh self-signed certificate for `name` over `cert.pem` and `key.pem` in `dir`.
fn certify(dir: &Path, name: &str) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    put(&files.cert, &made.cert.pem());
    put(&files.key, &made.signing_key.serialize_pem());
    files
}

fn put(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

/// Shakes hands with `tls` as a client that trusts `ca_file` and expects `name`; says the agreed protocol.
async fn shake_hands(tls: &ServerTls, ca_file: &Path, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
    let serve = async move {
        if let Ok(mut server) = acceptor.accept(server).await {
            let _ = server.write_all(b"!").await;
        }
    };
    let mut config = client_tls(roots(Some(ca_file)).map_err(std::io::Error::other)?);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let ask = async move {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let mut client = connector.connect(name, client).await?;
        client.read_u8().await?;
        Ok(client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_and_a_bad_one_keeps_the_old() {
    let dir = TempDir::new().unwrap();
    let files = certify(dir.path(), "old.example");
    let tls = ServerTls::load(files.clone()).unwrap();
    let old_ca = dir.path().join("old.pem");
    std::fs::copy(&files.cert, &old_ca).unwrap();
    assert_eq!(shake_hands(&tls, &old_ca, "old.example").await.unwrap().unwrap(), b"h2");
    assert!(shake_hands(&tls, &old_ca, "new.example").await.is_err());

    let clone = tls.clone();
    certify(dir.path(), "new.example");
    clone.reload().unwrap();
    assert!(shake_hands(&tls, &files.cert, "new.example").await.is_ok());
    assert!(shake_hands(&tls, &old_ca, "old.example").await.is_err());

    let good_ca = dir.path().join("good.pem");
    std::fs::copy(&files.cert, &good_ca).unwrap();
    put(&files.cert, "-----BEGIN CERTIFICATE-----\nhalf");
    assert!(matches!(tls.reload(), Err(TlsError::Cert { .. })));
    assert!(shake_hands(&tls, &good_ca, "new.example").await.is_ok());
}

#[test]
fn each_bad_file_has_its_name() {
    let dir = TempDir::new().unwrap();
    let good = certify(dir.path(), "a.example");
    let other_dir = TempDir::new().unwrap();
    let other = certify(other_dir.path(), "b.example");
    let with = |cert: &Path, key: &Path| {
        let files = TlsFiles { cert: cert.to_owned(), key: key.to_owned() };
        ServerTls::load(files).map(drop).unwrap_err()
    };
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(with(&nowhere, &good.key), TlsError::Cert { .. }));
    assert!(matches!(with(&good.key, &good.key), TlsError::NoCert { .. }));
    assert!(matches!(with(&good.cert, &nowhere), TlsError::Key { .. }));
    assert!(matches!(with(&good.cert, &good.cert), TlsError::NoKey { .. }));
    assert!(matches!(with(&good.cert, &other.key), TlsError::Pair { .. }));
}

#[test]
fn roots_are_the_built_in_ones_at_least_and_a_bad_file_is_named() {
    let dir = TempDir::new().unwrap();
    let built_in = roots(None).unwrap().len();
    assert!(built_in >= webpki_roots::TLS_SERVER_ROOTS.len());
    let ca = certify(dir.path(), "ca.example").cert;
    assert_eq!(roots(Some(&ca)).unwrap().len(), built_in + 1);
    let file = dir.path().join("ca.pem");
    assert!(matches!(roots(Some(&file)), Err(RootsError::Read { .. })));
    put(&file, "no PEM at all\n");
    assert!(matches!(roots(Some(&file)), Err(RootsError::Empty { .. })));
    put(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(matches!(roots(Some(&file)), Err(RootsError::Bad { number: 1, .. })));
}

/// The clock of a machine whose battery is dead.
#[derive(Debug)]
struct In1980;

impl rustls::time_provider::TimeProvider for In1980 {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_hours(24 * 3653)))
    }
}

/// Two nodes on loopback: whether the client, as member 2, took the server for member 1; and the server the client for 2.
async fn meet(server: Arc<rustls::ServerConfig>, client: rustls::ClientConfig) -> (bool, Option<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let accept = async {
        let mut accepted = tokio_rustls::TlsAcceptor::from(server).accept(far).await.ok()?;
        let is_member = belongs(accepted.get_ref().1.peer_certificates(), 2);
        accepted.write_all(b"!").await.ok()?;
        Some(is_member)
    };
    let connect = async {
        let name = ServerName::try_from("m1.llmchat.internal").unwrap();
        match tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near).await {
            Ok(mut connected) => connected.read_u8().await.is_ok(),
            Err(_) => false,
        }
    };
    let (is_member, is_server) = tokio::join!(accept, connect);
    (is_server, is_member)
}

/// Goal: a clock that is wrong on either node does not cut a pair, and opens it to nobody. Method: certificates of years ago
/// and of years to come, and a node that checks in 1980, on either side of a real handshake; each also with another
/// authority's, with another member's, and with none.
#[tokio::test]
async fn a_wrong_clock_cuts_no_member_off_and_lets_no_stranger_in() {
    let (ours, other) = (Authority::make().unwrap(), Authority::make().unwrap());
    let (usual, past, future) = (-1..90, -4000..-3900, 400..490);
    let of = |authority: &Authority, member| Credentials::of_authority(authority.clone(), member);
    let client = |by: &Authority, days: &Range<i64>| of(by, 2).client_for(PeerProtocol::Stream, days.clone()).unwrap();
    let server = |by: &Authority, member, days: &Range<i64>| of(by, member).server_for(days.clone()).unwrap().config;
    let met = (true, Some(true));
    for days in [&usual, &past, &future] {
        assert_eq!(meet(server(&ours, 1, days), client(&ours, &usual)).await, met, "server's of {days:?}");
        assert_eq!(meet(server(&ours, 1, &usual), client(&ours, days)).await, met, "client's of {days:?}");
        assert_eq!(
            meet(server(&ours, 1, days), pinned(ours.fingerprint())).await,
            (true, Some(false)),
            "joins {days:?}"
        );
        assert!(!meet(server(&ours, 1, days), pinned(other.fingerprint())).await.0, "joins {days:?}");
        assert!(!meet(server(&other, 1, days), client(&ours, &usual)).await.0, "a strange server of {days:?}");
        assert!(!meet(server(&ours, 3, days), client(&ours, &usual)).await.0, "another member's of {days:?}");
        assert_eq!(meet(server(&ours, 1, &usual), client(&other, days)).await, (false, None), "a stranger of {days:?}");

        let mut early = client(&ours, &usual);
        early.time_provider = Arc::new(In1980);
        assert_eq!(meet(server(&ours, 1, days), early).await, met, "checked in 1980");
        let mut early = client(&ours, &usual);
        early.time_provider = Arc::new(In1980);
        assert!(!meet(server(&other, 1, days), early).await.0, "a stranger checked in 1980");
        let mut early = (*server(&ours, 1, &usual)).clone();
        early.time_provider = Arc::new(In1980);
        let early = Arc::new(early);
        assert_eq!(meet(Arc::clone(&early), client(&ours, days)).await, met, "checked in 1980");
        assert_eq!(meet(early, client(&other, days)).await, (false, None), "a stranger checked in 1980");
    }
}

/// What a member holds that `by` has signed, for `days` from today on.
fn certified(by: &Authority, key: &NodeKey, member: u8, days: Range<i64>) -> Credentials {
    let certificate = by.certify_for(key.public(), member, days).unwrap();
    let certified = Certified { authority: by.certificate().to_vec(), certificate, key: key.clone() };
    Credentials::of_certified(certified, member)
}

#[tokio::test]
async fn nodes_of_a_cluster_know_each_other_and_nobody_else() {
    let (ours, other) = (Authority::make().unwrap(), Authority::make().unwrap());
    let ours = Authority::from_der(ours.certificate().to_vec(), ours.key().to_vec());
    let server = || Credentials::of_authority(ours.clone(), 1).server().unwrap().config;
    let client =
        |by: &Authority, member| Credentials::of_authority(by.clone(), member).client(PeerProtocol::Stream).unwrap();
    let not_wanted = Credentials::of_authority(ours.clone(), 2).server().unwrap().config;
    assert_eq!(meet(server(), client(&ours, 2)).await, (true, Some(true)));
    assert_eq!(meet(server(), client(&ours, 3)).await, (true, Some(false)), "another member");
    assert!(!meet(not_wanted, client(&ours, 2)).await.0, "not whom it wanted");
    assert_eq!(meet(server(), client(&other, 2)).await, (false, None), "another cluster");
    assert_eq!(meet(server(), pinned(ours.fingerprint())).await, (true, Some(false)), "to join");
    assert!(!meet(server(), pinned(other.fingerprint())).await.0, "not its cluster");
}

/// Goal: a key that a node has made itself, and the authority has signed, is taken for its member and for no other, on
/// either side, whatever the days in the certificate. Method: real handshakes with data nodes, which hold the authority.
#[tokio::test]
async fn a_certified_key_is_its_member_and_no_other() {
    let (ours, other) = (Authority::make().unwrap(), Authority::make().unwrap());
    let key = NodeKey::from_secret(NodeKey::make().unwrap().secret().to_vec()).unwrap();
    let data = |by: &Authority, member| Credentials::of_authority(by.clone(), member);
    for days in [-1..90, -4000..-3900, 400..490] {
        let as_member = |by: &Authority, member| certified(by, &key, member, days.clone());
        let client = |credentials: Credentials| credentials.client(PeerProtocol::Register).unwrap();
        let server = |credentials: Credentials| credentials.server().unwrap().config;
        assert_eq!(
            meet(server(data(&ours, 1)), client(as_member(&ours, 2))).await,
            (true, Some(true)),
            "as a client of {days:?}"
        );
        assert_eq!(meet(server(data(&ours, 1)), client(as_member(&ours, 3))).await, (true, Some(false)), "another");
        assert_eq!(meet(server(data(&ours, 1)), client(as_member(&other, 2))).await, (false, None), "a stranger");
        assert_eq!(
            meet(server(as_member(&ours, 1)), client(data(&ours, 2))).await,
            (true, Some(true)),
            "as a server of {days:?}"
        );
        assert!(!meet(server(as_member(&ours, 3)), client(data(&ours, 2))).await.0, "not whom it wanted");
        assert!(!meet(server(as_member(&other, 1)), client(data(&ours, 2))).await.0, "a strange server");
        assert_eq!(meet(server(as_member(&ours, 1)), client(data(&other, 2))).await, (false, None), "a stranger");
    }
}

/// Goal: who holds a certificate and no authority signs for nobody. Method: its key in the place of an authority's, under the
/// certificate that it has been given, and under one that it has made up for the same name; either behind what it signs.
#[tokio::test]
async fn a_witness_signs_for_nobody() {
    let ours = Authority::make().unwrap();
    let key = NodeKey::make().unwrap();
    let witness = certified(&ours, &key, 3, -1..90);
    assert!(witness.authority().is_none());
    let leaf = ours.certify(key.public(), 3).unwrap();
    // Under its own certificate, and under the authority's: in both it signs with the one key that it has.
    for shown in [leaf, ours.certificate().to_vec()] {
        let forged = Authority::from_der(shown, key.secret().to_vec());
        let stranger = Credentials::of_authority(forged, 2);
        let server = Credentials::of_authority(ours.clone(), 1).server().unwrap().config;
        match stranger.client(PeerProtocol::Register) {
            Ok(client) => assert_eq!(meet(server, client).await, (false, None), "a data node takes it"),
            // It does not get so far: its own certificate is nobody's root.
            Err(error) => assert!(matches!(error, ClusterTlsError::Tls(_) | ClusterTlsError::Verifier(_)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn only_whoever_has_the_key_can_use_its_certificate() {
    let ours = Authority::make().unwrap();
    let (key, thief) = (NodeKey::make().unwrap(), NodeKey::make().unwrap());
    let certificate = ours.certify(key.public(), 2).unwrap();
    let stolen = Certified { authority: ours.certificate().to_vec(), certificate, key: thief };
    let refused = Credentials::of_certified(stolen, 2).client(PeerProtocol::Register).map(drop);
    assert!(matches!(refused, Err(ClusterTlsError::Tls(_))), "{refused:?}");
}

#[test]
fn what_is_no_public_key_is_not_certified() {
    let ours = Authority::make().unwrap();
    let key = NodeKey::make().unwrap();
    let mut packed = key.public().to_vec();
    packed[0] = 2;
    for bad in [&b""[..], &key.public()[1..], key.secret(), &packed, &[4; 66]] {
        assert!(matches!(ours.certify(bad, 2), Err(CertifyError::Key)));
    }
}

#[tokio::test]
async fn each_protocol_is_agreed_on_by_its_own_name() {
    let ours = Authority::make().unwrap();
    for wanted in [PeerProtocol::Stream, PeerProtocol::Register, PeerProtocol::Http] {
        let server = Credentials::of_authority(ours.clone(), 1).server().unwrap().config;
        let client = Credentials::of_authority(ours.clone(), 2).client(wanted).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let accept = tokio_rustls::TlsAcceptor::from(server).accept(far);
        let name = ServerName::try_from("m1.llmchat.internal").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let (accepted, connected) = tokio::join!(accept, connector.connect(name, near));
        connected.unwrap();
        assert_eq!(PeerProtocol::of(accepted.unwrap().get_ref().1.alpn_protocol()), Some(wanted));
    }
    assert_eq!(PeerProtocol::of(None), None);
    assert_eq!(PeerProtocol::of(Some(b"http/1.1")), None);
}
