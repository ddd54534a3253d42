//! The raft plane's protobuf, to and from core types; what a peer sends is checked here and nowhere else.

use super::peers::{Heartbeat, HeartbeatReply};
use crate::core::election::boundary::{PollAnswer, PollQuestion, PollRefusal};
use crate::core::election::lease::Told;
use crate::core::election::ranking::{MAX_RANKED, RankEntry};
use crate::core::ids::{ClusterId, NodeId, Term};
use crate::core::load::Load;
use crate::node::proto;
use std::time::Duration;

/// The longest wait a voter may ask for.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// Who speaks to whom, in which cluster.
pub fn envelope(cluster: Option<ClusterId>, from: NodeId, to: NodeId) -> proto::Envelope {
    let cluster_id = cluster.map(|c| c.to_bytes().to_vec().into()).unwrap_or_default();
    proto::Envelope { cluster_id, from_node: from.0, to_node: to.0, ..Default::default() }
}

/// A poll, ready to be sent.
pub fn poll_request(envelope: proto::Envelope, question: &PollQuestion) -> proto::PollRequest {
    proto::PollRequest {
        envelope: Some(envelope),
        suspect_node: question.suspect.0,
        term: question.term,
        last_log_term: question.last_log.0,
        last_log_index: question.last_log.1,
        score: question.score,
        rank: question.rank,
        insistent: question.insistent,
    }
}

/// The question in a poll; the candidate is who its envelope says.
pub fn poll_question(request: &proto::PollRequest) -> PollQuestion {
    PollQuestion {
        candidate: NodeId(request.envelope.as_ref().map_or(0, |e| e.from_node)),
        suspect: NodeId(request.suspect_node),
        term: request.term,
        last_log: (request.last_log_term, request.last_log_index),
        score: finite(request.score),
        rank: request.rank,
        insistent: request.insistent,
    }
}

/// An answer, ready to be sent.
pub fn poll_response(term: Term, answer: PollAnswer) -> proto::PollResponse {
    use proto::PollRefusal as Wire;
    let (agrees, refusal, retry_after) = match answer {
        PollAnswer::Agree => (true, Wire::Unspecified, Duration::ZERO),
        PollAnswer::Refuse { reason, retry_after } => {
            let refusal = match reason {
                PollRefusal::LeaderAlive => Wire::LeaderAlive,
                PollRefusal::StaleLog => Wire::StaleLog,
                PollRefusal::BetterCandidate => Wire::BetterCandidate,
                PollRefusal::ILead => Wire::ILead,
                PollRefusal::JustVoted => Wire::JustVoted,
            };
            (false, refusal, retry_after)
        }
    };
    let retry_after_us = retry_after.min(MAX_RETRY).as_micros() as u32;
    proto::PollResponse { agrees, refusal: refusal as i32, retry_after_us, term }
}

/// The term and the answer in a response. A refusal this version does not know counts as a live leader.
pub fn poll_answer(response: &proto::PollResponse) -> (Term, PollAnswer) {
    use proto::PollRefusal as Wire;
    if response.agrees {
        return (response.term, PollAnswer::Agree);
    }
    let reason = match response.refusal() {
        Wire::StaleLog => PollRefusal::StaleLog,
        Wire::BetterCandidate => PollRefusal::BetterCandidate,
        Wire::ILead => PollRefusal::ILead,
        Wire::JustVoted => PollRefusal::JustVoted,
        Wire::LeaderAlive | Wire::Unspecified => PollRefusal::LeaderAlive,
    };
    let retry_after = Duration::from_micros(u64::from(response.retry_after_us)).min(MAX_RETRY);
    (response.term, PollAnswer::Refuse { reason, retry_after })
}

