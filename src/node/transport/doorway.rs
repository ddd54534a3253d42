//! Lets connections in: bounded in number, inside TLS where there is any, and not for long if they say nothing.

use super::access::Caller;
use super::socket::Socket;
use crate::node::security::Identity;
use crate::node::security::verify::{End, explain};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

/// Pause after a connection could not be accepted: without descriptors the next cannot be either, and asking at once
/// would take a whole core.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Connections that were let in and wait to be served.
const WAITING: usize = 64;
/// What a caller that was refused may still send before it is cut off, so that it hears why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// How a connection's TLS is configured at the moment it comes in; without it, connections are in the clear.
pub type Secrecy = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Doorway {
    /// Connections at once.
    pub connections: usize,
    /// Of them, in their TLS handshake.
    pub handshakes: usize,
    /// How long a caller may take for its handshake, and then for its first words.
    pub patience: Duration,
}

impl Doorway {
    /// Those of a node.
    pub const NODE: Doorway =
        Doorway { connections: 16_384, handshakes: 256, patience: Duration::from_secs(5) };

    /// The connections that come in, until the stream is dropped.
    pub fn open(
        self,
        listener: TcpListener,
        secrecy: Option<Secrecy>,
    ) -> ReceiverStream<io::Result<Socket>> {
        let (sender, sockets) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = sender.closed() => {}
                () = self.accept(&listener, secrecy, &sender) => {}
            }
        });
        ReceiverStream::new(sockets)
    }

    async fn accept(
        self,
        listener: &TcpListener,
        secrecy: Option<Secrecy>,
        sender: &mpsc::Sender<io::Result<Socket>>,
    ) {
        let places = Arc::new(Semaphore::new(self.connections));
        let shaking = Arc::new(Semaphore::new(self.handshakes));
        loop {
            let Ok((tcp, from)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                let most = self.connections;
                tracing::warn!(%from, most, "closed a connection: there are too many");
                continue;
            };
            let _ = tcp.set_nodelay(true);
            let Some(secrecy) = &secrecy else {
                let socket = Socket::accepted(tcp.into(), Caller::Local, self.patience, place);
                if sender.send(Ok(socket)).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(hand) = shaking.clone().try_acquire_owned() else {
                let most = self.handshakes;
                tracing::warn!(%from, most, "closed a connection: too many handshakes");
                continue;
            };
            let (config, sender) = (secrecy(), sender.clone());
            tokio::spawn(async move {
                let shaken = self.shake_hands(tcp, from, config, place);
                if let Ok(Some(socket)) = tokio::time::timeout(self.patience, shaken).await {
                    drop(hand);
                    let _ = sender.send(Ok(socket)).await;
                }
            });
        }
    }

    async fn shake_hands(
        self,
        tcp: TcpStream,
        from: SocketAddr,
        config: Arc<ServerConfig>,
        place: OwnedSemaphorePermit,
    ) -> Option<Socket> {
        match TlsAcceptor::from(config).accept(tcp).into_fallible().await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates();
                let caller = shown.and_then(|chain| Identity::of(chain.first()?));
                let caller = caller.map_or(Caller::Nobody, |them| Caller::Known(Arc::new(them)));
                let stream = tokio_rustls::TlsStream::from(stream);
                Some(Socket::accepted(stream.into(), caller, self.patience, place))
            }
            Err((error, tcp)) => {
                let told = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                match told {
                    Some(told) => {
                        let why = explain(told, End::Called);
                        tracing::warn!(%from, "refused a connection: {why}");
                        linger(tcp).await;
                    }
                    // Whoever only looks whether somebody listens leaves like that.
                    None => tracing::debug!(%from, "a connection ended in its handshake: {error}"),
                }
                None
            }
        }
    }
}

/// Lets a refused caller hear why: a socket that is closed with bytes unread is reset, and the last word lost.
async fn linger(mut tcp: TcpStream) {
    let _ = tcp.shutdown().await;
    let rest = async { tokio::io::copy(&mut tcp.take(LINGER_BYTES), &mut tokio::io::sink()).await };
    let _ = tokio::time::timeout(LINGER, rest).await;
}
