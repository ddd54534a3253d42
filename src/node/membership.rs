//! How a node comes to a cluster: founders meet (design D4b), later nodes join, restarted voters are replaced.

use super::consensus::Consensus;
use super::departure;
use super::shared::{Shared, Whereabouts};
use super::transport::admission::{Introduction, Refused, call_join, call_meet};
use crate::core::cluster::command::Member;
use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Wait between two rounds of meeting or joining.
const ROUND: Duration = Duration::from_millis(25);
/// Longest wait between two rounds.
const SLOW_ROUND: Duration = Duration::from_millis(500);
/// How often a node that lacks its seat, and one that has it, look again.
const CONTENT: Duration = Duration::from_millis(100);
const SEATED: Duration = Duration::from_secs(1);
/// After so many looks a node that lacks its voter's seat asks for it again.
const SEAT_ROUNDS: u32 = 10;

/// How long the next leader may take to open its stream before it is asked to.
const NEXT_LEADER: Duration = Duration::from_millis(100);

/// How a node comes to a cluster.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The founding voters' addresses, the same list on each of them, this node's own included.
    pub founders: Vec<String>,
    /// Addresses of members, for a node that comes later.
    pub join: Vec<String>,
    /// Become a voter after joining.
    pub voter: bool,
}

/// Founds or joins, then keeps this node admitted until the node stops.
pub async fn enter(shared: Arc<Shared>, entry: Entry) {
    let mut contacts: BTreeSet<String> = entry.join.iter().cloned().collect();
    if !entry.founders.is_empty() {
        contacts.extend(entry.founders.iter().cloned());
        if !meet(&shared, &entry.founders).await {
            return;
        }
    } else if entry.join.is_empty() {
        found(&shared, BTreeMap::from([(shared.me.id, shared.member())])).await;
    }
    contacts.remove(&shared.me.address);
    stay_joined(&shared, contacts).await;
}

