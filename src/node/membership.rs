//! How a node comes to a cluster: founders meet (design D4b), later nodes join; whoever comes back with its data
//! resumes its seat, and whoever comes back without is given another.

use super::consensus::{Consensus, Voter};
use super::departure;
use super::shared::Shared;
use super::transport::admission::{Introduction, Refused, call_join, call_meet};
use super::transport::peers::Target;
use crate::core::Moment;
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

/// Founds, joins or resumes, then keeps this node admitted until the node stops.
pub async fn enter(shared: Arc<Shared>, entry: Entry) {
    let mut contacts: BTreeSet<String> = entry.join.iter().cloned().collect();
    contacts.extend(entry.founders.iter().cloned());
    let founded = shared.consensus.clone().filter(|consensus| consensus.is_founded());
    if let Some(consensus) = founded {
        if !resume(&shared, &consensus, entry.founders, &mut contacts).await {
            return;
        }
    } else {
        if let Some(consensus) = &shared.consensus {
            consensus.rouse();
        }
        if !entry.founders.is_empty() {
            if !meet(&shared, &entry.founders).await {
                return;
            }
        } else if entry.join.is_empty() {
            found(&shared, BTreeMap::from([(shared.me.id, shared.member())])).await;
        }
    }
    contacts.remove(&shared.me.address);
    stay_joined(&shared, contacts).await;
}

/// Goes on where this node's log ends: nothing is founded, no seat is taken. False if another process has its id.
async fn resume(
    shared: &Arc<Shared>,
    consensus: &Arc<Consensus>,
    founders: Vec<String>,
    contacts: &mut BTreeSet<String>,
) -> bool {
    remember_starts(shared, consensus);
    let voters = consensus.voters();
    contacts.extend(voters.values().map(|voter| voter.address.clone()));
    {
        let mut standing = shared.standing();
        standing.founders = founders;
        standing.met = voters.iter().map(|(id, voter)| met_voter(*id, voter)).collect();
        standing.met.insert(shared.me.address.clone(), shared.member());
    }
    if let Some(seat) = voters.get(&shared.me.id) {
        shared.seated.store(true, Ordering::Release);
        // Whoever answers at the address where this node is expected has its id, if it says so.
        if seat.address != shared.me.address
            && let Some(error) = rival(shared, &seat.address).await
        {
            note_refusal(shared, error);
            return false;
        }
    }
    consensus.rouse();
    tokio::spawn(find_moved(shared.clone(), consensus.clone(), contacts.clone()));
    true
}

/// What the log says of the other members' starts: older copies of them are not heard.
fn remember_starts(shared: &Shared, consensus: &Consensus) {
    let state = consensus.state();
    let state = state.lock();
    let mut lives = shared.peers.lives();
    for member in state.members().values().filter(|member| member.id != shared.me.id) {
        lives.remember(member.id, member.incarnation);
    }
}

fn met_voter(id: NodeId, voter: &Voter) -> (String, Member) {
    let (name, address) = (voter.name.clone(), voter.address.clone());
    (address.clone(), Member { id, name, address, voter: true, ..Member::default() })
}

/// Why this node must not go on, if the process at `address` has its id.
async fn rival(shared: &Shared, address: &str) -> Option<Error> {
    match call_meet(shared, address).await {
        Ok(them) if them.member.id == shared.me.id => {
            Some(Error::node_id_in_use(shared.me.id, address))
        }
        Err(Refused::ForGood(error @ Error::IncarnationMismatch { .. })) => Some(error),
        _ => None,
    }
}

