//! The tickets of those whom proofs name, as long as there is a quota for them. Kept in memory only, by keyed hashes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::names::{ClassId, RoomId};
use crate::domain::proof::IdentityHash;
use crate::room::Ticket;

/// Identities remembered at most; beyond that everybody begins anew.
const MOST: usize = 200_000;

type Key = (RoomId, ClassId, IdentityHash);

/// The tickets of each identity in each room.
#[derive(Debug, Default)]
pub struct HeldTickets(Mutex<HashMap<Key, Vec<Ticket>>>);

impl HeldTickets {
    /// How many tickets of an identity still stand in the line, as `stands` says.
    pub fn count(
        &self,
        room: RoomId,
        class: ClassId,
        identity: IdentityHash,
        stands: impl Fn(&Ticket) -> bool,
    ) -> usize {
        let mut all = self.lock();
        let Some(tickets) = all.get_mut(&(room, class, identity)) else { return 0 };
        tickets.retain(stands);
        let count = tickets.len();
        if count == 0 {
            all.remove(&(room, class, identity));
        }
        count
    }

    /// Notes a ticket that was drawn.
    pub fn note(&self, room: RoomId, identity: IdentityHash, ticket: Ticket) {
        let mut all = self.lock();
        if all.len() >= MOST {
            all.clear();
        }
        all.entry((room, ticket.class, identity)).or_default().push(ticket);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Ticket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
