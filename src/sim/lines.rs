//! The task plane over wires of memory: AssignTask streams that come late, break, and end with either process.

use super::network::{IN_FLIGHT, KEEP_ALIVE, RETRANSMISSION, Sent, Wire, name_in};
use super::places::Place;
use crate::core::boundary::Event;
use crate::core::cluster::command::Member;
use crate::core::ids::NodeId;
use crate::node::driver::Input;
use crate::node::faults::Passage;
use crate::node::transport::lines::{
    Answers, Back, End, Lines, Said, Speech, WorkAsked, digest, end_of,
};
use crate::node::transport::upstream::{self, Upstream};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// How long a dial into a black hole takes.
const CONNECT: Duration = Duration::from_millis(500);

/// Kinds of messages in the trace.
const ASSIGN: u8 = 8;
const ASSIGNED: u8 = 9;
const WORK: u8 = 10;

impl Wire {
    /// Dials, and finds the member it means.
    async fn dial_place(&self, to: &Member) -> Result<Place, End> {
        let place = self.world.place(name_in(&to.address)).ok_or(End::Refused)?;
        let dialled = match self.carry(&Default::default(), self.me, to.id).await {
            Sent::Arrived => self.carry(&Default::default(), to.id, self.me).await,
            other => other,
        };
        match dialled {
            Sent::Arrived if place.life.has_ended() => Err(End::Refused),
            Sent::Arrived if place.member.id != to.id => Err(End::Gone),
            Sent::Arrived => Ok(place),
            Sent::Lost | Sent::Cut => {
                self.world.clock.sleep(CONNECT).await;
                Err(End::Broken)
            }
            Sent::Dead => Err(End::Broken),
        }
    }

    /// What `place` hears, in order, until the wire or one of the processes breaks.
    fn carry_words(&self, place: &Place, said: Speech) -> BoxStream<'static, Said> {
        let (wire, life, node) = (self.clone(), place.life.clone(), place.member.id);
        let carried = said.map(move |said| {
            let (wire, life) = (wire.clone(), life.clone());
            async move {
                wire.pass(&life, wire.me, node).await.ok()?;
                wire.world.trace(ASSIGN, wire.me, node, &digest(&said).to_le_bytes());
                Some(said)
            }
        });
        let whole =
            carried.buffered(IN_FLIGHT).take_while(|said| std::future::ready(said.is_some()));
        whole.filter_map(std::future::ready).boxed()
    }

    /// The news that a stream ended travels like anything else, and through a cut wire only the keep-alive tells.
    async fn hear_end(&self, from: NodeId, towards: NodeId) {
        let board = &self.world.board;
        if board.fault(from, towards).cut {
            return self.world.clock.sleep(KEEP_ALIVE).await;
        }
        let late = match board.passage(from, towards) {
            Passage::After(late) => late,
            Passage::Lost => RETRANSMISSION,
        };
        self.world.clock.sleep(self.world.draw_latency() + late).await;
    }
}

impl Lines for Wire {
    fn open(&self, to: &Member, said: Speech) -> BoxFuture<'static, Result<Answers, End>> {
        let (wire, to) = (self.clone(), to.clone());
        async move {
            let place = wire.dial_place(&to).await?;
            let mut heard = wire.carry_words(&place, said);
            let hello = heard.next().await.ok_or(End::Broken)?;
            let (outbox, answers) = mpsc::unbounded_channel();
            let stream = wire.world.number();
            let back = Arc::new(WayBack { wire: wire.clone(), thief: place.clone() });
            let upstream = Upstream::new(&hello, to.id, stream, outbox, back);
            place.tell(Input::UpstreamOpened(upstream));
            place.note_connected();
            tokio::spawn(read(wire.clone(), place.clone(), stream, heard));
            let (back, node, life) = (wire.clone(), to.id, place.life.clone());
            let answers = UnboundedReceiverStream::new(answers).map(move |answer| {
                let (wire, life) = (back.clone(), life.clone());
                async move {
                    wire.pass(&life, node, wire.me).await.map_err(|_| End::Broken)?;
                    let answer = answer.map_err(|status| end_of(&status))?;
                    wire.world.trace(ASSIGNED, node, wire.me, &digest(&answer).to_le_bytes());
                    Ok(answer)
                }
            });
            let end = stream::once(async move {
                wire.hear_end(node, wire.me).await;
                Err(End::Broken)
            });
            Ok(answers.buffered(IN_FLIGHT).chain(end).boxed())
        }
        .boxed()
    }
}

/// What the member reads, until its own end or that of the stream.
async fn read(wire: Wire, place: Place, stream: u64, mut heard: BoxStream<'static, Said>) {
    loop {
        let said = tokio::select! {
            biased;
            () = place.life.over() => return,
            said = heard.next() => said,
        };
        let Some(said) = said else { break };
        let words = upstream::words(said, &place.config.limits);
        place.tell(Input::FromUpstream(stream, words));
    }
    wire.hear_end(wire.me, place.member.id).await;
    place.tell(Input::UpstreamClosed(stream));
    place.note_connected();
}

/// How an idle node reaches the leader whose stream it has.
struct WayBack {
    wire: Wire,
    thief: Place,
}

impl Back for WayBack {
    fn ask_for_work(&self, asked: WorkAsked) {
        let back = self.wire.reversed(&self.thief);
        let leader = self.wire.world.place_of(self.wire.me);
        tokio::spawn(async move {
            let Some(leader) = leader else { return };
            let sent = back.carry(&leader.life, back.me, asked.leader).await;
            if matches!(sent, Sent::Arrived) && leader.leads() {
                back.world.trace(WORK, back.me, asked.leader, &[]);
                let WorkAsked { thief, free_slots, cpu_available, .. } = asked;
                let asked = Event::WorkAsked { thief, free_slots, cpu_available };
                leader.tell(Input::Core(asked));
            }
        });
    }
}
