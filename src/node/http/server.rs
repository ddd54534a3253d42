//! Takes connections, within bounds of number, size and time, and lets a site answer what the guard lets through.

use super::answer::{self, Answer};
use super::guard::{self, Names};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

/// Connections of one listener at once; more are closed at once.
pub const CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEAD_TTL: Duration = Duration::from_secs(5);
/// How long a request and its answer may take, streams left aside.
const ANSWER_TTL: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of an answer that wait for their reader inside the server.
const BUFFER: usize = 16 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// Pause after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What answers on a listener.
pub trait Site: Send + Sync {
    /// Answers a request that the guard let through.
    fn answer(&self, request: Parts, line: Arc<Line>) -> BoxFuture<'static, Answer>;
}

/// A connection, as its answer sees it.
#[derive(Default)]
pub struct Line {
    streams: AtomicBool,
    cut: Notify,
}

impl Line {
    /// From now on it lasts until [`Line::cut`].
    pub fn stream(&self) {
        self.streams.store(true, Ordering::Release);
    }

    /// Its reader is too slow: it ends.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    async fn over(&self) {
        tokio::time::sleep(ANSWER_TTL).await;
        if self.streams.load(Ordering::Acquire) {
            self.cut.notified().await;
        }
    }
}

/// Serves until the node ends.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>, names: Names) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
        let site = site.clone();
        tokio::spawn(async move {
            converse(socket, site, names).await;
            drop(seat);
        });
    }
}

/// One request, one answer.
async fn converse(socket: TcpStream, site: Arc<dyn Site>, names: Names) {
    let line = Arc::new(Line::default());
    let answering = line.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (site, line) = (site.clone(), answering.clone());
        async move {
            let (parts, _) = request.into_parts();
            let answer = match guard::check(&parts, names) {
                Ok(()) => site.answer(parts, line).await,
                Err(refused) => answer::refusal(refused),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TTL)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .keep_alive(false);
    let talk = http.serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        biased;
        _ = talk => {}
        () = line.over() => {}
    }
}