/// The leader's table, ready to be sent.
pub fn heartbeat_request(
    envelope: proto::Envelope,
    heartbeat: &Heartbeat,
) -> proto::HeartbeatRequest {
    let rank = |row: &RankEntry| proto::Rank {
        node: row.node.0,
        score: row.score,
        caught_up: row.caught_up,
    };
    proto::HeartbeatRequest {
        envelope: Some(envelope),
        term: heartbeat.term,
        table: heartbeat.table.iter().take(MAX_RANKED).map(rank).collect(),
        leased: heartbeat.told.leased,
        reachable: heartbeat.told.reachable,
    }
}

/// The table in a request.
pub fn heartbeat(request: &proto::HeartbeatRequest) -> Heartbeat {
    let row = |rank: &proto::Rank| RankEntry {
        node: NodeId(rank.node),
        // The elector judges scores, and counts those that cannot be.
        score: rank.score,
        caught_up: rank.caught_up,
    };
    Heartbeat {
        term: request.term,
        table: request.table.iter().take(MAX_RANKED).map(row).collect(),
        told: Told { term: request.term, leased: request.leased, reachable: request.reachable },
    }
}

/// A voter's state, ready to be sent.
pub fn heartbeat_response(reply: &HeartbeatReply) -> proto::HeartbeatResponse {
    proto::HeartbeatResponse {
        term: reply.term,
        score: reply.score,
        load: Some(proto::Load {
            cpu_available: reply.load.cpu_available,
            memory_available: reply.load.memory_available,
            uptime_s: reply.load.uptime_s,
            synthetic: reply.load.synthetic,
        }),
        last_log_term: reply.last_log.0,
        last_log_index: reply.last_log.1,
    }
}

/// A voter's state in a response.
pub fn heartbeat_reply(response: &proto::HeartbeatResponse) -> HeartbeatReply {
    let load = response.load.unwrap_or_default();
    HeartbeatReply {
        term: response.term,
        // The elector judges scores, and counts those that cannot be.
        score: response.score,
        load: Load {
            cpu_available: finite(load.cpu_available),
            memory_available: finite(load.memory_available),
            uptime_s: finite(load.uptime_s),
            synthetic: load.synthetic,
            ..Load::default()
        },
        last_log: (response.last_log_term, response.last_log_index),
    }
}

fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_survive_the_wire() {
        let question = PollQuestion {
            candidate: NodeId(7),
            suspect: NodeId(9),
            term: 3,
            last_log: (3, 44),
            score: 0.75,
            rank: 2,
            insistent: true,
        };
        let envelope = envelope(Some(ClusterId(5)), NodeId(7), NodeId(8));
        assert_eq!(poll_question(&poll_request(envelope, &question)), question);
        let retry_after = Duration::from_micros(1_234);
        for answer in [
            PollAnswer::Agree,
            PollAnswer::Refuse { reason: PollRefusal::LeaderAlive, retry_after },
            PollAnswer::Refuse { reason: PollRefusal::StaleLog, retry_after },
            PollAnswer::Refuse { reason: PollRefusal::BetterCandidate, retry_after },
            PollAnswer::Refuse { reason: PollRefusal::ILead, retry_after },
            PollAnswer::Refuse { reason: PollRefusal::JustVoted, retry_after },
        ] {
            assert_eq!(poll_answer(&poll_response(4, answer)), (4, answer));
        }
    }

    #[test]
    fn heartbeats_survive_the_wire() {
        let row = |score| RankEntry { node: NodeId(1), score, caught_up: true };
        let told = Told { term: 2, leased: true, reachable: 4 };
        let sent = Heartbeat { term: 2, table: vec![row(0.5), row(-3.0)], told };
        let got = heartbeat(&heartbeat_request(proto::Envelope::default(), &sent));
        assert_eq!(got, sent);
        let load = Load { cpu_available: 0.3, uptime_s: 9.0, ..Load::default() };
        let reply = HeartbeatReply { term: 2, score: 0.4, load, last_log: (2, 8) };
        assert_eq!(heartbeat_reply(&heartbeat_response(&reply)), reply);
    }
}
