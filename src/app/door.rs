//! The peers' port: who connects is known by its certificate. How a node serves them is the business of who opens the port.
//!
//! Whoever reaches the port can begin a handshake, and only who has a certificate is a member. So the two are counted apart,
//! and where there is no room whoever has the most gives way: strangers cannot keep a member out, nor one member another.

use super::slots::Slots;
use crate::base::Chain;
use crate::net::{self, PeerProtocol, belongs};
use crate::protocol::cluster::MemberId;
use anyhow::{Context, Result};
use rustls::ServerConfig;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Of a member it takes milliseconds: with a few there is room for every one that means it.
const HANDSHAKES_MAX: usize = 16;
/// Who wants to join, or has no business here.
const STRANGERS_MAX: usize = 16;
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Between two tries to listen.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at what is shown, also where nobody connects.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Who has connected, as the handshake has proved it.
pub(super) struct Guest {
    pub(super) socket: TlsStream<TcpStream>,
    pub(super) from: SocketAddr,
    pub(super) protocol: Option<PeerProtocol>,
    /// Whose certificate it is, whether or not that is a member now; `None` without one of this cluster's.
    pub(super) member: Option<MemberId>,
}

/// How many may be in, and for how long after the end.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) connections_max: usize,
    pub(super) last_max: Duration,
}

/// Who may take room from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Member(MemberId),
    Network(Ipv6Addr),
}

impl Who {
    /// One machine has a whole network of IPv6 to come from.
    fn at(from: SocketAddr) -> Self {
        Self::Network(match from.ip().to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)),
        })
    }
}

/// Listens, as soon as that is possible: what is in the way may go, and clients are served meanwhile.
pub(super) async fn listener(listen: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match net::listen(listen) {
            Ok(listener) => return listener,
            Err(error) if !is_told => tracing::error!(error = %Chain(&error), "no other node can reach this one"),
            Err(_) => {}
        }
        is_told = true;
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}

/// Has `serve` serve whoever connects, until `stop`, or until whoever it is has to give way: it ends by the token then; `shown` is what the next handshake shows.
pub(super) async fn open<F>(
    listener: TcpListener,
    room: Room,
    mut shown: impl FnMut() -> Result<Arc<ServerConfig>>,
    serve: impl Fn(Guest, CancellationToken) -> F + Clone + Send + 'static,
    stop: CancellationToken,
) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tracing::info!("peers reach this node on {}", listener.local_addr().context("read the peers' address")?);
    // Whoever has shown no certificate of ours takes no room from those who have.
    let (handshakes, strangers) = (Slots::new(HANDSHAKES_MAX), Slots::new(STRANGERS_MAX));
    let members = Slots::new(room.connections_max);
    let connections = TaskTracker::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let (socket, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept a peer");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            },
            _ = look.tick() => {
                shown()?;
                continue;
            }
            () = stop.cancelled() => break,
        };
        let slot = handshakes.take(Who::at(from));
        let (config, serve) = (shown()?, serve.clone());
        let (members, strangers, stop) = (members.clone(), strangers.clone(), stop.child_token());
        connections.spawn(async move {
            let shaken = slot.ended().run_until_cancelled(shake_hands(socket, from, config)).await;
            drop(slot);
            let Some(guest) = shaken.flatten() else { return };
            let slot = match guest.member {
                Some(member) => members.take(Who::Member(member)),
                None => strangers.take(Who::at(from)),
            };
            let mut serving = std::pin::pin!(serve(guest, stop.clone()));
            tokio::select! {
                () = &mut serving => return,
                () = slot.ended().cancelled() => {}
            }
            tracing::warn!(%from, "a peer has more connections than there is room for: its oldest is closed");
            // What was begun with it is ended as it always is.
            stop.cancel();
            serving.await;
        });
    }
    drop(listener);
    connections.close();
    drop(tokio::time::timeout(room.last_max, connections.wait()).await);
    Ok(())
}

async fn shake_hands(socket: TcpStream, from: SocketAddr, config: Arc<ServerConfig>) -> Option<Guest> {
    net::set_up(&socket);
    let socket = match tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            tracing::warn!(%from, error = %Chain(&error), "a peer's handshake failed");
            return None;
        }
        Err(_) => {
            tracing::warn!(%from, "a peer's handshake took too long");
            return None;
        }
    };
    let shown = socket.get_ref().1;
    let certificates = shown.peer_certificates();
    let member = certificates.and_then(|_| (1..=127).find(|member| belongs(certificates, *member)));
    Some(Guest { from, protocol: PeerProtocol::of(shown.alpn_protocol()), member, socket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::net::{Authority, Credentials, PeerConnector, PeerStream, Resolver};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::task::AbortOnDropHandle;

    const ROOM: Room = Room { connections_max: 4, last_max: Duration::from_secs(1) };
    /// What a member that is kept out would wait for, at the least.
    const SOON: Duration = Duration::from_secs(1);

    /// A port that says to each member who it is, for as long as that stays; and how member 2 connects to it.
    async fn opened() -> (AbortOnDropHandle<Result<()>>, SocketAddr, PeerConnector) {
        let authority = Authority::make().unwrap();
        let credentials = |member| Credentials::of_authority(authority.clone(), member);
        let listener = listener("127.0.0.1:0".parse().unwrap()).await;
        let address = listener.local_addr().unwrap();
        let shown = credentials(1).server().unwrap().config;
        let open = open(listener, ROOM, move || Ok(Arc::clone(&shown)), tell, CancellationToken::new());
        let tls = Arc::new(credentials(2).client(PeerProtocol::Register).unwrap());
        let to = (address.to_string(), 1);
        let connector = PeerConnector::new(Resolver::new(clock::now), tls, to, Duration::from_secs(4));
        (AbortOnDropHandle::new(TaskTracker::new().spawn(open)), address, connector)
    }

    async fn tell(mut guest: Guest, stop: CancellationToken) {
        let said = [guest.member.unwrap_or(0)];
        guest.socket.write_all(&said).await.unwrap();
        guest.socket.flush().await.unwrap();
        drop(stop.run_until_cancelled(guest.socket.read(&mut [0])).await);
    }

    async fn told(stream: &mut PeerStream) -> Option<u8> {
        let mut said = [0];
        stream.read_exact(&mut said).await.ok().map(|_| said[0])
    }

    async fn enters(connector: &PeerConnector) -> PeerStream {
        let entered = async {
            let mut stream = connector.connect().await.unwrap();
            assert_eq!(told(&mut stream).await, Some(2));
            stream
        };
        tokio::time::timeout(SOON, entered).await.expect("a member is let in at once")
    }

    #[tokio::test]
    async fn a_member_gets_in_while_strangers_hold_every_handshake() {
        let (_open, address, connector) = opened().await;
        let mut strangers = Vec::new();
        for _ in 0..HANDSHAKES_MAX * 4 {
            strangers.push(TcpStream::connect(address).await.unwrap());
        }
        let _member = enters(&connector).await;
        // They are closed long before they run out of time: the first has given way to the last.
        let ended = tokio::time::timeout(SOON, strangers[0].read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_member_that_fills_the_room_loses_its_oldest_connection_and_gets_in() {
        let (_open, _, connector) = opened().await;
        let mut held = Vec::new();
        for _ in 0..=ROOM.connections_max {
            held.push(enters(&connector).await);
        }
        assert_eq!(tokio::time::timeout(SOON, told(&mut held[0])).await.expect("the oldest was closed"), None);
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_network_and_a_mapped_one_for_itself() {
        let at = |text: &str| Who::at(SocketAddr::new(text.parse().unwrap(), 7443));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:0:0:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
