//! What tasks need and nodes offer, and where nodes stand: into messages, and out of them, checked.

use crate::core::cluster::needs::{Needs, check_labels, check_resources, check_slots};
use crate::core::load::Position;
use crate::node::proto as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels into a message.
pub fn labels_out(labels: &BTreeMap<String, String>) -> Vec<pb::Label> {
    let label =
        |(name, value): (&String, &String)| pb::Label { name: name.clone(), value: value.clone() };
    labels.iter().map(label).collect()
}

/// Labels out of a message; of two with the same name the last counts.
pub fn labels_in(labels: Vec<pb::Label>) -> Result<BTreeMap<String, String>, String> {
    let labels = labels.into_iter().map(|label| (label.name, label.value)).collect();
    check_labels(&labels).map(|()| labels)
}

/// Resources into a message.
pub fn resources_out(resources: &BTreeMap<String, u64>) -> Vec<pb::Resource> {
    let resource = |(name, thousandths): (&String, &u64)| pb::Resource {
        name: name.clone(),
        thousandths: *thousandths,
    };
    resources.iter().map(resource).collect()
}

/// Resources out of a message; of two with the same name the last counts.
pub fn resources_in(resources: Vec<pb::Resource>) -> Result<BTreeMap<String, u64>, String> {
    let resources = resources.into_iter().map(|r| (r.name, r.thousandths)).collect();
    check_resources(&resources).map(|()| resources)
}

/// Needs into a message.
pub fn needs_out(needs: &Needs) -> pb::Needs {
    pb::Needs {
        slots: needs.slots,
        labels: labels_out(&needs.labels),
        resources: resources_out(&needs.resources),
    }
}

/// Needs out of a message; none if they are only a slot.
pub fn needs_in(needs: Option<pb::Needs>) -> Result<Option<Arc<Needs>>, String> {
    let Some(needs) = needs else { return Ok(None) };
    let needs = Needs {
        slots: needs.slots.max(1),
        labels: labels_in(needs.labels)?,
        resources: resources_in(needs.resources)?,
    };
    check_slots(needs.slots)?;
    Ok((!needs.is_plain()).then(|| Arc::new(needs)))
}

/// Refuses positions that are no place.
pub fn check_position(position: Position) -> Result<(), String> {
    let Position { x, y } = position;
    if x.abs() < Position::BOUND && y.abs() < Position::BOUND {
        return Ok(());
    }
    Err(format!(
        "position: ({x}, {y}) is refused; both coordinates must be finite and below {:e}",
        Position::BOUND
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_round_trip_and_plain_ones_are_none() {
        let needs = Needs {
            slots: 2,
            labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]),
            resources: BTreeMap::from([("gpu".to_owned(), 500)]),
        };
        let back = needs_in(Some(needs_out(&needs))).unwrap();
        assert_eq!(back.as_deref(), Some(&needs));
        assert_eq!(needs_in(Some(pb::Needs::default())), Ok(None));
        assert_eq!(needs_in(None), Ok(None));
    }

    #[test]
    fn what_lies_about_itself_is_refused_by_field() {
        let resource = |thousandths| pb::Resource { name: "gpu".to_owned(), thousandths };
        assert!(resources_in(vec![resource(0)]).unwrap_err().contains("gpu=0"));
        assert!(resources_in(vec![resource(u64::MAX)]).unwrap_err().contains("out of bounds"));
        let slots = pb::Needs { slots: 9_999, ..pb::Needs::default() };
        assert!(needs_in(Some(slots)).unwrap_err().contains("slots: 9999"));
        for bad in [f64::NAN, f64::INFINITY, -1e12] {
            let error = check_position(Position { x: 0.0, y: bad }).unwrap_err();
            assert!(error.starts_with("position: "), "{error}");
        }
    }
}
