//! Who may draw a ticket or go straight through, and how a lost answer draws the same ticket again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::OnceCell;

use crate::domain::client::ClientPrefix;
use crate::domain::limiter::{Limit, WorkedOffAt};
use crate::domain::names::ClassId;
use crate::domain::time::Mono;
use crate::domain::token::VisitorId;
use crate::domain::wrong_codes::WrongCodes;

/// How long the same join id draws the same ticket.
const SAME_TICKET: Duration = Duration::from_secs(60);

/// How long a move into another class is remembered whose answer may have been lost.
const MOVE_REMEMBERED: Duration = Duration::from_secs(3600);

/// Join ids remembered at most; beyond that a repeated join draws a second ticket, which costs the line nothing.
const MOST_REMEMBERED: usize = 500_000;

/// A ticket, as the line and the tokens name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose it is.
    pub id: VisitorId,
    /// Its lane.
    pub class: ClassId,
    /// Its number there.
    pub number: u64,
}

impl Ticket {
    /// Whether both stand in one place.
    pub fn is_same_place(&self, other: &Ticket) -> bool {
        (self.class, self.number) == (other.class, other.number)
    }
}

/// Why a ticket is drawn, which says when the same one is given again.
#[derive(Clone, Copy, Debug)]
pub enum Occasion<'a> {
    /// A visitor joins, perhaps with a join id.
    Join(Option<&'a str>),
    /// A visitor moves from this place into another class.
    MoveFrom(&'a Ticket),
}

/// Whether a ticket was drawn just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It was.
    Anew,
    /// It was drawn before, for the same occasion.
    Again,
}

/// Drawn, or being drawn, for one join id.
pub type Draw = Arc<OnceCell<Ticket>>;

/// The joins of one room in the last while.
#[derive(Debug, Default)]
pub struct Joins {
    per_client: DashMap<ClientPrefix, WorkedOffAt>,
    wrong_codes: Mutex<WrongCodes>,
    by_id: DashMap<String, (Draw, Mono)>,
    /// Draws of those who move into another class: from which place, into which class.
    moves: DashMap<(ClassId, u64, ClassId), (Draw, Mono)>,
    /// The old places of those who moved and have not shown the new ticket yet, by the new place.
    left_behind: DashMap<(ClassId, u64), (Ticket, Mono)>,
}

impl Joins {
    /// Counts a join, or says how long this client has to wait for the next one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn count(&self, client: ClientPrefix, limit: Option<Limit>, now: Mono) -> Result<(), Duration> {
        match limit {
            Some(limit) => limit.count(&mut self.per_client.entry(client).or_default(), now),
            None => Ok(()),
        }
    }

    /// The wrong recovery codes of the last while.
    pub fn wrong_codes(&self) -> MutexGuard<'_, WrongCodes> {
        self.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The draw that belongs to a join id: the same one for whoever asks again within a minute.
    pub fn draw(&self, join_id: Option<&str>, now: Mono) -> Draw {
        match join_id {
            Some(id) if self.by_id.len() < MOST_REMEMBERED => {
                let mut entry = self.by_id.entry(id.to_owned()).or_insert_with(|| (Draw::default(), now));
                if now.since(entry.1) > SAME_TICKET {
                    *entry = (Draw::default(), now);
                }
                entry.0.clone()
            }
            _ => Draw::default(),
        }
    }

    /// The draw of whoever moves from a place into another class: the same one for whoever asks again because the answer
    /// was lost.
    pub fn draw_instead_of(&self, old: &Ticket, class: ClassId, now: Mono) -> Draw {
        if self.moves.len() >= MOST_REMEMBERED {
            return Draw::default();
        }
        self.moves.entry((old.class, old.number, class)).or_insert_with(|| (Draw::default(), now)).0.clone()
    }

    /// The ticket that was drawn instead of this one in that class already.
    pub fn drawn_instead_of(&self, old: &Ticket, class: ClassId) -> Option<Ticket> {
        self.moves.get(&(old.class, old.number, class)).and_then(|draw| draw.0.get().copied())
    }

    /// The same in any class.
    pub fn drawn_instead_of_any(&self, old: &Ticket) -> Option<Ticket> {
        let mut moves = self.moves.iter().filter(|entry| (entry.key().0, entry.key().1) == (old.class, old.number));
        moves.find_map(|entry| entry.value().0.get().copied())
    }

    /// Notes that whoever holds the old place was given a new one. It is left once the new ticket is seen.
    pub fn moved(&self, old: &Ticket, new: &Ticket, now: Mono) {
        self.left_behind.insert((new.class, new.number), (*old, now));
    }

    /// A ticket was shown: the place that was held before it, if that has not been left yet.
    pub fn seen(&self, ticket: &Ticket) -> Option<Ticket> {
        if self.left_behind.is_empty() {
            return None;
        }
        let (_, (old, _)) = self.left_behind.remove(&(ticket.class, ticket.number))?;
        self.moves.remove(&(old.class, old.number, ticket.class));
        Some(old)
    }

    /// A ticket went in: the place that was given to its visitor elsewhere, of which the visitor never heard.
    pub fn moved_to(&self, old: &Ticket) -> Option<Ticket> {
        if self.moves.is_empty() {
            return None;
        }
        let new = self.drawn_instead_of_any(old)?;
        self.left_behind.remove(&(new.class, new.number));
        self.moves.remove(&(old.class, old.number, new.class));
        Some(new)
    }

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Mono) {
        self.moves.retain(|_, (_, since)| now.since(*since) <= MOVE_REMEMBERED);
        self.left_behind.retain(|_, (_, since)| now.since(*since) <= MOVE_REMEMBERED);
        self.per_client.retain(|_, state| state.0 > now);
        self.by_id.retain(|_, (_, since)| now.since(*since) <= SAME_TICKET);
    }
}
