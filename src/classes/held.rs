//! The tickets and admissions of those whom proofs name, as long as there is a quota for them. Kept in memory only, by
//! keyed hashes. The rule is `domain::quota`'s.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::names::{ClassId, RoomId};
use crate::domain::proof::IdentityHash;
use crate::domain::quota::{Has, Quota, Stands, Taken};
use crate::domain::time::Mono;
use crate::room::Ticket;

/// Identities remembered at most; beyond that everybody begins anew.
const MOST: usize = 200_000;

/// Whose tickets, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The room.
    pub room: RoomId,
    /// The class that is proven.
    pub class: ClassId,
    /// Whom the proof names.
    pub identity: IdentityHash,
}

/// The tickets of each identity in each room.
#[derive(Debug, Default)]
pub struct HeldTickets(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    owners: HashMap<Owner, Has<Ticket>>,
    of_ticket: HashMap<(RoomId, ClassId, u64), Owner>,
}

/// The right to draw a ticket; given back unless one is drawn.
#[derive(Debug)]
pub struct Permit<'h> {
    held: &'h HeldTickets,
    owner: Owner,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Used,
}

impl HeldTickets {
    /// Takes the right to draw one more ticket, in one step with the counting; `None` when the owner has all there may be.
    /// `stands` says what became of a ticket.
    pub fn take(
        &self,
        owner: Owner,
        quota: &Quota,
        stands: impl Fn(&Ticket) -> Stands,
        now: Mono,
    ) -> Option<Permit<'_>> {
        let mut all = self.lock();
        if all.owners.len() >= MOST {
            *all = All::default();
        }
        let has = all.owners.entry(owner).or_default();
        let over = has.look(stands, now);
        let taken = has.take(quota);
        for ticket in over {
            all.of_ticket.remove(&(owner.room, ticket.class, ticket.number));
        }
        drop(all);
        // Not made at all where there is none: dropping one gives it back.
        match taken {
            Taken::Yes => Some(Permit { held: self, owner, state: State::Open }),
            Taken::No => None,
        }
    }

    /// A ticket went in.
    pub fn entered(&self, room: RoomId, ticket: &Ticket, now: Mono) {
        let mut all = self.lock();
        let Some(owner) = all.of_ticket.remove(&(room, ticket.class, ticket.number)) else { return };
        if let Some(has) = all.owners.get_mut(&owner) {
            has.entered(ticket, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The ticket was drawn.
    pub fn drawn(mut self, ticket: Ticket) {
        self.state = State::Used;
        let mut all = self.held.lock();
        all.owners.entry(self.owner).or_default().drawn(ticket);
        all.of_ticket.insert((self.owner.room, ticket.class, ticket.number), self.owner);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.state == State::Used {
            return;
        }
        let mut all = self.held.lock();
        if let Some(has) = all.owners.get_mut(&self.owner) {
            has.give_back();
            if has.is_empty() {
                all.owners.remove(&self.owner);
            }
        }
    }
}
