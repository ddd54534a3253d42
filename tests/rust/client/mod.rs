//! The client against nodes that break off, refuse, freeze and die: nothing accepted is lost, nothing settles twice.

mod fake;

use bytes::Bytes;
use fake::Cluster;
use hustings::core::cluster::command::{Codec, FunctionSource, Outcome, Terms};
use hustings::core::ids::TaskId;
use hustings::error::Error;
use hustings::node::client::*;
use hustings::node::proto::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(30);

struct World {
    cluster: Cluster,
    runtime: Runtime,
}

impl World {
    fn new(nodes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        World { cluster: Cluster::start(nodes), runtime }
    }

    fn connect_to(&self, index: usize, pinned: bool) -> Client {
        let options = ClientOptions { pinned, timeout: LONG, watch: false, tls: None };
        self.runtime.block_on(Client::connect(&[self.cluster.address(index)], options)).unwrap()
    }

    fn client(&self) -> Client {
        self.connect_to(0, false)
    }
}

fn task(number: u32) -> TaskRequest {
    TaskRequest {
        name: "square".into(),
        hash: None,
        codec: Codec::Json,
        blob: None,
        payload: Bytes::from(number.to_string()),
        retries: 0,
        timeout_ms: 0,
        backoff_ms: 0,
        priority: 5,
        terms: Terms::default(),
        claim: None,
        needs: None,
        idempotent: false,
        in_thread: false,
        trace: None,
    }
}

fn submit_all(client: &Client, n: u32) -> Vec<Arc<Handle>> {
    (0..n).map(|i| client.submit(task(i), None).unwrap()).collect()
}

