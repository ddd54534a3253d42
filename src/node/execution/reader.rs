//! Hears one runner, on a thread of its own: how its attempts end, what they yield, what they print.

use super::frame::{self, Frame, RunResult};
use super::output::{AtWork, Hearing, Pipes, Whereabouts};
use super::roster::RunnerId;
use super::runner::Runner;
use super::stream::FrameReader;
use super::streams::Outflow;
use super::{Act, AttemptEnded, Inner};
use crate::core::boundary::Progress;
use crate::core::cluster::command::{Failure, Payload, Report};
use bytes::Bytes;
use std::sync::Arc;

/// Ends of attempts that are told together at most, while a runner goes from one waiting attempt to the next.
const HELD: usize = 32;
/// How long an end waits for others then, in milliseconds.
const HELD_MS: u16 = 1;

impl Inner {
    /// Hears a runner until its stream ends or breaks. Returns the last it said since its last answer.
    pub(super) fn read(
        self: &Arc<Self>,
        id: RunnerId,
        runner: &Arc<Runner>,
        pipes: Option<Pipes>,
    ) -> Bytes {
        let mut held = Vec::new();
        let output = self.hear(id, runner, pipes, &mut held);
        self.tell(&mut held);
        output
    }

    fn tell(&self, held: &mut Vec<AttemptEnded>) {
        // Nobody listens any more only when the node itself is gone.
        held.drain(..).for_each(|ended| drop(self.ended.send(ended)));
    }

    /// An attempt ended. While its runner goes on with the next one, the word of it waits a moment for others: the task
    /// loop is woken once for all of them.
    fn finish(
        self: &Arc<Self>,
        (id, seq): (RunnerId, u64),
        heard: (Report, Bytes),
        held: &mut Vec<AttemptEnded>,
    ) {
        let mut acts = Vec::new();
        self.lock().on_done(self.clock.now(), id, seq, heard, &mut acts);
        let mut goes_on = false;
        for act in acts {
            goes_on |= matches!(act, Act::Send(..));
            match act {
                Act::End(ended) => held.push(ended),
                act => self.perform(act),
            }
        }
        if !goes_on || held.len() >= HELD {
            self.tell(held);
        }
    }

    fn hear(
        self: &Arc<Self>,
        id: RunnerId,
        runner: &Arc<Runner>,
        pipes: Option<Pipes>,
        held: &mut Vec<AttemptEnded>,
    ) -> Bytes {
        let limit = frame::to_node_limit(self.options.payload_limit);
        let (node, bound) = (self.options.node.clone(), self.options.output_limit);
        let ear = Ear { inner: Arc::clone(self), id };
        let hearing = Hearing::new(&runner.socket, pipes, bound, node, ear);
        let mut frames = FrameReader::new(hearing, limit);
        let mut outflow = Outflow::new(&self.streams, runner);
        let problem = loop {
            let body = match frames.read_body() {
                Ok(Some(body)) => body,
                Ok(None) => return frames.into_source().finish(),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    self.tell(held);
                    frames.source_mut().set_patience(None);
                    continue;
                }
                // The socket's own errors come with the death of the process, which has better words.
                Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                    return frames.into_source().finish();
                }
                Err(error) => break error.to_string(),
            };
            match frame::decode(body) {
                Ok(Frame::Done { seq, result }) => {
                    outflow.close();
                    let report = report(&result);
                    let heard = (report, frames.source_mut().take_output());
                    self.finish((id, seq), heard, held);
                    frames.source_mut().set_patience((!held.is_empty()).then_some(HELD_MS));
                }
                Ok(Frame::Ready { protocol }) => {
                    self.update(|roster, now, acts| roster.on_ready(now, id, protocol, acts));
                }
                Ok(Frame::Item { seq, index, body }) => {
                    if let Err(problem) = outflow.add(seq, index, body) {
                        break problem;
                    }
                }
                Ok(Frame::Waiting { seq, next }) => {
                    let attempt = self.lock().attempt_in(id, seq);
                    if let Err(problem) = outflow.wait(seq, next, attempt) {
                        break problem;
                    }
                }
                Ok(Frame::Load(_) | Frame::Run(_) | Frame::Taken { .. }) => {
                    break "it sent a request".to_owned();
                }
                Err(error) => break error.to_string(),
            }
        };
        let words = format!("runner broke its protocol: {problem}");
        self.update(|roster, _, acts| roster.on_broken(id, words, acts));
        frames.into_source().finish()
    }
}

/// What the reader of one runner asks the roster.
struct Ear {
    inner: Arc<Inner>,
    id: RunnerId,
}

impl Whereabouts for Ear {
    fn at_work(&self) -> Option<AtWork> {
        self.inner.lock().at_work(self.id)
    }

    fn progressed(&self, progress: Progress) {
        self.inner.lock().on_progress(self.id, progress);
    }
}

/// A runner's answer as the cluster knows it.
pub(super) fn report(result: &RunResult<'_>) -> Report {
    match *result {
        RunResult::Value { codec, body } => {
            Report::Value(Payload::inline(codec, Bytes::copy_from_slice(body)))
        }
        RunResult::Failure { type_name, message, traceback, pickled } => Report::Failure(Failure {
            type_name: type_name.to_owned(),
            message: message.to_owned(),
            traceback: traceback.to_owned(),
            pickled: Bytes::copy_from_slice(pickled),
        }),
    }
}
