//! One connection, in the clear or inside TLS: who is at the other end, how long it may take to say anything, and what
//! its end means in words a person can act on.

use super::access::Caller;
use crate::node::security::verify::{End, explain};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

/// What begins every text about a connection that one end did not trust.
pub const DISTRUSTED: &str = "TLS: ";
/// Bytes of the words every HTTP/2 client begins with.
const PREFACE: usize = 24;
/// The first byte of an alert and of a handshake of TLS.
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// The error of a connection that one end did not trust.
pub fn distrusted(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{DISTRUSTED}{why}"))
}

/// Why one end did not trust the other, if `text` tells of that: between here and there only the words of an error are
/// kept, not its kind.
pub fn distrust_in(text: &str) -> Option<&str> {
    text.split_once(DISTRUSTED).map(|(_, why)| why)
}

/// The bytes' way.
pub enum Wire {
    /// In the clear.
    Plain(TcpStream),
    /// Inside TLS.
    Secret(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Wire {
    fn from(tcp: TcpStream) -> Self {
        Wire::Plain(tcp)
    }
}

impl From<TlsStream<TcpStream>> for Wire {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Wire::Secret(Box::new(stream))
    }
}

/// A connection.
pub struct Socket {
    wire: Wire,
    caller: Caller,
    /// Until the other end has said what it must begin with.
    first: Option<First>,
    /// What was read before anybody asked for it.
    ahead: Vec<u8>,
    /// A place among the connections of this node.
    _place: Option<OwnedSemaphorePermit>,
}

/// What is awaited from the other end first.
struct First {
    end: End,
    bytes: usize,
    late: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// One that was opened here.
    pub fn dialled(wire: Wire) -> Self {
        let first = Some(First { end: End::Caller, bytes: 0, late: None });
        Socket { wire, caller: Caller::Local, first, ahead: Vec::new(), _place: None }
    }

    /// One that came in; whoever opened it must begin within `patience`.
    pub fn accepted(
        wire: Wire,
        caller: Caller,
        patience: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let late = Some(Box::pin(tokio::time::sleep(patience)));
        let first = Some(First { end: End::Called, bytes: 0, late });
        Socket { wire, caller, first, ahead: Vec::new(), _place: Some(place) }
    }

    /// Waits until the node that was called says something, which a server of HTTP/2 does at once. Inside TLS 1.3
    /// whoever is refused hears of it only then; later, the reason would be lost between connection and call.
    pub async fn await_word(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16];
        let read = self.read(&mut bytes).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead = bytes.into_iter().take(read).collect();
        Ok(())
    }

    /// What the first bytes say about the other end, and whether it is late.
    fn look(&mut self, context: &mut Context<'_>, news: &[u8]) -> io::Result<()> {
        let Some(first) = &mut self.first else { return Ok(()) };
        if first.bytes == 0 && !news.is_empty() && matches!(self.wire, Wire::Plain(_)) {
            match (first.end, news[0]) {
                (End::Caller, TLS_ALERT | TLS_HANDSHAKE) => {
                    return Err(distrusted(
                        "the node speaks TLS only; give tls=DIR (--tls DIR, HUSTINGS_TLS)",
                    ));
                }
                (End::Called, TLS_HANDSHAKE) => {
                    tracing::warn!(
                        "refused a connection: the caller speaks TLS, this node was started without --tls"
                    );
                    return Err(distrusted("this node was started without TLS"));
                }
                _ => {}
            }
        }
        first.bytes += news.len();
        if first.end == End::Called && first.bytes < PREFACE {
            if let Some(late) = &mut first.late
                && late.as_mut().poll(context).is_ready()
            {
                tracing::warn!("closed a connection whose caller said nothing");
                return Err(io::ErrorKind::TimedOut.into());
            }
            return Ok(());
        }
        // A caller that never hears anything is not late: its call has a limit of its own.
        if first.bytes > 0 {
            self.first = None;
        }
        Ok(())
    }
}

/// The same error, in words a person can act on.
fn in_words(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(told) => distrusted(&explain(told, End::Caller)),
        None => error,
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let now = self.ahead.len().min(into.remaining());
            into.put_slice(&self.ahead[..now]);
            self.ahead.drain(..now);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let polled = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(context, into),
            Wire::Secret(tls) => Pin::new(tls).poll_read(context, into),
        };
        if self.first.is_none() {
            return polled;
        }
        match polled {
            Poll::Pending => {
                self.look(context, &[])?;
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                let news = into.filled().get(before..).unwrap_or_default();
                Poll::Ready(self.look(context, news))
            }
            // Inside TLS 1.3 whoever is refused hears of it after the handshake, as the first word.
            Poll::Ready(Err(error)) => Poll::Ready(Err(in_words(error))),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Wire::Secret(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, pieces),
            Wire::Secret(tls) => Pin::new(tls).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(tcp) => tcp.is_write_vectored(),
            Wire::Secret(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Wire::Secret(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Wire::Secret(tls) => {
                ready!(Pin::new(tls).poll_shutdown(context))?;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Connected for Socket {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}
