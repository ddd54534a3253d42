//! What `InjectFaults` does to this node, and the rows of history that say so.

use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use crate::error::{Error, Result};
use crate::node::clock::RATES;
use crate::node::faults::{LinkFault, MAX_DELAY};
use crate::node::proto as pb;
use crate::node::shared::Shared;
use std::time::Duration;
use tonic::Status;

/// Makes and mends faults, all of them or none.
pub fn inject(shared: &Shared, request: pb::InjectFaultsRequest) -> Result<(), Status> {
    if !shared.allow_faults {
        let error = Error::FaultInjectionDisabled { node: shared.me.name.clone() };
        return Err(Status::permission_denied(error.to_string()));
    }
    let invalid = |error: Error| Status::invalid_argument(error.to_string());
    let links = request.links.iter().map(|link| link_in(link, shared.me.id));
    let links = links.collect::<Result<Vec<_>>>().map_err(invalid)?;
    let rate = request.clock_rate.map(check_rate).transpose().map_err(invalid)?;
    let mut rows = Vec::new();
    if request.heal {
        shared.gate.board().heal();
        rows.extend(set_clock(shared, 1.0));
    }
    for (from, to, fault) in links {
        let before = shared.gate.board().fault(from, to);
        shared.gate.board().set(from, to, fault).map_err(invalid)?;
        // Whoever speaks writes it down, so that every fault is one row in the history of the cluster.
        if from == shared.me.id {
            rows.extend(changes(before, fault, to));
        }
    }
    if let Some(rate) = rate {
        rows.extend(set_clock(shared, rate));
    }
    if request.quiet {
        rows.clear();
    }
    if !request.note.is_empty() {
        rows.push(Record::new(RecordKind::Fault).detail(request.note));
    }
    for row in rows {
        shared.record(row);
    }
    Ok(())
}

/// Every faulty direction this node is an end of.
pub fn links_out(shared: &Shared) -> Vec<pb::LinkFault> {
    let out = |(from, to, fault): (NodeId, NodeId, LinkFault)| pb::LinkFault {
        from_node: from.0,
        to_node: to.0,
        cut: fault.cut,
        drop_ratio: fault.drop_ratio,
        delay_s: fault.delay.as_secs_f64(),
        jitter_s: fault.jitter.as_secs_f64(),
    };
    shared.gate.board().faults().into_iter().map(out).collect()
}

fn link_in(link: &pb::LinkFault, me: NodeId) -> Result<(NodeId, NodeId, LinkFault)> {
    let (from, to) = (NodeId(link.from_node), NodeId(link.to_node));
    if (from == me) == (to == me) || from.0 == 0 || to.0 == 0 {
        let problem = format!("{from} -> {to}: exactly one end must be this node, {me}");
        return Err(Error::config("links", problem));
    }
    let fault = LinkFault {
        cut: link.cut,
        drop_ratio: link.drop_ratio,
        delay: seconds("delay_s", link.delay_s)?,
        jitter: seconds("jitter_s", link.jitter_s)?,
    };
    fault.check()?;
    Ok((from, to, fault))
}

fn seconds(field: &str, value: f64) -> Result<Duration> {
    let most = MAX_DELAY.as_secs_f64();
    if (0.0..=most).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Error::config(field, format!("{value} is out of bounds; it must lie in [0, {most}]")))
}

fn check_rate(rate: f64) -> Result<f64> {
    let (least, most) = RATES;
    if (least..=most).contains(&rate) {
        return Ok(rate);
    }
    let problem = format!("{rate} is out of bounds; it must lie in [{least}, {most}]");
    Err(Error::config("clock_rate", problem))
}

fn set_clock(shared: &Shared, rate: f64) -> Option<Record> {
    if shared.clock.rate() == rate {
        return None;
    }
    shared.clock.set_rate(rate);
    Some(Record::new(RecordKind::Fault).subject(shared.me.id).value(rate).detail("clock"))
}

/// What became worse or better on the way to `to`.
fn changes(before: LinkFault, after: LinkFault, to: NodeId) -> Vec<Record> {
    let row = |detail: &str, value: f64| {
        Record::new(RecordKind::Fault).subject(to).value(value).detail(detail)
    };
    let mut rows = Vec::new();
    if before.cut != after.cut {
        rows.push(row(if after.cut { "cut" } else { "healed" }, 0.0));
    }
    if (before.delay, before.jitter) != (after.delay, after.jitter) {
        rows.push(row("delayed", after.delay.as_secs_f64()));
    }
    if before.drop_ratio != after.drop_ratio {
        rows.push(row("lossy", after.drop_ratio));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    #[test]
    fn every_change_is_a_row_and_no_change_is_none() {
        let good = LinkFault::default();
        let bad = LinkFault { cut: true, drop_ratio: 0.5, delay: MAX_DELAY, jitter: MAX_DELAY };
        let words = |before, after| {
            let rows = changes(before, after, NodeId(2));
            rows.iter().map(|row| (row.detail.clone(), row.value)).collect::<Vec<_>>()
        };
        let row = |detail: &str, value| (detail.to_owned(), value);
        assert_eq!(words(good, bad), [row("cut", 0.0), row("delayed", 60.0), row("lossy", 0.5)]);
        assert_eq!(words(bad, good), [row("healed", 0.0), row("delayed", 0.0), row("lossy", 0.0)]);
        assert!(words(bad, bad).is_empty());
    }

    #[test]
    fn a_link_has_this_node_at_one_end_and_values_within_bounds() {
        let link = |from_node, to_node| pb::LinkFault { from_node, to_node, ..Default::default() };
        assert!(link_in(&link(1, 2), ME).is_ok() && link_in(&link(2, 1), ME).is_ok());
        for (from, to) in [(1, 1), (2, 3), (0, 1), (1, 0)] {
            let text = link_in(&link(from, to), ME).unwrap_err().to_string();
            assert!(text.starts_with("links: "), "{text}");
        }
        for (field, bad) in [
            ("delay_s", pb::LinkFault { delay_s: 61.0, ..link(1, 2) }),
            ("delay_s", pb::LinkFault { delay_s: f64::NAN, ..link(1, 2) }),
            ("jitter_s", pb::LinkFault { jitter_s: -1.0, ..link(1, 2) }),
            ("drop_ratio", pb::LinkFault { drop_ratio: 1.5, ..link(1, 2) }),
        ] {
            let text = link_in(&bad, ME).unwrap_err().to_string();
            assert!(text.starts_with(field), "{text}");
        }
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 101.0] {
            assert!(check_rate(rate).unwrap_err().to_string().starts_with("clock_rate: "));
        }
    }
}
