//! Who may draw a ticket or go straight through, and how a lost answer draws the same ticket again.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::OnceCell;

use crate::domain::client::ClientPrefix;
use crate::domain::limiter::{Limit, WorkedOffAt};
use crate::domain::names::ClassId;
use crate::domain::time::Mono;
use crate::domain::token::VisitorId;

/// How long the same join id draws the same ticket.
const SAME_TICKET: Duration = Duration::from_secs(60);

/// Codes that one client may type in: one in six seconds on average, ten at once. Guessing one of 2^44 takes for ever.
const CODES: (Duration, u32) = (Duration::from_secs(6), 10);

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
    codes: DashMap<ClientPrefix, WorkedOffAt>,
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

    /// Counts a code that somebody typed in, or says how long this client has to wait for the next one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn count_code(&self, client: ClientPrefix, now: Mono) -> Result<(), Duration> {
        Limit::new(CODES.0, CODES.1).count(&mut self.codes.entry(client).or_default(), now)
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
        self.codes.retain(|_, state| state.0 > now);
        self.by_id.retain(|_, (_, since)| now.since(*since) <= SAME_TICKET);
    }
}
