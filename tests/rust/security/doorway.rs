//! What a listener bears: silence, slowness, crowds, and words of another protocol.

use super::{Place, authority, issue};
use crate::cluster::PATIENCE;
use futures::StreamExt;
use hustings::node::security::{Role, Tls};
use hustings::node::transport::doorway::{Doorway, Secrecy};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HASTY: Duration = Duration::from_millis(500);

/// A listener whose connections are read until they end.
async fn open(doorway: Doorway, tls: Option<Arc<Tls>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let secrecy = tls.map(|tls| Arc::new(move || tls.current().server.clone()) as Secrecy);
    let mut sockets = doorway.open(listener, secrecy);
    tokio::spawn(async move {
        while let Some(Ok(mut socket)) = sockets.next().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let _ = socket.write_all(b"heard").await;
                }
            });
        }
    });
    address
}

/// Whether the other end closes the connection by itself.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 64];
    let ended = async {
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_or_too_little_is_sent_away() {
    let place = Place::new("silence");
    let ca = authority(&place);
    let tls = Tls::open(&issue(&ca, &place, Role::Peer, "a")).unwrap();
    for tls in [None, Some(tls)] {
        let address = open(Doorway { patience: HASTY, ..Doorway::NODE }, tls).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(is_closed(&mut silent).await);
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"P").await.unwrap();
        assert!(is_closed(&mut slow).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_begun_may_be_silent_afterwards() {
    let address = open(Doorway { patience: HASTY, ..Doorway::NODE }, None).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    tokio::time::sleep(HASTY * 3).await;
    caller.write_all(b"more").await.unwrap();
    let mut bytes = Vec::new();
    let heard = async {
        while bytes.len() < 10 {
            let mut some = [0; 16];
            let read = caller.read(&mut some).await.unwrap();
            assert!(read > 0, "it was closed");
            bytes.extend_from_slice(&some[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_a_place_comes_free_again() {
    let address = open(Doorway { connections: 2, ..Doorway::NODE }, None).await;
    let first = TcpStream::connect(address).await.unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(is_closed(&mut third).await);
    drop(first);
    crate::cluster::for_condition("a free place", async || {
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut bytes = [0; 5];
        next.read_exact(&mut bytes).await.is_ok().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_another_protocol_end_the_connection() {
    let place = Place::new("words");
    let ca = authority(&place);
    let tls = Tls::open(&issue(&ca, &place, Role::Peer, "a")).unwrap();
    let secret = open(Doorway::NODE, Some(tls)).await;
    let mut plain = TcpStream::connect(secret).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(is_closed(&mut plain).await);
    let clear = open(Doorway::NODE, None).await;
    let mut hello = TcpStream::connect(clear).await.unwrap();
    hello.write_all(&[0x16, 3, 1, 0, 0xf0, 1]).await.unwrap();
    assert!(is_closed(&mut hello).await);
}
