//! The client's single questions: status, tasks, cancel, drain, handover, and the wait for a leader.

use super::address;
use super::exchange::settle_all;
use super::peers::{STATUS_TIMEOUT, describe};
use super::refused::{Again, Attempt, NOT_ADMITTED, change_refused, from_status, no_quorum};
use super::{Client, Grpc, found::quorum_of, lock, wire};
use crate::core::ids::{NodeId, TaskId};
use crate::core::load::Position;
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use crate::node::proto::{self, StatusResponse, TaskState};
use std::future::Future;
use std::time::Duration;

/// Ids in one Cancel.
const MAX_CANCELLED: usize = 100_000;
/// Ids in one Cancel message.
const BATCH: usize = 4_096;
/// Rows in one task list.
pub const MAX_LISTED: u32 = 100_000;
/// Pause between two tries of one question.
const PAUSE: Duration = Duration::from_millis(20);
/// How often at least a node is looked at in the time that a question may take.
const LOOKS: u32 = 4;

impl Client {
    /// How the node at `address` is, or the leader (or any node, if none leads).
    pub async fn status(&self, address: Option<&str>, timeout: Duration) -> Result<StatusResponse> {
        if let Some(address) = address {
            let address = address::check(address)?;
            let answer = self.shared.peers.status(&address, timeout).await;
            return answer.map_err(|why| no_quorum(&format!("{address}: {why}")));
        }
        self.within(timeout, "status", || async {
            let (leader, mut others, silent) = self.shared.peers.ask_all().await;
            let best = |s: &StatusResponse| std::cmp::Reverse((s.term, s.voters_reachable));
            others.sort_by_key(|found| best(&found.status));
            leader
                .or_else(|| others.into_iter().next())
                .map(|found| found.status)
                .ok_or_else(|| Again(format!("no node answers: {silent}")))
                .map_err(Into::into)
        })
        .await
    }

