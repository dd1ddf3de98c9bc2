//! Waiting at the gate: a request that asks to enter, and the grant that lets it.
//!
//! The order in which a grant is made up is the order of what is scarce: first a slot towards the portal, then a seat,
//! then an admission. Nothing waits after the admission. A grant that nobody takes gives all three back.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::seats::Seat;
use super::shared::Granted;
use super::{Inner, Key, LiveRoom, Ticket};
use crate::clock::Clock;
use crate::domain::gate::Came;
use crate::domain::line::{Arrival, Knock, StraightThrough};
use crate::domain::mirror::Said;
use crate::domain::names::ClassId;
use crate::domain::opening::Phase;
use crate::domain::tickets::Number;
use crate::domain::time::{Mono, Now};
use crate::proxy::{Portal, Slot};
use crate::store::{Fact, Role, Script, SeatRecord, Standing, TicketRecord, TicketState};

/// What a request at the gate is told.
#[derive(Debug)]
pub(super) enum Call {
    /// It enters.
    Enter(Grant),
    /// Another request of the same visitor entered; this one follows as a visitor inside.
    Follow,
}

/// A request at the gate.
#[derive(Debug)]
pub(super) struct AtGate {
    ticket: Ticket,
    came: Came,
    call: oneshot::Sender<Call>,
}

/// An entry that is not used yet. Dropped unused, it costs nobody anything.
#[derive(Debug)]
pub struct Grant {
    room: Arc<LiveRoom>,
    ticket: Ticket,
    came: Came,
    seat: Arc<Seat>,
    slot: Option<Slot>,
}

/// A newcomer who goes straight through and draws a number: until this is dropped it counts among those at the gate.
#[derive(Debug)]
pub struct Coming {
    room: Arc<LiveRoom>,
    class: ClassId,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.room.lock().line.expect_no_more(self.class);
    }
}

/// How waiting at the gate ended.
#[derive(Debug)]
pub enum Passed {
    /// The visitor enters now, with this slot towards the portal.
    Entered {
        /// The seat taken.
        seat: Arc<Seat>,
        /// The slot towards the portal.
        slot: Slot,
    },
    /// Another request of the same visitor entered.
    Follows,
    /// Not yet: the place at the gate is kept for a while.
    NotYet,
}

/// A request's place at the gate; dropping it leaves the place to the ticket.
#[derive(Debug)]
pub struct GatePlace {
    room: Arc<LiveRoom>,
    ticket: Ticket,
    came: Came,
    call: oneshot::Receiver<Call>,
    clock: Clock,
}

impl AtGate {
    /// Tells the request; it may have gone.
    pub(super) fn tell(self, call: Call) {
        let _ = self.call.send(call);
    }

    /// Whether the request has gone.
    pub(super) fn has_gone(&self) -> bool {
        self.call.is_closed()
    }
}

/// The requests of a ticket without those that have gone: the seat is the first one's.
pub(super) fn who_is_still_there(mut waiting: Vec<AtGate>) -> Vec<AtGate> {
    waiting.retain(|waiter| !waiter.has_gone());
    waiting
}

impl LiveRoom {
    /// A request under the ticket asks to enter.
    ///
    /// # Errors
    /// [`Arrival::Entered`] or [`Arrival::NotCalled`] when it does not stand at the gate.
    pub fn arrive(self: &Arc<Self>, ticket: Ticket, clock: &Clock, now: Now) -> Result<GatePlace, Arrival> {
        let mut inner = self.lock();
        let key = inner.key(&ticket);
        match inner.line.arrive(key.class, key.number, now.mono) {
            Arrival::AtGate => Ok(self.stand(inner, ticket, Came::Called, clock)),
            refused => Err(refused),
        }
    }

