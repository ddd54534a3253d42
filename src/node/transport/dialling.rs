//! How connections to other nodes are opened, in the clear or inside TLS, and when a silent one is given up.
//!
//! A dead host is noticed by what it does not acknowledge: the kernel waits [`UNACKNOWLEDGED`] for that, and costs an
//! idle connection nothing. The pings of HTTP/2, which wake both ends, are left to connections on which nothing flows.

use super::socket::{Socket, distrusted};
use crate::node::security::Tls;
use crate::node::security::verify::{End, explain};
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_rustls::TlsConnector;
use tonic::codegen::{Service, StdError};
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection whose bytes stay unacknowledged for so long is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);
/// How often an idle connection is probed, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TTL: Duration = Duration::from_secs(2);

/// Opens connections, all in one way.
#[derive(Clone, Debug, Default)]
pub struct Dialler {
    secrecy: Option<Secrecy>,
}

/// How a connection's TLS is configured at the moment it is opened.
#[derive(Clone, Debug)]
enum Secrecy {
    /// As the files say then.
    Files(Arc<Tls>),
    /// Always the same.
    Fixed(Arc<ClientConfig>),
}

impl Secrecy {
    fn config(&self) -> Arc<ClientConfig> {
        match self {
            Secrecy::Files(tls) => tls.current().client.clone(),
            Secrecy::Fixed(config) => config.clone(),
        }
    }
}

impl Dialler {
    /// One that speaks TLS, if there is any.
    pub fn new(tls: Option<Arc<Tls>>) -> Self {
        Dialler { secrecy: tls.map(Secrecy::Files) }
    }

    /// One that always speaks TLS like this.
    pub fn fixed(config: Arc<ClientConfig>) -> Self {
        Dialler { secrecy: Some(Secrecy::Fixed(config)) }
    }

    /// A channel that connects when it is used.
    pub fn lazily(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }

    /// A channel that is connected.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.connector()).await
    }

    /// A channel between nodes, which is given up when its bytes are not acknowledged.
    pub fn between_nodes(&self, endpoint: &Endpoint, connect: Duration) -> Channel {
        endpoint.connect_with_connector_lazy(self.watchful(connect))
    }

    /// The same, connected.
    pub async fn connect_nodes(
        &self,
        endpoint: &Endpoint,
        connect: Duration,
    ) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.watchful(connect)).await
    }

    fn connector(&self) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Connector { tcp, secrecy: self.secrecy.clone() }
    }

    fn watchful(&self, connect: Duration) -> Connector {
        let mut connector = self.connector();
        connector.tcp.set_connect_timeout(Some(connect));
        #[cfg(target_os = "linux")]
        connector.tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        connector
    }
}

/// `endpoint`, with windows of `stream` bytes and twice as many for all its streams, and a probe when it is idle.
pub fn tune(endpoint: Endpoint, connect: Duration, stream: u32) -> Endpoint {
    endpoint
        .connect_timeout(connect)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(2 * stream)
        .http2_keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(PROBE_TTL)
        .keep_alive_while_idle(true)
}

/// Opens one socket after the other.
struct Connector {
    tcp: HttpConnector,
    secrecy: Option<Secrecy>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Socket>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Self::Response, StdError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let (dialled, secrecy) = (self.tcp.call(uri), self.secrecy.clone());
        async move {
            let tcp = dialled.await?.into_inner();
            let Some(secrecy) = secrecy else {
                return Ok(TokioIo::new(Socket::dialled(tcp.into())));
            };
            let name = ServerName::try_from(host)?;
            let connector = TlsConnector::from(secrecy.config());
            let stream = connector.connect(name, tcp).await.map_err(|error| {
                let told = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                match told {
                    Some(told) => distrusted(&explain(told, End::Caller)),
                    None => error,
                }
            })?;
            let stream = tokio_rustls::TlsStream::from(stream);
            let mut socket = Socket::dialled(stream.into());
            socket.await_word().await?;
            Ok(TokioIo::new(socket))
        }
        .boxed()
    }
}
