//! How a node with a token and no certificate gets one.

use super::dialling::Dialler;
use super::socket::distrust_in;
use crate::error::{Error, Result};
use crate::node::client::address;
use crate::node::proto as pb;
use crate::node::proto::enrolment_service_client::EnrolmentServiceClient;
use crate::node::security::enrolment::{Applicant, client_config};
use crate::node::security::tokens::Token;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

/// How long one try may take.
const CALL: Duration = Duration::from_secs(5);
/// Where there are too many tries at once, or nobody listens yet: how often one is made again, and after which wait.
const ROUNDS: u32 = 10;
const ROUND: Duration = Duration::from_secs(1);

/// Asks at `address` and keeps key, certificate and authority in `out`.
pub async fn enrol(address: &str, token: &str, out: &Path) -> Result<()> {
    let (token, address) = (Token::parse(token)?, address::check(address)?);
    let applicant = Applicant::new()?;
    let dialler = Dialler::fixed(Arc::new(client_config(&token)?));
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| Error::config("enrol", format!("{address}: {e}")))?
        .connect_timeout(CALL);
    let mut last = String::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND).await;
        }
        let request = pb::EnrolRequest {
            token_id: token.id.to_vec().into(),
            secret: token.secret().to_vec().into(),
            public_key: applicant.public_key().into(),
        };
        let mut desk = EnrolmentServiceClient::new(dialler.lazily(&endpoint));
        match tokio::time::timeout(CALL, desk.enrol(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                return applicant.accept(&token, &answer.certificate, &answer.authority, out);
            }
            Ok(Err(status)) => last = refused(&address, &status)?,
            Err(_) => last = format!("no answer within {CALL:?}"),
        }
    }
    Err(Error::NoQuorum { detail: format!("{address} gives no certificate: {last}") })
}

/// What is worth another try; else the error.
fn refused(address: &str, status: &Status) -> Result<String> {
    let problem = crate::node::client::describe(status);
    match status.code() {
        Code::Unauthenticated | Code::InvalidArgument => Err(Error::Auth { problem }),
        _ if distrust_in(&problem).is_some() => {
            let why = "whoever answers there is not of the cluster that the token is for";
            Err(Error::Auth { problem: format!("{address}: {why} ({problem})") })
        }
        _ => Ok(problem),
    }
}