    /// Lets a newcomer go straight through who then draws a number, if any may now.
    pub fn go_straight(self: &Arc<Self>, class: ClassId) -> Option<Coming> {
        let verdict = self.unless_nobody_may(|line| line.go_straight(class));
        (verdict == StraightThrough::Yes).then(|| Coming { room: self.clone(), class })
    }

    /// A newcomer with a number just drawn goes straight to the gate.
    pub fn arrive_straight(self: &Arc<Self>, ticket: Ticket, clock: &Clock, now: Now) -> GatePlace {
        let mut inner = self.lock();
        let key = inner.key(&ticket);
        inner.line.arrive_straight(key.class, key.number, now);
        self.stand(inner, ticket, Came::Straight, clock)
    }

    fn stand(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        ticket: Ticket,
        came: Came,
        clock: &Clock,
    ) -> GatePlace {
        let (sender, call) = oneshot::channel();
        let key = inner.key(&ticket);
        inner.at_gate.entry(key).or_default().push(AtGate { ticket, came, call: sender });
        self.tell_gate(&mut inner);
        GatePlace { room: self.clone(), ticket, came, call, clock: clock.clone() }
    }

    /// Whether a request of this called ticket would be held at the gate.
    pub fn knock(&self, ticket: &Ticket) -> Knock {
        let inner = self.lock();
        let key = inner.key(ticket);
        inner.line.knock(key.class, key.number)
    }

    /// Lets in whoever can enter now, in the order of their tickets.
    pub fn let_in(self: &Arc<Self>, portal: &Portal, now: Now) {
        if self.is_held(&self.settings()) {
            return;
        }
        loop {
            let mut inner = self.lock();
            if self.role(&mut inner, now) == Role::Follows {
                return;
            }
            if inner.openings.phase != Phase::Open {
                return;
            }
            let Some((class, number)) = inner.line.next_at_gate(now.mono) else { return };
            if self.seats_free().is_some_and(|free| free <= inner.others.granted()) {
                return;
            }
            if !inner.at_gate.contains_key(&Key { class, number }) {
                if self.grant_elsewhere(&mut inner, now) == Granted::Nobody {
                    return;
                }
                continue;
            }
            let Some(slot) = portal.try_slot_for_newcomer() else { return };
            let Some(entry) = inner.line.enter_next(now.mono) else { return };
            let key = Key { class: entry.class, number: entry.number };
            let waiting = inner.at_gate.remove(&key).map(who_is_still_there).unwrap_or_default();
            let seat = waiting.first().map(|first| self.take_seat(first, now));
            let number = inner.number(key);
            drop(inner);
            match seat {
                Some(seat) => self.grant(seat, waiting, slot),
                None => self.take_back(key.class, number, Came::Called),
            }
        }
    }

    /// Takes the seat while the line is locked, so that two entries never share the last one.
    pub(super) fn take_seat(&self, first: &AtGate, now: Now) -> Arc<Seat> {
        let standing = if first.came == Came::Straight { Standing::Provisional } else { Standing::Confirmed };
        let Ticket { id, class, number } = first.ticket;
        self.seats.put(id, Seat::new(number, class, self.room_seconds(now), standing))
    }

    /// Hands the entry to the first request of the ticket that is still there; the others follow.
    pub(super) fn grant(self: &Arc<Self>, seat: Arc<Seat>, waiting: Vec<AtGate>, slot: Slot) {
        let Some(AtGate { ticket, came, .. }) = waiting.first() else { return };
        let (ticket, came) = (*ticket, *came);
        self.record_entry(&ticket, seat.record());
        let mut grant = Some(Grant { room: self.clone(), ticket, came, seat, slot: Some(slot) });
        // A recovery code can make two visitors of one place. One of them enters; the other learns that it is taken.
        for waiter in waiting.into_iter().filter(|waiter| waiter.ticket.id == ticket.id) {
            let call = grant.take().map_or(Call::Follow, Call::Enter);
            if let Err(Call::Enter(unused)) = waiter.call.send(call) {
                grant = Some(unused);
            }
        }
    }