    /// Waits until a node leads with its quorum's lease; returns that node's status.
    pub async fn wait_leader(&self, timeout: Duration) -> Result<StatusResponse> {
        let clock = Clock::start();
        let (began, mut pause) = (clock.now(), Duration::from_millis(10));
        loop {
            self.check_open()?;
            let (leader, others, silent) = self.shared.peers.ask_all().await;
            if let Some(leader) = leader {
                return Ok(leader.status);
            }
            if clock.now().since(began) >= timeout {
                let quorum = quorum_of(others.iter().map(|found| &found.status));
                let detail = format!(
                    "waited {timeout:?} for a leader: {quorum}; {} of {} known nodes answer, none leads; {silent}",
                    others.len(),
                    self.shared.peers.candidates().len()
                );
                return Err(no_quorum(&detail));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Tasks the cluster knows, at most `limit`, in one state or all.
    pub async fn tasks(
        &self,
        state: Option<TaskState>,
        limit: u32,
        timeout: Duration,
    ) -> Result<proto::ListTasksResponse> {
        if limit == 0 || limit > MAX_LISTED {
            return Err(Error::config("limit", format!("{limit} is outside 1 to {MAX_LISTED}")));
        }
        let state = state.unwrap_or(TaskState::Unspecified).into();
        self.ask(timeout, "the list of tasks", |mut grpc| async move {
            let request = proto::ListTasksRequest { state, limit, task_ids: Vec::new() };
            grpc.list_tasks(request).await
        })
        .await
    }

    /// Cancels tasks; `kill`: also those that run. Returns those that are cancelled now. Ids of which the cluster knows
    /// not a single one are an error.
    pub async fn cancel(
        &self,
        ids: &[TaskId],
        kill: bool,
        timeout: Duration,
    ) -> Result<Vec<TaskId>> {
        if ids.len() > MAX_CANCELLED {
            let problem = format!("{} given, at most {MAX_CANCELLED} at once", ids.len());
            return Err(Error::config("task_ids", problem));
        }
        let (settlements, mut rest) = lock(&self.shared.table).cancel_queued(ids);
        let mut done: Vec<TaskId> = settlements.iter().map(|(handle, _)| handle.id()).collect();
        settle_all(settlements);
        let clock = Clock::start();
        let began = clock.now();
        while !rest.is_empty() {
            let left = timeout.saturating_sub(clock.now().since(began));
            let (cancelled, unknown) = self.ask_cancel(&rest, kill, left).await?;
            let settlements = lock(&self.shared.table).on_cancelled(&cancelled);
            settle_all(settlements);
            self.shared.ids_ready.notify_one();
            // What is still on its way to the cluster could not be found there yet: ask again.
            rest = self.unanswered(&rest, &cancelled);
            done.extend(cancelled);
            if let Some(first) = unknown.first().filter(|_| rest.is_empty() && done.is_empty())
                && unknown.len() == ids.len()
            {
                return Err(Error::TaskNotFound { task: first.to_string() });
            }
            if rest.is_empty() || clock.now().since(began) >= timeout {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(done)
    }

    /// Which are cancelled, and which are unknown.
    async fn ask_cancel(
        &self,
        ids: &[TaskId],
        kill: bool,
        left: Duration,
    ) -> Result<(Vec<TaskId>, Vec<TaskId>)> {
        let (mut cancelled, mut unknown) = (Vec::new(), Vec::new());
        for batch in ids.chunks(BATCH) {
            let task_ids = wire::ids_bytes(batch);
            let response = self
                .ask(left, "the cancellation", |mut grpc| {
                    let request = proto::CancelRequest { task_ids: task_ids.clone(), kill };
                    async move { grpc.cancel(request).await }
                })
                .await?;
            cancelled.extend(wire::parse_ids(&response.cancelled));
            unknown.extend(wire::parse_ids(&response.unknown));
        }
        Ok((cancelled, unknown))
    }

    fn unanswered(&self, ids: &[TaskId], cancelled: &[TaskId]) -> Vec<TaskId> {
        let table = lock(&self.shared.table);
        let on_its_way = |id: &&TaskId| {
            let entry = table.entries.get(*id);
            entry.is_some_and(|e| e.task.is_some()) && !cancelled.contains(id)
        };
        ids.iter().filter(on_its_way).copied().collect()
    }

    /// Why a task is where it is, and what happened to it; without a quorum, how the quorum stands.
    pub async fn explain(&self, id: TaskId, timeout: Duration) -> Result<proto::ExplainResponse> {
        let task = lock(&self.shared.table).known_as(id);
        let task_id = wire::id_bytes(task);
        let asked = self.ask(timeout, "the explanation", |mut grpc| {
            let request = proto::ExplainRequest { task_id: task_id.clone() };
            async move { grpc.explain(request).await }
        });
        let explained = asked.await;
        let sentence = match (explained, self.sending(id)) {
            (Err(Error::NoQuorum { detail }), _) => detail,
            (Ok(told), Some(trouble)) if told.kind == "unknown" => {
                let kind = "sending".to_owned();
                let sentence = format!("it is on its way to the cluster{trouble}");
                return Ok(proto::ExplainResponse { kind, sentence, ..Default::default() });
            }
            (other, _) => return other,
        };
        let kind = "no_quorum".to_owned();
        let sentence = format!("no leader with a majority answers: {sentence}");
        Ok(proto::ExplainResponse { kind, sentence, ..Default::default() })
    }

    /// Whether the cluster has not said yet what becomes of the task, and what is in the way.
    fn sending(&self, id: TaskId) -> Option<String> {
        let on_its_way = {
            let table = lock(&self.shared.table);
            table.entries.get(&id).is_some_and(|entry| entry.task.is_some())
        };
        let trouble = self.trouble();
        let told = if trouble.is_empty() { trouble } else { format!("; last trouble: {trouble}") };
        on_its_way.then_some(told)
    }

    /// Asks the node at `address` to hand over what it holds and leave; returns how many tasks it handed back.
    pub async fn drain(&self, address: &str, grace: Duration) -> Result<u32> {
        let address = address::check(address)?;
        let mut grpc = self.shared.peers.grpc(&address)?;
        let request = proto::DrainRequest { grace_ms: grace.as_millis() as u64 };
        // The node may use all its grace; the answer comes a little later.
        let most = grace + Duration::from_secs(10);
        match tokio::time::timeout(most, grpc.drain(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().handed_back),
            Ok(Err(status)) => Err(from_status("address", &address, &status)),
            Err(_) => {
                Err(Error::WaitTimeout { what: format!("the drain of {address}"), waited: most })
            }
        }
    }

    /// Removes a member of the cluster, or with `check_only` says whether that would be refused; returns what is odd
    /// about the group that is left, or nothing.
    pub async fn remove_member(
        &self,
        node: NodeId,
        check_only: bool,
        timeout: Duration,
    ) -> Result<String> {
        let call = |mut grpc: Grpc| async move {
            grpc.remove_member(proto::RemoveMemberRequest { node: node.0, check_only }).await
        };
        let refused = |at: &str, said: &tonic::Status| change_refused("the removal", at, said);
        let response = self.ask_or(timeout, "the removal", call, refused).await?;
        Ok(response.warning)
    }

    /// Says where a member stands from now on.
    pub async fn move_member(
        &self,
        node: NodeId,
        position: Position,
        timeout: Duration,
    ) -> Result<()> {
        let Position { x, y } = position;
        let call = |mut grpc: Grpc| async move {
            grpc.move_member(proto::MoveMemberRequest { node: node.0, x, y }).await
        };
        let refused = |at: &str, said: &tonic::Status| change_refused("the move", at, said);
        self.ask_or(timeout, "the move", call, refused).await.map(|_| ())
    }

    /// Makes and mends faults at the node at `address`.
    pub async fn inject_faults(
        &self,
        address: &str,
        request: proto::InjectFaultsRequest,
        timeout: Duration,
    ) -> Result<()> {
        let address = address::check(address)?;
        let mut grpc = self.shared.peers.grpc(&address)?;
        let call = async {
            match grpc.inject_faults(request.clone()).await {
                // What a channel says may be the end of a dial from before the node was started.
                Err(status) if status.code() == tonic::Code::Unavailable => {
                    tokio::time::sleep(PAUSE).await;
                    grpc.inject_faults(request).await
                }
                answer => answer,
            }
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status))
                if status.code() == tonic::Code::PermissionDenied
                    && !status.message().starts_with(NOT_ADMITTED) =>
            {
                Err(Error::FaultInjectionDisabled { node: address })
            }
            Ok(Err(status)) => Err(from_status("faults", &address, &status)),
            Err(_) => {
                let what = format!("the fault call to {address}");
                Err(Error::WaitTimeout { what, waited: timeout })
            }
        }
    }

    /// Moves leadership to `to`, or to the best-ranked other voter; returns the new leader.
    pub async fn handover(&self, to: Option<NodeId>, timeout: Duration) -> Result<NodeId> {
        let to_node = to.map_or(0, |node| node.0);
        let response = self
            .ask(timeout, "the handover", |mut grpc| async move {
                grpc.handover(proto::HandoverRequest { to_node }).await
            })
            .await?;
        Ok(NodeId(response.to_node))
    }

    /// Asks the connected node (or the likeliest leader) until it answers or `timeout` is over.
    async fn ask<T, F, A>(&self, timeout: Duration, what: &str, call: F) -> Result<T>
    where
        F: Fn(Grpc) -> A,
        A: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let refused = |address: &str, status: &tonic::Status| match status.code() {
            tonic::Code::Unavailable => Again(format!("{address}: {}", describe(status))).into(),
            _ => from_status(what, address, status).into(),
        };
        self.ask_or(timeout, what, call, refused).await
    }

    /// The same, with a word of its own for each refusal.
    async fn ask_or<T, F, A>(
        &self,
        timeout: Duration,
        what: &str,
        call: F,
        refused: impl Fn(&str, &tonic::Status) -> Attempt,
    ) -> Result<T>
    where
        F: Fn(Grpc) -> A,
        A: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let silent = std::sync::Mutex::new(Vec::new());
        let look = STATUS_TIMEOUT.min(timeout / LOOKS).max(PAUSE);
        self.within(timeout, what, || async {
            let Some(address) = self.asked_address(&mut lock(&silent)) else {
                return Err(Again("no node is known".into()).into());
            };
            let grpc = self.shared.peers.grpc(&address)?;
            tokio::select! { biased;
                answer = call(grpc) => match answer {
                    Ok(response) => Ok(response.into_inner()),
                    Err(status) => Err(refused(&address, &status)),
                },
                problem = self.falls_silent(&address, look) => {
                    lock(&silent).push(address.clone());
                    Err(Again(format!("{address}: {problem}")).into())
                }
            }
        })
        .await
    }

    /// Waits until the node at `address` answers nothing at all: a frozen one takes calls and keeps them. One that
    /// waits for somebody to lead says so meanwhile, for the case that the time runs out.
    async fn falls_silent(&self, address: &str, look: Duration) -> String {
        loop {
            tokio::time::sleep(look).await;
            match self.shared.peers.status(address, STATUS_TIMEOUT).await {
                Ok(status) => self.shared.note_leader(&status),
                Err(problem) => return problem,
            }
        }
    }

    /// The connected node or the likeliest leader, those that fell `silent` last of all.
    fn asked_address(&self, silent: &mut Vec<String>) -> Option<String> {
        let mut known = self.connected_to().into_iter().chain(self.shared.peers.candidates());
        if let Some(address) = known.find(|address| !silent.contains(address)) {
            return Some(address);
        }
        silent.clear();
        self.shared.peers.candidates().into_iter().next()
    }

    async fn within<T, F, A>(&self, timeout: Duration, what: &str, attempt: F) -> Result<T>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Attempt>>,
    {
        let trouble = std::sync::Mutex::new(None::<String>);
        let tries = async {
            loop {
                self.check_open()?;
                match attempt().await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Final(error)) => return Err(error),
                    Err(Attempt::Again(problem)) => *lock(&trouble) = Some(problem),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(timeout.max(PAUSE), tries).await {
            Ok(answer) => answer,
            Err(_) => Err(match (lock(&trouble).take(), self.leaderless()) {
                (Some(problem), _) => no_quorum(&format!("{what} found nobody: {problem}")),
                (None, Some(quorum)) => no_quorum(&format!("{quorum}; {what} has to wait")),
                (None, None) => Error::WaitTimeout { what: what.into(), waited: timeout },
            }),
        }
    }
}
