//! How clients are told that leadership moved and to whom, and how they say that they expect a node to lead.
//!
//! Both travel in the metadata of gRPC. They are hints: whoever serves a client still has to lead, with a quorum.

use crate::core::ids::{NodeId, Term};
use crate::node::shared::Whereabouts;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};

/// The term the node that is called is expected to lead, and that of a leader named.
const TERM: &str = "hustings-term";
/// The id of the leader named, as nodes print theirs.
const NODE: &str = "hustings-leader";
/// Where the leader named listens.
const ADDRESS: &str = "hustings-leader-address";

/// What a client's streams end with when this node leads no more; `to` is who is about to lead, as far as this node
/// voted for it.
pub fn moved(to: Option<&Whereabouts>) -> Status {
    let mut status = Status::unavailable("leadership moved; reconnect");
    let Some(Whereabouts { term, node, address }) = to else { return status };
    let Ok(address) = MetadataValue::try_from(address) else { return status };
    let Ok(id) = MetadataValue::try_from(node.to_string()) else { return status };
    let metadata = status.metadata_mut();
    metadata.insert(ADDRESS, address);
    metadata.insert(NODE, id);
    metadata.insert(TERM, MetadataValue::from(*term));
    status
}

/// Whom the end of a stream names as the next leader.
pub fn named_in(status: &Status) -> Option<Whereabouts> {
    let metadata = status.metadata();
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
    let node = u64::from_str_radix(text(NODE)?, 16).ok().map(NodeId)?;
    let address = text(ADDRESS).filter(|address| !address.is_empty())?.to_owned();
    Some(Whereabouts { term: expected_in(metadata)?, node, address })
}

/// Says that the node that is called is expected to lead `term`, now or in a moment.
pub fn expect<T>(mut request: Request<T>, term: Option<Term>) -> Request<T> {
    if let Some(term) = term {
        request.metadata_mut().insert(TERM, MetadataValue::from(term));
    }
    request
}

/// The term this node is expected to lead, if the caller said so.
pub fn expected_in(metadata: &MetadataMap) -> Option<Term> {
    metadata.get(TERM)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_named_is_understood() {
        let to = Whereabouts { term: 7, node: NodeId(0xabc), address: "127.0.0.1:9".to_owned() };
        assert_eq!(named_in(&moved(Some(&to))), Some(to));
        assert_eq!(named_in(&moved(None)), None);
    }

    #[test]
    fn an_address_that_cannot_travel_is_not_named() {
        let to = Whereabouts { term: 7, node: NodeId(1), address: "a\nb".to_owned() };
        assert_eq!(named_in(&moved(Some(&to))), None);
    }

    #[test]
    fn what_is_expected_is_heard_and_nonsense_is_not() {
        let request = expect(Request::new(()), Some(12));
        assert_eq!(expected_in(request.metadata()), Some(12));
        assert_eq!(expected_in(expect(Request::new(()), None).metadata()), None);
        let mut request = Request::new(());
        request.metadata_mut().insert(TERM, MetadataValue::from_static("-1"));
        assert_eq!(expected_in(request.metadata()), None);
    }
}
