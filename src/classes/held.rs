//! The tickets and admissions of those whom proofs name, as long as there is a quota for them. Kept in memory only, by
//! keyed hashes. The rule is `domain::quota`'s.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::names::{ClassId, RoomId};
use crate::domain::proof::IdentityHash;
use crate::domain::quota::{Has, Quota, Stands, Taken};
use crate::domain::time::Mono;
use crate::room::Ticket;

/// Identities remembered at most. Whoever comes beyond that waits as a citizen: nobody's count is thrown away.
const MOST: usize = 200_000;
/// Between two looks at all of them for those of whom nothing counts any more; they are only looked for at the bound.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

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
    swept: Option<Mono>,
}

impl All {
    /// Forgets whoever has nothing that counts any more, of this room also those whose tickets stand no more.
    fn sweep(&mut self, room: RoomId, stands: impl Fn(&Ticket) -> Stands, now: Mono) {
        if self.swept.is_some_and(|swept| now.since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        let All { owners, of_ticket, .. } = self;
        owners.retain(|owner, has| {
            // Only its own room knows what became of a ticket.
            let over = has.look(|ticket| if owner.room == room { stands(ticket) } else { Stands::InLine }, now);
            for ticket in over {
                of_ticket.remove(&(owner.room, ticket.class, ticket.number));
            }
            !has.is_empty()
        });
    }
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
        if all.owners.len() >= MOST && !all.owners.contains_key(&owner) {
            all.sweep(owner.room, &stands, now);
            if all.owners.len() >= MOST {
                return None;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::VisitorId;

    const QUOTA: Quota = Quota { tickets: Some(1), admissions: None };

    fn owner(number: usize) -> Owner {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&number.to_be_bytes());
        Owner { room: RoomId(1), class: ClassId(2), identity: IdentityHash(identity) }
    }

    fn ticket(number: usize) -> Ticket {
        Ticket { id: VisitorId([0; 16]), class: ClassId(2), number: number as u64 }
    }

    fn second(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_crowd_of_identities_does_not_make_anybody_begin_anew() {
        let held = HeldTickets::default();
        let take = |number, now| held.take(owner(number), &QUOTA, |_| Stands::InLine, now).is_some();
        for number in 0..MOST {
            held.take(owner(number), &QUOTA, |_| Stands::InLine, second(0)).unwrap().drawn(ticket(number));
        }
        assert!(!take(MOST, second(0)), "there is no room to count this one");
        assert!(!take(0, second(0)), "has one already");
        // Some have gone meanwhile.
        let gone = |ticket: &Ticket| if ticket.number < 10 { Stands::Gone } else { Stands::InLine };
        assert!(held.take(owner(MOST), &QUOTA, gone, second(30)).is_none(), "looked at a moment ago");
        assert!(held.take(owner(MOST), &QUOTA, gone, second(61)).is_some());
        let left = held.lock();
        assert_eq!((left.owners.len(), left.of_ticket.len()), (MOST - 10, MOST - 10));
    }
}