    fn record_entry(&self, ticket: &Ticket, seat: SeatRecord) {
        let record = TicketRecord { state: TicketState::Entered, script: Script::Runs };
        // The seat first: whoever hears of the entry looks for it.
        self.record(Fact::Seat { id: ticket.id.0, seat });
        self.record(Fact::Ticket { class: ticket.class, number: ticket.number, record });
    }

    /// An admission reached nobody: budget and turn go back.
    pub(super) fn take_back(&self, class: ClassId, number: Number, came: Came) {
        let mut inner = self.lock();
        let key = Key { class, number: inner.place(class, number) };
        self.tell(Said::Unspent { class, number });
        inner.line.take_back(key.class, key.number);
        let state = match came {
            Came::Called => TicketState::Called,
            Came::Straight => {
                inner.line.leave(key.class, key.number);
                TicketState::Left
            }
        };
        drop(inner);
        if !self.is_shared() || state == TicketState::Left {
            let record = TicketRecord { state, script: Script::Runs };
            self.record(Fact::Ticket { class, number, record });
        }
    }

    fn depart(&self, ticket: &Ticket, came: Came, now: Mono) {
        let mut inner = self.lock();
        let key = inner.key(ticket);
        let others = inner.at_gate.get_mut(&key).map_or(0, |waiting| {
            waiting.retain(|waiter| !waiter.call.is_closed());
            waiting.len()
        });
        if others == 0 {
            inner.at_gate.remove(&key);
        }
        inner.line.depart(key.class, key.number, u32::try_from(others).unwrap_or(u32::MAX), now);
        self.tell_gate(&mut inner);
        if came == Came::Straight {
            inner.line.give_up_straight(key.class, key.number);
            drop(inner);
            let record = TicketRecord { state: TicketState::Left, script: Script::Runs };
            self.record(Fact::Ticket { class: ticket.class, number: ticket.number, record });
        }
    }
}

impl Inner {
    /// Places were given anew: requests at the gate stand by the places of their tickets.
    pub(super) fn stand_by_place(&mut self) {
        let waiting: Vec<AtGate> = self.at_gate.drain().flat_map(|(_, waiting)| waiting).collect();
        for waiter in waiting {
            let key = self.key(&waiter.ticket);
            self.at_gate.entry(key).or_default().push(waiter);
        }
        self.forget_where_others_wait();
    }
}

impl GatePlace {
    /// Waits for the entry, at most `longest`.
    pub async fn wait(mut self, longest: Duration) -> Passed {
        let clock = self.clock.clone();
        let call = tokio::select! {
            biased;
            call = &mut self.call => call.ok(),
            () = clock.sleep(longest) => None,
        };
        match call {
            Some(Call::Enter(grant)) => {
                let (seat, slot) = grant.take();
                match slot {
                    Some(slot) => {
                        self.room.lane_metrics(self.ticket.class).admissions.inc();
                        Passed::Entered { seat, slot }
                    }
                    None => Passed::Follows,
                }
            }
            Some(Call::Follow) => Passed::Follows,
            None => Passed::NotYet,
        }
    }
}

impl Drop for GatePlace {
    fn drop(&mut self) {
        // Closing first makes sure that no grant is sent to a request that is going away.
        self.call.close();
        if let Ok(unused) = self.call.try_recv() {
            drop(unused);
        }
        if self.room.seats.get(&self.ticket.id).is_none() {
            self.room.depart(&self.ticket, self.came, self.clock.mono());
        }
    }
}

impl Grant {
    fn take(mut self) -> (Arc<Seat>, Option<Slot>) {
        (self.seat.clone(), self.slot.take())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.room.seats.free(&self.ticket.id);
            self.room.record(Fact::SeatGone { id: self.ticket.id.0, ended_until: None });
            self.room.take_back(self.ticket.class, self.ticket.number, self.came);
        }
    }
}