/// Meets the other founders until all have met all, then founds; false if that can never succeed.
async fn meet(shared: &Arc<Shared>, founders: &[String]) -> bool {
    {
        let mut standing = shared.standing();
        standing.founders = founders.to_vec();
        standing.met.insert(shared.me.address.clone(), shared.member());
    }
    let others: Vec<&String> = founders.iter().filter(|a| **a != shared.me.address).collect();
    let mut wait = ROUND;
    loop {
        let calls = others.iter().map(|address| call_meet(shared, address));
        let answers = futures::future::join_all(calls).await;
        let mut complete = true;
        for answer in answers {
            match answer {
                Ok(answer) => match welcome(shared, founders, answer) {
                    Meeting::Complete => {}
                    Meeting::Incomplete => complete = false,
                    Meeting::AlreadyFounded => return true,
                },
                Err(Refused::ForGood(problem)) => {
                    shared.standing().fatal = Some(Error::InvalidPeers { problem });
                    return false;
                }
                Err(Refused::ForNow(trouble)) => {
                    shared.standing().trouble = trouble;
                    complete = false;
                }
            }
        }
        let met: BTreeMap<NodeId, Member> =
            shared.standing().met.values().map(|m| (m.id, m.clone())).collect();
        if complete && met.len() == founders.len() {
            found(shared, met).await;
            return true;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(SLOW_ROUND);
    }
}

enum Meeting {
    Complete,
    Incomplete,
    /// That cluster exists without this node's present id: join it instead.
    AlreadyFounded,
}

fn welcome(shared: &Shared, founders: &[String], them: Introduction) -> Meeting {
    let mut standing = shared.standing();
    standing.met.insert(them.member.address.clone(), them.member);
    let met_all = standing.met.len() == founders.len();
    if let Some(cluster) = them.cluster {
        let ours = cluster_of(standing.met.values().map(|m| m.id));
        return if met_all && ours == cluster {
            Meeting::Complete
        } else if them.met.contains(&shared.me.id) {
            Meeting::Incomplete // It counted this node in; the others will answer soon.
        } else {
            Meeting::AlreadyFounded
        };
    }
    let knows_all = standing.met.values().all(|m| them.met.contains(&m.id));
    if knows_all && met_all { Meeting::Complete } else { Meeting::Incomplete }
}

/// The same on every founder: nobody has to be told.
fn cluster_of(ids: impl Iterator<Item = NodeId>) -> ClusterId {
    let sorted: BTreeSet<NodeId> = ids.collect();
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for id in sorted {
        hasher.update(&id.to_bytes());
    }
    ClusterId(hasher.digest128())
}

/// All founders know each other: the one with the least address starts the log, the others wait for it.
async fn found(shared: &Arc<Shared>, members: BTreeMap<NodeId, Member>) {
    shared.belong(cluster_of(members.keys().copied()));
    let first = members.values().map(|m| &m.address).min();
    if first != Some(&shared.me.address) {
        return;
    }
    if let Some(consensus) = &shared.consensus
        && let Err(error) = consensus.found(members).await
    {
        shared.standing().fatal = Some(error);
    }
}

/// While the leader has no stream open to this node, asks to be (re)admitted.
async fn stay_joined(shared: &Arc<Shared>, mut contacts: BTreeSet<String>) {
    let mut wait = ROUND;
    let mut turn = 0;
    let mut unseated = 0;
    loop {
        if shared.removed.load(Ordering::Acquire) {
            return;
        }
        if shared.connected.load(Ordering::Acquire) && unseated < SEAT_ROUNDS {
            wait = ROUND;
            if lacks_seat(shared) {
                unseated += 1;
                tokio::time::sleep(CONTENT).await;
                continue;
            }
            unseated = 0;
            tokio::select! {
                biased;
                () = shared.parted.notified() => tokio::time::sleep(NEXT_LEADER).await,
                () = tokio::time::sleep(SEATED) => {}
            }
            continue;
        }
        unseated = 0;
        contacts.extend(known_addresses(shared).await);
        contacts.remove(&shared.me.address);
        let address = next_contact(shared, &contacts, turn);
        turn += 1;
        if let Some(address) = address {
            match call_join(shared, &address).await {
                Ok(answer) if answer.removed => return departure::accept(shared).await,
                Ok(answer) => {
                    if let Some(leader) = answer.leader_address.filter(|_| !answer.admitted) {
                        contacts.insert(leader.clone());
                        if call_join(shared, &leader).await.is_ok_and(|answer| answer.removed) {
                            return departure::accept(shared).await;
                        }
                    }
                }
                Err(Refused::ForGood(problem)) => note_refusal(shared, problem),
                Err(Refused::ForNow(trouble)) => shared.standing().trouble = trouble,
            }
        }
        tokio::select! {
            biased;
            () = shared.moved.notified() => wait = ROUND,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(SLOW_ROUND),
        }
    }
}

/// It asked for a voter's seat and has none: what a leader could not do at once it is asked for again.
fn lacks_seat(shared: &Shared) -> bool {
    let seated = |consensus: &Arc<Consensus>| consensus.voters().contains_key(&shared.me.id);
    shared.seated.load(Ordering::Acquire) && !shared.consensus.as_ref().is_some_and(seated)
}

/// The leader if it is known, every other time; otherwise each contact in turn.
fn next_contact(shared: &Shared, contacts: &BTreeSet<String>, turn: usize) -> Option<String> {
    if shared.leads() {
        return Some(shared.me.address.clone());
    }
    let leader = shared.leader().filter(|leader| leader.node != shared.me.id);
    match leader {
        Some(leader) if turn.is_multiple_of(2) => Some(leader.address),
        _ => contacts.iter().nth(turn / 2 % contacts.len().max(1)).cloned(),
    }
}

async fn known_addresses(shared: &Shared) -> Vec<String> {
    let told = |task_loop: &mut super::driver::TaskLoop| {
        task_loop.told_members.iter().map(|m| m.address.clone()).collect::<Vec<_>>()
    };
    shared.ask(told).await.unwrap_or_default()
}

/// A refusal that will not go away by asking again is what `wait_ready` reports.
fn note_refusal(shared: &Shared, problem: String) {
    let mut standing = shared.standing();
    if standing.leader.is_none() && standing.fatal.is_none() {
        standing.fatal = Some(Error::InvalidPeers { problem });
    }
}

/// The leader gives a founder that came back under a new id, or a node that asked for it, a voter's seat.
pub fn seat_voter(shared: Arc<Shared>, member: Member) {
    let Some(consensus) = shared.consensus.clone() else { return };
    if consensus.voters().contains_key(&member.id) {
        return;
    }
    tokio::spawn(async move {
        // One at a time; a failed change is asked for again by the node's next Join.
        let _ = consensus.seat(member).await;
    });
}

/// Keeps the leader's whereabouts current on voters, and tells the task loop when this node leads or no longer does.
pub async fn follow_leadership(shared: Arc<Shared>) {
    use super::driver::Input;
    use crate::core::boundary::Event;
    let Some(consensus) = shared.consensus.clone() else { return };
    let mut leading = None;
    let mut changes = consensus.subscribe();
    loop {
        let view = consensus.view();
        let ready = view.ready.then_some(view.term);
        let voters: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        shared.look(move |task_loop| task_loop.see_voters(voters));
        if leading.is_some() && leading != ready {
            shared.leads.store(false, Ordering::Release);
            shared.tell(Input::Core(Event::LeadershipLost));
            leading = None;
        }
        if let (None, Some(term)) = (leading, ready) {
            leading = Some(term);
            shared.tell(Input::Core(Event::LeadershipGained { term }));
            shared.leads.store(true, Ordering::Release);
        }
        if let Some(node) = view.leader.filter(|_| !view.leader_address.is_empty()) {
            shared.saw_leader(Whereabouts { term: view.term, node, address: view.leader_address });
        }
        shared.moved.notify_waiters();
        if !changes.wait().await {
            return;
        }
    }
}
