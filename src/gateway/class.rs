//! Which class a visitor belongs to: what the request proves, within what whom it names may have.

use http::HeaderMap;

use super::Gateway;
use super::call::Call;
use super::snapshot::RoomInForce;
use crate::classes::{Claim, Claimed, Owner, Peer, Permit, RequestFacts, Verdict, claim};
use crate::clock::Clock;
use crate::domain::line::TicketStage;
use crate::domain::names::ClassId;
use crate::domain::quota::Stands;
use crate::domain::token::VisitorId;
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

/// The right to draw a ticket in a class. Where whom the proof names has a quota, it counts as long as it lives.
pub(super) struct MayDraw<'g> {
    pub(super) class: ClassId,
    permit: Option<Permit<'g>>,
    claim: Option<Claim>,
}

/// The class to draw a ticket in: the proven one, unless whom the proof names has all that there may be. Counting and
/// taking are one step, also among nodes that share a line, so that requests at the same time cannot share the last one.
pub(super) async fn class_to_join<'g>(
    gateway: &'g Gateway,
    call: &Call,
    room: &RoomInForce,
    verdict: &Verdict,
) -> MayDraw<'g> {
    let (proven, quota) = (&verdict.proven, verdict.quota);
    let Some(identity) = proven.identity.filter(|_| quota.limits()) else {
        return MayDraw { class: proven.class, permit: None, claim: None };
    };
    let owner = Owner { room: room.settings.id, class: proven.class, identity };
    let stands = |ticket: &Ticket| match room.live.ticket_stage(ticket) {
        _ if room.live.is_still_without_number(ticket, call.now.mono) => Stands::InLine,
        TicketStage::Waiting | TicketStage::Called => Stands::InLine,
        TicketStage::Entered => Stands::Entered,
        TicketStage::Left | TicketStage::Unknown => Stands::Gone,
    };
    if let Some(permit) = gateway.shared.held.take(owner, &quota, stands, call.now.mono) {
        let shared_stands = |number| stands(&Ticket { id: VisitorId([0; 16]), class: proven.class, number });
        match claim(&room.live, &owner, &quota, shared_stands, &gateway.shared.clock).await {
            Claimed::Yes(claim) => return MayDraw { class: proven.class, permit: Some(permit), claim: Some(claim) },
            Claimed::Alone => return MayDraw { class: proven.class, permit: Some(permit), claim: None },
            Claimed::No => {}
        }
    }
    call.snapshot.classes.count_over_quota(proven);
    let (room, class) = (room.settings.name.as_str(), room.live.class_name(proven.class));
    tracing::debug!(room, class = class.as_str(), %identity, "has all that there may be and waits as a citizen");
    MayDraw { class: ClassId::CITIZEN, permit: None, claim: None }
}

/// A ticket was drawn on this proof: a code's use is written down, and the ticket counts for whom the proof names.
pub(super) async fn drawn(
    call: &Call,
    room: &RoomInForce,
    verdict: Verdict,
    may_draw: MayDraw<'_>,
    (ticket, clock): (&Ticket, &Clock),
) {
    if ticket.class != verdict.proven.class {
        return;
    }
    if let Some(permit) = may_draw.permit {
        permit.drawn(*ticket);
    }
    if let Some(claim) = may_draw.claim {
        claim.drawn(&room.live, ticket.number, clock).await;
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
