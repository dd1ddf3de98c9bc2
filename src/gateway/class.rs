//! Which class a visitor belongs to: what the request proves, within what whom it names may have.

use http::HeaderMap;

use super::Gateway;
use super::call::Call;
use super::snapshot::RoomInForce;
use crate::classes::{Peer, RequestFacts, Verdict};
use crate::domain::line::Asks;
use crate::domain::names::ClassId;
use crate::room::Ticket;

/// What the request proves. Proofs are looked at when a visitor joins, goes straight through or types in a code; whoever
/// has a ticket or pass has the class of that.
pub(super) fn prove(call: &Call, headers: &HeaderMap, code: Option<&str>) -> Verdict {
    let target = call.uri.path_and_query().map_or("/", |target| target.as_str());
    let facts = RequestFacts {
        method: call.method.as_str(),
        host: call.host.to_str().unwrap_or_default(),
        target,
        headers,
        client: call.client.address,
        peer: if call.client.trusted_peer { Peer::Trusted } else { Peer::Stranger },
        certificates: call.connection.client_chain(),
        code,
    };
    call.snapshot.classes.prove(&facts, call.now)
}

/// The class to draw a ticket in: the proven one, unless whom the proof names has all tickets there may be.
pub(super) fn class_to_join(gateway: &Gateway, call: &Call, room: &RoomInForce, verdict: &Verdict) -> ClassId {
    let (proven, Some(most)) = (&verdict.proven, verdict.quota.tickets) else { return verdict.proven.class };
    let Some(identity) = proven.identity else { return proven.class };
    let stands = |ticket: &Ticket| room.live.standing(ticket, Asks::Scripted).is_a_place();
    let held = gateway.shared.held.count(room.settings.id, proven.class, identity, stands);
    if held < most as usize {
        return proven.class;
    }
    call.snapshot.classes.count_over_quota(proven);
    ClassId::CITIZEN
}

/// A ticket was drawn on this proof: a code's use is written down, and the ticket counts for whom the proof names.
pub(super) async fn drawn(gateway: &Gateway, call: &Call, room: &RoomInForce, verdict: Verdict, ticket: &Ticket) {
    if ticket.class != verdict.proven.class {
        return;
    }
    if let (Some(identity), Some(_)) = (verdict.proven.identity, verdict.quota.tickets) {
        gateway.shared.held.note(room.settings.id, identity, *ticket);
    }
    if let Some(reservation) = verdict.reserved {
        let now = call.now;
        // A panic there has been logged.
        let _ = tokio::task::spawn_blocking(move || reservation.confirm(now)).await;
    }
    if let (Some(kind), Some(identity)) = (verdict.proven.kind, verdict.proven.identity) {
        let (room, class) = (room.settings.name.as_str(), room.live.class_name(ticket.class));
        tracing::info!(room, class = class.as_str(), proof = kind.as_str(), %identity, number = ticket.number, "a ticket of a class");
    }
}

/// Whether one class goes before another: it stands before it in the configuration, the citizens and classes that are gone
/// being last.
pub(super) fn goes_before(room: &RoomInForce, class: ClassId, other: ClassId) -> bool {
    let classes = &room.settings.classes;
    let place = |class: ClassId| classes.iter().position(|name| name.id() == class).unwrap_or(classes.len());
    let citizen = ClassId::CITIZEN;
    class != citizen && place(class) < if other == citizen { usize::MAX } else { place(other) }
}
