//! What a node's refusal of a question means to whoever asked: an error, or another try.

use super::peers::{STATUS_TIMEOUT, describe};
use crate::error::Error;
use crate::node::transport::socket::distrust_in;

/// What begins the text of [`Error::Auth`].
pub(super) const NOT_ADMITTED: &str = "not admitted: ";

/// A try failed in a way that may pass.
pub(super) struct Again(pub String);

/// How a try ended that brought nothing.
pub(super) enum Attempt {
    Again(String),
    Final(Error),
}

impl From<Again> for Attempt {
    fn from(again: Again) -> Self {
        Attempt::Again(again.0)
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Attempt::Final(error)
    }
}

/// Why members were not changed; what will pass is asked again.
pub(super) fn change_refused(what: &str, address: &str, status: &tonic::Status) -> Attempt {
    use tonic::Code;
    let problem = describe(status);
    // The texts are those of our own errors, whose heads are added again here.
    let body = problem.split_once(": ").map_or(problem.as_str(), |(_, body)| body).to_owned();
    Attempt::Final(match status.code() {
        Code::Unavailable => return Attempt::Again(format!("{address}: {problem}")),
        Code::FailedPrecondition => Error::UnsafeMembershipChange { problem: body },
        Code::Aborted => Error::MembershipChangeInProgress {
            detail: "a voter is being seated or removed".into(),
        },
        Code::NotFound => Error::config("node", body),
        _ => from_status(what, address, status),
    })
}

pub(super) fn no_quorum(detail: &str) -> Error {
    Error::NoQuorum { detail: detail.trim_end_matches("; ").into() }
}

pub(super) fn from_status(what: &str, address: &str, status: &tonic::Status) -> Error {
    use tonic::Code;
    let problem = describe(status);
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
            Error::config(what, problem)
        }
        Code::DeadlineExceeded => Error::WaitTimeout { what: what.into(), waited: STATUS_TIMEOUT },
        Code::PermissionDenied | Code::Unauthenticated => {
            let problem = problem.strip_prefix(NOT_ADMITTED).unwrap_or(&problem);
            Error::Auth { problem: format!("{address}: {problem}") }
        }
        _ => match distrust_in(&problem) {
            Some(why) => Error::Auth { problem: format!("{address}: {why}") },
            None => no_quorum(&format!("{address}: {:?}: {problem}", status.code())),
        },
    }
}