/// Voters that all came back at other addresses than the log says find each other where they were told to look.
async fn find_moved(shared: Arc<Shared>, consensus: Arc<Consensus>, places: BTreeSet<String>) {
    let mut wait = ROUND;
    while !shared.connected.load(Ordering::Acquire) {
        let voters = consensus.voters();
        let known = |place: &&String| voters.values().any(|voter| voter.address == **place);
        let strange = places.iter().filter(|place| !known(place) && **place != shared.me.address);
        for place in strange {
            let them = match call_meet(&shared, place).await {
                Ok(them) => them.member,
                Err(Refused::ForGood(error)) => {
                    note_refusal(&shared, error);
                    continue;
                }
                Err(Refused::InUse(_) | Refused::ForNow(_)) => continue,
            };
            if let Some(voter) = voters.get(&them.id) {
                let target = Target { node: them.id, address: voter.address.clone() };
                shared.peers.redirect(target, them.address);
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(SLOW_ROUND);
    }
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
        if shared.consensus.as_ref().is_some_and(|consensus| consensus.is_founded()) {
            return true; // A founder that resumed counts this node in, and its log has arrived.
        }
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
                Err(Refused::ForGood(error)) => {
                    shared.standing().fatal = Some(error);
                    return false;
                }
                Err(Refused::InUse(_)) => complete = false,
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

/// While the leader has no stream open to this node, asks to be (re)admitted; once in any case, so that a node that was
/// started again is known as what it is now.
async fn stay_joined(shared: &Arc<Shared>, mut contacts: BTreeSet<String>) {
    let mut wait = ROUND;
    let mut turn = 0;
    let mut unseated = 0;
    let mut introduced = false;
    let mut in_use_since = None;
    loop {
        if shared.removed.load(Ordering::Acquire) {
            return;
        }
        let content = introduced && unseated < SEAT_ROUNDS;
        if content && shared.connected.load(Ordering::Acquire) {
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
            match ask_to_join(shared, &address, &mut contacts, &mut in_use_since).await {
                Asked::Removed => return departure::accept(shared).await,
                Asked::Admitted => introduced = true,
                Asked::NotYet => {}
            }
        }
        tokio::select! {
            biased;
            () = shared.moved.notified() => wait = ROUND,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(SLOW_ROUND),
        }
    }
}

/// What came of asking to join.
enum Asked {
    /// A leader took the request.
    Admitted,
    /// Nobody did so far.
    NotYet,
    /// This node was removed: it need not ask again.
    Removed,
}

/// Asks at `address`, and where it points to.
async fn ask_to_join(
    shared: &Arc<Shared>,
    address: &str,
    contacts: &mut BTreeSet<String>,
    in_use_since: &mut Option<Moment>,
) -> Asked {
    match call_join(shared, address).await {
        Ok(answer) if answer.removed => return Asked::Removed,
        Ok(answer) => {
            *in_use_since = None;
            if answer.admitted {
                return Asked::Admitted;
            }
            if let Some(leader) = answer.leader_address {
                contacts.insert(leader.clone());
                match call_join(shared, &leader).await {
                    Ok(answer) if answer.removed => return Asked::Removed,
                    Ok(answer) if answer.admitted => return Asked::Admitted,
                    _ => {}
                }
            }
        }
        Err(Refused::ForGood(error)) => note_refusal(shared, error),
        Err(Refused::InUse(error)) => {
            // The one that had the id may be dead, and the leader not know it yet.
            let now = shared.clock.now();
            let lease = shared.config.limits.worker_lease;
            if now.since(*in_use_since.get_or_insert(now)) > lease * 2 {
                note_refusal(shared, error);
            }
        }
        Err(Refused::ForNow(trouble)) => shared.standing().trouble = trouble,
    }
    Asked::NotYet
}

/// It asked for a voter's seat and has none, or is expected elsewhere: what a leader could not do at once it is asked
/// for again.
fn lacks_seat(shared: &Shared) -> bool {
    let here = |voter: &Voter| voter.address == shared.me.address;
    let seated =
        |consensus: &Arc<Consensus>| consensus.voters().get(&shared.me.id).is_some_and(here);
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

/// A refusal that will not go away by asking again is what `wait_ready` reports. Where it says that this node's id is
/// another's, the node ends: it must not vote.
fn note_refusal(shared: &Shared, error: Error) {
    if matches!(error, Error::NodeIdInUse { .. } | Error::IncarnationMismatch { .. }) {
        return shared.give_way(error);
    }
    let mut standing = shared.standing();
    if standing.leader.is_none() && standing.fatal.is_none() {
        standing.fatal = Some(error);
    }
}

/// The leader gives a founder that came back under a new id, or a node that asked for it, a voter's seat; one that came
/// back with its id keeps its seat, perhaps at another address.
pub fn seat_voter(shared: Arc<Shared>, member: Member) {
    let Some(consensus) = shared.consensus.clone() else { return };
    let seat = consensus.voters().get(&member.id).map(|voter| voter.address.clone());
    if seat.as_ref() == Some(&member.address) {
        return;
    }
    tokio::spawn(async move {
        // One at a time; a failed change is asked for again by the node's next Join.
        let _ = match seat {
            None => consensus.seat(member).await.map(drop),
            Some(seat) => {
                // The library's link to it was made for its old address and stays.
                let target = Target { node: member.id, address: seat };
                shared.peers.redirect(target, member.address.clone());
                consensus.move_voter(member).await
            }
        };
    });
}
