//! Reads what clients say on their two streams until those end; the task loop hears it in that order.

use super::carried::Carried;
use super::sessions::{OutcomesOutbox, SubmitOutbox};
use super::{intake, wire};
use crate::core::boundary::Event;
use crate::core::ids::SessionId;
use crate::node::driver::Input;
use crate::node::proto as pb;
use crate::node::shared::Shared;
use futures::StreamExt;
use std::sync::Arc;
use tonic::Streaming;

/// Reads a client's batches until its stream ends. Not reading is the back-pressure.
pub(super) async fn read_submissions(
    shared: &Arc<Shared>,
    mut requests: Carried<Streaming<pb::SubmitRequest>>,
    outbox: SubmitOutbox,
) {
    let stream = shared.number_stream();
    let mut open: Option<SessionId> = None;
    loop {
        let request = match requests.next().await {
            Some(Ok(request)) => request,
            None => {
                // The client has said all it has to say; the loop ends its stream with the last answer.
                if let Some(session) = open {
                    shared.tell(Input::SubmitHalfClosed(session, stream));
                }
                return;
            }
            Some(Err(status)) => {
                let _ = outbox.try_send(Err(status));
                break;
            }
        };
        let session = match wire::session_id(&request.session_id) {
            Ok(session) => session,
            Err(status) => {
                let _ = outbox.try_send(Err(status));
                break;
            }
        };
        if open != Some(session) {
            open = Some(session);
            shared.tell(Input::SubmitOpened(session, stream, outbox.clone()));
        }
        let kib =
            (request.tasks.iter().map(|t| t.payload.len() + 256).sum::<usize>() >> 10) as u32 + 1;
        let room = kib.min(crate::node::shared::INTAKE_KIB as u32);
        let Ok(permit) = shared.intake.clone().acquire_many_owned(room).await else { break };
        let (event, rejected) = intake::sort(shared, session, request);
        if !rejected.is_empty() {
            let refused = pb::SubmitResponse { rejected, ..Default::default() };
            if outbox.send(Ok(refused)).await.is_err() {
                break;
            }
        }
        shared.tell(Input::Core(event));
        // Given back once the loop has taken the event.
        shared.look(move |_| drop(permit));
    }
    if let Some(session) = open {
        shared.tell(Input::StreamClosed(session, stream));
    }
}

/// Reads what a client follows and acknowledges until its stream ends.
pub(super) async fn read_wishes(
    shared: &Arc<Shared>,
    mut requests: Carried<Streaming<pb::OutcomesRequest>>,
    outbox: OutcomesOutbox,
) {
    let stream = shared.number_stream();
    let mut open: Option<SessionId> = None;
    while let Ok(request) = requests.next().await.transpose() {
        let Some(request) = request else {
            // Nothing more to follow; outcomes go on until the client leaves.
            outbox.closed().await;
            break;
        };
        let ids = wire::session_id(&request.session_id).and_then(|session| {
            Ok((session, wire::task_ids(&request.follow)?, wire::task_ids(&request.acknowledge)?))
        });
        let (session, follow, acknowledge) = match ids {
            Ok(ids) => ids,
            Err(status) => {
                let _ = outbox.try_send(Err(status));
                break;
            }
        };
        if open != Some(session) {
            open = Some(session);
            shared.tell(Input::OutcomesOpened(session, stream, outbox.clone()));
        }
        if !follow.is_empty() {
            shared.tell(Input::Core(Event::Followed { session, tasks: follow }));
        }
        if !acknowledge.is_empty() {
            shared.tell(Input::Core(Event::Acknowledged { session, tasks: acknowledge }));
        }
    }
    if let Some(session) = open {
        shared.tell(Input::StreamClosed(session, stream));
    }
}
