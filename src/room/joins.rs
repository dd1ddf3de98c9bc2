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

/// Drawn, or being drawn, for one join id.
pub type Draw = Arc<OnceCell<Ticket>>;

/// The joins of one room in the last while.
#[derive(Debug, Default)]
pub struct Joins {
    per_client: DashMap<ClientPrefix, WorkedOffAt>,
    wrong_codes: Mutex<WrongCodes>,
    by_id: DashMap<String, (Draw, Mono)>,
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

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Mono) {
        self.per_client.retain(|_, state| state.0 > now);
        self.by_id.retain(|_, (_, since)| now.since(*since) <= SAME_TICKET);
    }
}
