//! The desk at which a node with a token gets its certificate: a listener of its own, as whoever comes has none to
//! show. It serves this one call, a few times a second at most.

use super::doorway::{Doorway, Secrecy};
use super::server::bind;
use crate::core::Moment;
use crate::error::{Error, Result};
use crate::node::Enrolment;
use crate::node::clock::Clock;
use crate::node::proto as pb;
use crate::node::proto::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use crate::node::security::authority::Authority;
use crate::node::security::{Tls, files, tokens};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Tries in a row, and how long it takes until there is one more, whoever makes them.
const TRIES: u32 = 10;
const ONE_MORE: Duration = Duration::from_secs(1);
/// Nobody has much to say here.
const CONNECTIONS: usize = 64;
const STREAMS_PER_CONNECTION: u32 = 4;
const MESSAGE_BYTES: usize = 4 << 10;
const HEADER_BYTES: u32 = 4 << 10;
const CALL: Duration = Duration::from_secs(10);

/// The desk, ready to serve.
pub struct Desk {
    listener: TcpListener,
    secrecy: Secrecy,
    authority: Authority,
}

/// Opens the listener, if there is to be one.
pub async fn open(wanted: Option<Enrolment>, tls: &Option<Arc<Tls>>) -> Result<Option<Desk>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let Some(tls) = tls.clone() else {
        let problem = "this node has no certificate itself; give it one (tls=DIR, --tls DIR)";
        return Err(Error::config("enrol", problem));
    };
    let authority = Authority::open(&wanted.authority)?;
    let cluster = tls.current().me.cluster.clone();
    if cluster != authority.cluster() {
        let what = format!(
            "it is the authority of cluster {}, this node's certificate is of {cluster}",
            authority.cluster()
        );
        return Err(files::problem(authority.folder(), what));
    }
    let listener = bind(&wanted.listen, true, false, None).await?;
    let secrecy: Secrecy = Arc::new(move || tls.current().enrolling.clone());
    Ok(Some(Desk { listener, secrecy, authority }))
}

impl Desk {
    /// Serves until the node ends.
    pub async fn serve(self) {
        let doorway =
            Doorway { connections: CONNECTIONS, handshakes: CONNECTIONS, ..Doorway::NODE };
        let incoming = doorway.open(self.listener, Some(self.secrecy));
        let clerk = Clerk { authority: self.authority, tries: Tries::new() };
        let service = EnrolmentServiceServer::new(clerk)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(64 << 10);
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_max_header_list_size(HEADER_BYTES)
            .timeout(CALL)
            .max_connection_age(CALL)
            .add_service(service)
            .serve_with_incoming(incoming);
        let _ = server.await;
    }
}

struct Clerk {
    authority: Authority,
    tries: Tries,
}

#[tonic::async_trait]
impl EnrolmentService for Clerk {
    async fn enrol(
        &self,
        request: Request<pb::EnrolRequest>,
    ) -> std::result::Result<Response<pb::EnrolResponse>, Status> {
        if !self.tries.take() {
            let text = format!("more than {TRIES} tries in a row; try again in a few seconds");
            return Err(Status::resource_exhausted(text));
        }
        let request = request.into_inner();
        let taken = tokens::redeem(&self.authority, &request.token_id, &request.secret);
        let subject = taken.map_err(|error| {
            tracing::warn!("refused a join token");
            match error {
                Error::Auth { problem } => Status::unauthenticated(problem),
                other => Status::internal(other.to_string()),
            }
        })?;
        let issued = self.authority.issue_for(&subject, &request.public_key);
        let certificate = issued.map_err(|e| Status::invalid_argument(e.to_string()))?;
        tracing::info!(
            node = subject.name.as_str(),
            "a node was given its certificate for a join token"
        );
        let authority = self.authority.pem().to_owned();
        Ok(Response::new(pb::EnrolResponse { certificate, authority }))
    }
}

/// Tries that are left.
struct Tries {
    clock: Clock,
    left: Mutex<(u32, Moment)>,
}

impl Tries {
    fn new() -> Self {
        let clock = Clock::start();
        let left = Mutex::new((TRIES, clock.now()));
        Tries { clock, left }
    }

    fn take(&self) -> bool {
        self.take_at(self.clock.now())
    }

    fn take_at(&self, now: Moment) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = now.since(left.1).as_millis() / ONE_MORE.as_millis();
        if grown > 0 {
            let grown = u32::try_from(grown).unwrap_or(TRIES);
            *left = (left.0.saturating_add(grown).min(TRIES), now);
        }
        let allowed = left.0 > 0;
        left.0 = left.0.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::clock::START;

    #[test]
    fn tries_are_limited_and_come_back_one_by_one() {
        let tries = Tries { clock: Clock::start(), left: Mutex::new((TRIES, START)) };
        let after = |millis| START.after(Duration::from_millis(millis));
        let taken = (0..100).filter(|_| tries.take_at(after(500))).count();
        assert_eq!(taken, TRIES as usize);
        assert!(tries.take_at(after(1_500)));
        assert!(!tries.take_at(after(1_600)));
        let taken = (0..100).filter(|_| tries.take_at(after(3_600_000))).count();
        assert_eq!(taken, TRIES as usize);
    }
}
