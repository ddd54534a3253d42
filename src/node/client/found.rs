//! What nodes answer to a client, and whom they say it should be connected to.

use crate::core::ids::NodeId;
use crate::node::proto::{Role, StatusResponse};
use crate::node::shared::Whereabouts;

/// A node that answered.
pub(super) struct Respondent {
    pub address: String,
    pub status: StatusResponse,
}

/// A node to be connected to.
pub(super) struct Found {
    pub address: String,
    pub node: NodeId,
    /// The term it leads, or knows of.
    pub term: u64,
    /// Others say that it leads that term: it may have yet to win, or to be ready.
    pub expected: bool,
    /// Most bytes of arguments it takes, if it said so.
    pub payload_bytes: Option<u64>,
}

impl Found {
    /// A leader of a later term than this one is news.
    pub fn known_term(&self) -> u64 {
        if self.expected { self.term.saturating_sub(1) } else { self.term }
    }
}

impl From<&Respondent> for Found {
    fn from(Respondent { address, status }: &Respondent) -> Self {
        Found {
            address: address.clone(),
            node: own_id(status),
            term: status.term,
            expected: false,
            payload_bytes: Some(status.payload_bytes),
        }
    }
}

impl From<Whereabouts> for Found {
    fn from(Whereabouts { term, node, address }: Whereabouts) -> Self {
        Found { address, node, term, expected: true, payload_bytes: None }
    }
}

/// Whom an answer says to turn to: itself, or a leader of a later term than `after`.
pub(super) fn leader_in(answer: &Respondent, after: Option<u64>) -> Option<Found> {
    if leads(&answer.status) {
        return Some(answer.into());
    }
    let StatusResponse { term, leader_node, leader_address, .. } = &answer.status;
    let news = after.is_some_and(|after| *term > after) && *leader_node != 0;
    // A node that names itself may not serve yet, and says so once it does.
    let elsewhere = !leader_address.is_empty() && NodeId(*leader_node) != own_id(&answer.status);
    (news && elsewhere).then(|| {
        let (term, node, address) = (*term, NodeId(*leader_node), leader_address.clone());
        Whereabouts { term, node, address }.into()
    })
}

/// True for a leader that holds its quorum's lease.
pub(super) fn leads(status: &StatusResponse) -> bool {
    status.role() == Role::Leader && status.leader_ready
}

/// How the quorum stands by the best informed of those that answered.
pub(super) fn quorum_of<'a>(found: impl Iterator<Item = &'a StatusResponse>) -> String {
    let best = found.filter(|s| s.voters > 0).max_by_key(|s| (s.term, s.voters_reachable));
    match best {
        Some(s) => {
            let need = s.voters / 2 + 1;
            format!("{} of {} voters reachable, need {need}", s.voters_reachable, s.voters)
        }
        None => "no voter answers".into(),
    }
}

/// The id of the node that answered.
pub(super) fn own_id(status: &StatusResponse) -> NodeId {
    NodeId(status.me.as_ref().map_or(0, |me| me.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::proto;

    const ME: u64 = 1;

    fn answer(term: u64, leader: u64, ready: bool) -> Respondent {
        let role = if ready { Role::Leader } else { Role::Follower } as i32;
        let leader_address = if leader == 0 { String::new() } else { format!("host:{leader}") };
        let me = Some(proto::Member { id: ME, ..Default::default() });
        let status = StatusResponse {
            me,
            term,
            role,
            leader_node: leader,
            leader_address,
            leader_ready: ready,
            ..Default::default()
        };
        Respondent { address: "host:1".to_owned(), status }
    }

    fn check(answer: &Respondent, after: Option<u64>, expected: Option<(&str, bool)>) {
        let found = leader_in(answer, after);
        assert_eq!(found.as_ref().map(|f| (f.address.as_str(), f.expected)), expected);
    }

    #[test]
    fn a_node_that_leads_is_turned_to_whatever_its_term() {
        check(&answer(5, ME, true), None, Some(("host:1", false)));
        check(&answer(5, ME, true), Some(9), Some(("host:1", false)));
    }

    #[test]
    fn a_leader_of_a_later_term_is_expected_and_one_of_an_older_is_no_news() {
        check(&answer(6, 2, false), Some(5), Some(("host:2", true)));
        check(&answer(5, 2, false), Some(5), None);
        check(&answer(6, 2, false), None, None);
        check(&answer(6, 0, false), Some(5), None);
    }

    #[test]
    fn a_node_that_has_won_and_is_not_ready_says_so_itself_later() {
        check(&answer(6, ME, false), Some(5), None);
    }

    #[test]
    fn whoever_is_expected_to_lead_a_term_is_news_in_that_term() {
        let expected = leader_in(&answer(6, 2, false), Some(5)).unwrap();
        assert_eq!((expected.term, expected.known_term()), (6, 5));
        let leads = leader_in(&answer(6, ME, true), None).unwrap();
        assert_eq!((leads.term, leads.known_term()), (6, 6));
    }
}