/// Every handle returns its own payload.
fn check_values(handles: &[Arc<Handle>]) {
    for (number, handle) in handles.iter().enumerate() {
        assert!(handle.wait(LONG), "task {number} has no outcome: {:?}", handle.phase());
        match handle.settled().unwrap() {
            Settled::Outcome { outcome: Outcome::Value(value), .. } => {
                assert_eq!(value.body, number.to_string().as_bytes());
            }
            other => panic!("task {number}: {other:?}"),
        }
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    for _ in 0..15_000 {
        if condition() {
            return;
        }
        let _ = rx.recv_timeout(Duration::from_millis(2));
    }
    drop(tx);
    panic!("never: {what}");
}

#[test]
fn every_task_gets_its_own_outcome_in_order_and_is_acknowledged() {
    let world = World::new(1);
    let client = world.client();
    let body = FunctionSource::Pickled(Bytes::from_static(b"body"));
    let hash = client.function("square", body).unwrap();
    let with_hash = |i| TaskRequest { hash: Some(hash), ..task(i) };
    let handles: Vec<_> = (0..2_000).map(|i| client.submit(with_hash(i), None).unwrap()).collect();
    check_values(&handles);
    eventually("all acknowledged", || world.cluster.state().acknowledged.len() == 2_000);
    let state = world.cluster.state();
    let submitted: Vec<_> = handles.iter().map(|h| h.id().to_bytes().to_vec()).collect();
    assert_eq!(state.order, submitted);
    assert_eq!(state.functions, ["square"], "the body travels once per connection");
    assert_eq!((state.duplicates, client.pending()), (0, 0));
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again_under_the_same_ids() {
    let world = World::new(1);
    world.cluster.state().swallow_answers = 3;
    let client = world.client();
    let hash = client.function("square", FunctionSource::Reference("m:square".into())).unwrap();
    let first = TaskRequest { hash: Some(hash), ..task(0) };
    let mut handles = vec![client.submit(first, None).unwrap()];
    handles.extend((1..1_000).map(|i| client.submit(task(i), None).unwrap()));
    check_values(&handles);
    let state = world.cluster.state();
    assert_eq!(state.swallow_answers, 0);
    assert_eq!(state.tasks.len(), 1_000, "one task per id");
    assert!(state.duplicates >= 1, "the swallowed batches came again");
}

#[test]
fn a_task_that_may_be_in_the_log_already_is_not_refused_for_a_full_queue() {
    let world = World::new(1);
    {
        let mut state = world.cluster.state();
        state.swallow_answers = 1;
        state.refuse_resent = vec![(Refusal::QueueFull, 1)];
    }
    let client = world.client();
    let handle = client.submit(task(0), None).unwrap();
    check_values(&[handle]);
    let state = world.cluster.state();
    assert!(state.refuse_resent.is_empty(), "it was refused once");
    assert_eq!(state.tasks.len(), 1);
}

#[test]
fn accepted_tasks_are_followed_at_another_node_after_the_entry_node_died() {
    let mut world = World::new(3);
    world.cluster.state().hold = true;
    for pinned in [false, true] {
        let entry = usize::from(pinned);
        world.cluster.state().leader = Some(entry);
        let client = world.connect_to(entry, pinned);
        let handles = submit_all(&client, 500);
        eventually("all accepted", || handles.iter().all(|h| h.phase() == Phase::Accepted));
        eventually("members known", || client.addresses().len() == 3);
        world.cluster.state().followed.clear();
        world.cluster.state().leader = Some(2);
        world.cluster.kill(entry);
        eventually("all followed", || world.cluster.state().followed.len() >= 500);
        assert_ne!(client.connected_to(), Some(world.cluster.address(entry)));
        world.cluster.finish_held();
        check_values(&handles);
        let mut state = world.cluster.state();
        assert_eq!(state.duplicates, 0, "accepted tasks are never submitted again");
        (state.hold, state.tasks, state.finished) = (true, Default::default(), Default::default());
    }
}

#[test]
fn refusals_that_may_pass_are_retried_inside() {
    let passing = [Refusal::NotLeader, Refusal::Gathering, Refusal::Unspecified, Refusal::Stopping];
    for refusal in passing {
        let world = World::new(1);
        world.cluster.state().refuse = vec![(refusal, 40)];
        let client = world.client();
        check_values(&submit_all(&client, 100));
    }
}

#[test]
fn other_refusals_reach_the_handle_with_their_hint() {
    let refusals = [
        Refusal::QueueFull,
        Refusal::Invalid,
        Refusal::IdConflict,
        Refusal::UnknownFunction,
        Refusal::PayloadTooLarge,
        Refusal::Codec,
    ];
    let world = World::new(1);
    let client = world.client();
    for expected in refusals {
        world.cluster.state().refuse = vec![(expected, 1)];
        let handle = client.submit(task(1), None).unwrap();
        assert!(handle.wait(LONG));
        match handle.settled().unwrap() {
            Settled::Refused { refusal, message, retry_after, .. } => {
                assert_eq!(*refusal, expected);
                assert_eq!(message, "refused by the test");
                assert_eq!(*retry_after, Duration::from_millis(250));
            }
            other => panic!("{expected:?}: {other:?}"),
        }
        assert_eq!(handle.phase(), Phase::Rejected);
    }
    assert_eq!(client.pending(), 0);
}

#[test]
fn a_function_the_cluster_lost_is_sent_again_once() {
    let world = World::new(1);
    let client = world.client();
    let hash = client.function("square", FunctionSource::Reference("m:square".into())).unwrap();
    let with_hash = |i| TaskRequest { hash: Some(hash), ..task(i) };
    check_values(&[client.submit(with_hash(0), None).unwrap()]);
    world.cluster.state().refuse = vec![(Refusal::UnknownFunction, 1)];
    let again = client.submit(with_hash(1), None).unwrap();
    assert!(again.wait(LONG));
    assert_eq!(again.phase(), Phase::Succeeded);
    assert_eq!(world.cluster.state().functions.len(), 2);
    world.cluster.state().refuse = vec![(Refusal::UnknownFunction, 2)];
    let refused = client.submit(with_hash(2), None).unwrap();
    assert!(refused.wait(LONG));
    assert_eq!(refused.phase(), Phase::Rejected);
}

#[test]
fn unknown_ids_fail_and_known_ids_join() {
    let world = World::new(1);
    let client = world.client();
    let unknown = client.future(TaskId(42)).unwrap();
    assert!(unknown.wait(LONG));
    assert!(matches!(unknown.settled(), Some(Settled::Failed(Error::TaskNotFound { .. }))));
    // Another client finds the task by its id.
    let mine = client.submit(task(0), Some(TaskId(7))).unwrap();
    check_values(std::slice::from_ref(&mine));
    check_values(&[world.client().future(TaskId(7)).unwrap()]);
    // The same id and content is the same task; other content is a conflict.
    let same = client.submit(task(0), Some(TaskId(7))).unwrap();
    assert!(Arc::ptr_eq(&mine, &same));
    let conflict = client.submit(task(1), Some(TaskId(7))).unwrap();
    assert!(matches!(conflict.settled(), Some(Settled::Failed(Error::TaskIdConflict { .. }))));
    assert_eq!(world.cluster.state().tasks.len(), 1);
}

#[test]
fn an_unpinned_client_moves_to_the_leader_and_a_pinned_one_stays() {
    let world = World::new(2);
    let (moving, pinned) = (world.connect_to(1, false), world.connect_to(1, true));
    eventually("moved", || moving.connected_to() == Some(world.cluster.address(0)));
    world.cluster.state().leader = Some(1);
    eventually("moved back", || moving.connected_to() == Some(world.cluster.address(1)));
    check_values(&submit_all(&moving, 10));
    check_values(&submit_all(&pinned, 10));
    assert!(world.cluster.state().submit_streams.contains(&1));
    assert_eq!(pinned.connected_to(), Some(world.cluster.address(1)));
}

#[test]
fn a_frozen_node_is_left() {
    for pinned in [false, true] {
        let world = World::new(2);
        let client = world.connect_to(0, pinned);
        check_values(&submit_all(&client, 1));
        eventually("members known", || client.addresses().len() == 2);
        let mut state = world.cluster.state();
        state.frozen.insert(0);
        state.leader = Some(1);
        drop(state);
        check_values(&submit_all(&client, 10));
        assert_eq!(client.connected_to(), Some(world.cluster.address(1)));
    }
}

#[test]
fn once_the_expected_leader_leads_only_later_ones_are_asked_for() {
    let mut world = World::new(3);
    let client = world.client();
    world.cluster.state().hold = true;
    let handles = submit_all(&client, 1);
    eventually("accepted", || handles[0].phase() == Phase::Accepted);
    {
        let mut state = world.cluster.state();
        (state.leader, state.term) = (Some(1), 2);
        // Only the other one can say who leads.
        state.frozen.insert(1);
    }
    world.cluster.kill(0);
    eventually("it waits for a leader after the expected one", || {
        let long = |&(node, after, wait): &(usize, u64, Duration)| {
            (node, after) == (2, 2) && wait > Duration::from_secs(1)
        };
        world.cluster.state().questions.iter().any(long)
    });
    world.cluster.state().frozen.clear();
    world.cluster.finish_held();
    check_values(&handles);
}

#[test]
fn cancel_settles_what_is_cancelled_and_leaves_the_rest() {
    let world = World::new(1);
    let client = world.client();
    let done = submit_all(&client, 1).remove(0);
    check_values(std::slice::from_ref(&done));
    world.cluster.state().hold = true;
    let open = client.submit(task(9), None).unwrap();
    let ids = [open.id(), done.id(), TaskId(5)];
    let cancelled = world.runtime.block_on(client.cancel(&ids, false, LONG)).unwrap();
    assert_eq!(cancelled, [open.id()]);
    assert_eq!((open.phase(), done.phase()), (Phase::Cancelled, Phase::Succeeded));
}

#[test]
fn submit_meets_the_bound_and_goes_on_when_there_is_room() {
    let world = World::new(1);
    world.cluster.state().mute = true;
    let client = Arc::new(world.client());
    let payload = Bytes::from(vec![b'1'; MAX_BODY]);
    let large = || TaskRequest { payload: payload.clone(), ..task(0) };
    let mut handles = Vec::new();
    let full = loop {
        match client.try_submit(large(), None).unwrap() {
            Submitted::Queued(handle) => handles.push(handle),
            Submitted::Full(back) => break back,
        }
    };
    assert!((100..=MAX_QUEUED_BYTES / MAX_BODY).contains(&handles.len()), "{}", handles.len());
    assert!(!client.wait_room(Duration::from_millis(1)));
    let blocked = std::thread::spawn({
        let client = client.clone();
        move || client.submit(full, None).map(|handle| handle.phase())
    });
    world.runtime.block_on(client.close());
    assert!(matches!(blocked.join().unwrap(), Err(Error::Stopped { .. })));
    let error =
        client.try_submit(TaskRequest { payload: vec![0; MAX_BODY + 1].into(), ..task(0) }, None);
    assert!(matches!(error, Err(Error::PayloadTooLarge { size, .. }) if size == MAX_BODY + 1));
}

#[test]
fn closing_fails_what_is_open_and_refuses_what_comes_later() {
    let world = World::new(1);
    world.cluster.state().hold = true;
    let client = world.client();
    let open = client.submit(task(1), None).unwrap();
    eventually("accepted", || open.phase() == Phase::Accepted);
    let (tx, rx) = std::sync::mpsc::channel();
    open.on_settled(move || tx.send(()).unwrap()).unwrap();
    world.runtime.block_on(client.close());
    rx.recv_timeout(LONG).unwrap();
    assert!(matches!(open.settled(), Some(Settled::Failed(Error::Stopped { .. }))));
    assert!(matches!(client.submit(task(2), None), Err(Error::Stopped { .. })));
    assert!(matches!(client.future(TaskId(3)), Err(Error::Stopped { .. })));
    let status = world.runtime.block_on(client.status(None, LONG));
    assert!(matches!(status, Err(Error::Stopped { .. })));
    world.runtime.block_on(client.close());
}

#[test]
fn records_of_a_killed_node_survive_it() {
    let mut world = World::new(3);
    let options = ClientOptions { watch: true, ..ClientOptions::default() };
    let seeds = [world.cluster.address(0)];
    let client = world.runtime.block_on(Client::connect(&seeds, options)).unwrap();
    eventually("three rows", || client.records(0, 100).1.len() == 3);
    world.cluster.state().leader = Some(1);
    world.cluster.kill(0);
    eventually("moved", || client.connected_to() == Some(world.cluster.address(1)));
    let nodes: Vec<u64> = client.records(0, 100).1.iter().map(|row| row.node).collect();
    assert!(nodes.contains(&1), "{nodes:?}");
    assert_eq!(client.records(3, 100).0, 3, "positions go on, nothing comes twice");
}

#[test]
fn questions_are_answered_by_the_leader_or_say_who_was_asked() {
    let mut world = World::new(2);
    let client = world.connect_to(1, false);
    let leader = world.runtime.block_on(client.wait_leader(LONG)).unwrap();
    assert_eq!(leader.me.unwrap().id, 1);
    assert_eq!(world.runtime.block_on(client.status(None, LONG)).unwrap().me.unwrap().id, 1);
    let second = world.cluster.address(1);
    let status = world.runtime.block_on(client.status(Some(&second), LONG)).unwrap();
    assert_eq!(status.me.unwrap().id, 2);
    assert_eq!(world.runtime.block_on(client.drain(&second, Duration::ZERO)).unwrap(), 3);
    world.cluster.state().leader = None;
    let short = Duration::from_millis(30);
    let error = world.runtime.block_on(client.wait_leader(short)).unwrap_err().to_string();
    assert!(error.contains("none leads"), "{error}");
    for index in [0, 1] {
        world.cluster.kill(index);
    }
    let error = world.runtime.block_on(client.tasks(None, 10, short)).unwrap_err();
    assert!(matches!(error, Error::NoQuorum { .. } | Error::WaitTimeout { .. }), "{error}");
}

#[test]
fn connecting_to_nobody_names_who_was_asked_and_why() {
    let world = World::new(0);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ClientOptions { timeout: Duration::from_millis(100), ..Default::default() };
    let seeds = [closed.to_string()];
    let connect = Client::connect(&seeds, options.clone());
    let error = world.runtime.block_on(connect).err().unwrap().to_string();
    assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
    for bad in ["localhost", "127.0.0.1:0", "127.0.0.1:70000", "http://127.0.0.1:1"] {
        let error = world.runtime.block_on(Client::connect(&[bad.into()], options.clone()));
        assert!(matches!(error, Err(Error::InvalidAddress { .. })), "{bad}");
    }
}
