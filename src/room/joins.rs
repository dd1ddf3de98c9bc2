//! Who may draw a ticket or go straight through, and how a lost answer draws the same ticket again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::OnceCell;

use crate::domain::challenge::{ChallengeId, JoinLimits, Over, REMEMBERED, count_paid};
use crate::domain::client::ClientPrefix;
use crate::domain::limiter::WorkedOffAt;
use crate::domain::names::ClassId;
use crate::domain::recent::{Bounds, Recent};
use crate::domain::time::Mono;
use crate::domain::token::VisitorId;
use crate::domain::wrong_codes::WrongCodes;

/// How long the same join id draws the same ticket.
const SAME_TICKET: Duration = Duration::from_secs(60);

/// How long a move into another class is remembered whose answer may have been lost.
const MOVE_REMEMBERED: Duration = Duration::from_secs(3600);

/// Join ids remembered at most; beyond that a repeated join draws a second ticket, which costs the line nothing.
const MOST_REMEMBERED: usize = 500_000;

/// Challenges that are remembered as used. Whoever used more of them within the time has worked for each.
const CHALLENGES: Bounds = Bounds { entries: 200_000, span: Duration::from_secs(2 * REMEMBERED.as_secs()) };

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
    in_all: Mutex<WorkedOffAt>,
    /// Those who waited instead of working, by client.
    waited: DashMap<ClientPrefix, WorkedOffAt>,
    /// Challenges that were used.
    used: Mutex<Recent<ChallengeId, bool>>,
    wrong_codes: Mutex<WrongCodes>,
    by_id: DashMap<String, (Draw, Mono)>,
    /// Draws of those who move into another class, by the old place.
    moves: DashMap<(ClassId, u64), Vec<Move>>,
    /// The old places of those who moved and have not shown the new ticket yet, by the new place.
    left_behind: DashMap<(ClassId, u64), (Ticket, Mono)>,
}

/// A visitor moves into another class.
#[derive(Debug)]
struct Move {
    into: ClassId,
    draw: Draw,
    since: Mono,
}

impl Joins {
    /// Counts a join, or says how far over a limit it would be; it does not count then.
    ///
    /// # Errors
    /// How far over.
    pub fn count(&self, client: ClientPrefix, limits: JoinLimits, now: Mono) -> Result<(), Over> {
        let mut own = limits.per_client.map(|limit| (limit, self.per_client.entry(client).or_default()));
        let mut all = limits.in_all.map(|limit| (limit, in_all(&self.in_all)));
        let over_own = own.as_ref().and_then(|(limit, state)| Over::of(*limit, **state, now));
        let over_all = all.as_ref().and_then(|(limit, state)| Over::of(*limit, **state, now));
        if over_own.is_some() || over_all.is_some() {
            return Err(over_own.unwrap_or_default().and(over_all.unwrap_or_default()));
        }
        if let Some((limit, state)) = &mut own {
            count_paid(*limit, state, now);
        }
        if let Some((limit, state)) = &mut all {
            count_paid(*limit, state, now);
        }
        Ok(())
    }

    /// Counts a join beyond the limits that was worked for.
    pub fn count_worked(&self, client: ClientPrefix, limits: JoinLimits, now: Mono) {
        if let Some(limit) = limits.per_client {
            count_paid(limit, &mut self.per_client.entry(client).or_default(), now);
        }
        if let Some(limit) = limits.in_all {
            count_paid(limit, &mut in_all(&self.in_all), now);
        }
    }

    /// Counts a join beyond the limits that was waited for: as many again as are free, or waiting would be the cheaper way
    /// to draw any number of tickets.
    ///
    /// # Errors
    /// The time to wait.
    pub fn count_waited(&self, client: ClientPrefix, limits: JoinLimits, now: Mono) -> Result<(), Duration> {
        match limits.per_client {
            Some(limit) => limit.count(&mut self.waited.entry(client).or_default(), now),
            None => Ok(()),
        }
    }

    /// Whether a challenge was used before.
    pub fn is_used(&self, challenge: ChallengeId, now: Mono) -> bool {
        self.used().get(&challenge, CHALLENGES, now).is_some_and(|used| *used)
    }

    /// Notes that a challenge is used now. `false` if it was before.
    pub fn use_up(&self, challenge: ChallengeId, now: Mono) -> bool {
        !std::mem::replace(self.used().entry(challenge, CHALLENGES, now), true)
    }

    fn used(&self) -> MutexGuard<'_, Recent<ChallengeId, bool>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this join id has drawn its ticket within the last minute: asked again, it draws nothing.
    pub fn has_drawn(&self, join_id: &str, now: Mono) -> bool {
        let known = self.by_id.get(join_id);
        known.is_some_and(|known| known.0.initialized() && now.since(known.1) <= SAME_TICKET)
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
        let mut moves = self.moves.entry((old.class, old.number)).or_default();
        if let Some(before) = moves.iter().find(|before| before.into == class) {
            return before.draw.clone();
        }
        let draw = Draw::default();
        moves.push(Move { into: class, draw: draw.clone(), since: now });
        draw
    }

    /// The ticket that was drawn instead of this one in that class already.
    pub fn drawn_instead_of(&self, old: &Ticket, class: ClassId) -> Option<Ticket> {
        let moves = self.moves.get(&(old.class, old.number))?;
        moves.iter().find(|known| known.into == class)?.draw.get().copied()
    }

    /// The same in any class.
    pub fn drawn_instead_of_any(&self, old: &Ticket) -> Option<Ticket> {
        self.moves.get(&(old.class, old.number))?.iter().find_map(|known| known.draw.get().copied())
    }

    /// Notes that whoever holds the old place was given a new one. It is left once the new ticket is seen.
    pub fn moved(&self, old: &Ticket, new: &Ticket, now: Mono) {
        self.left_behind.insert((new.class, new.number), (*old, now));
    }

    /// Another node gave whoever holds the old place a new one: the same is given here to whoever asks again.
    pub fn moved_elsewhere(&self, old: &Ticket, new: &Ticket, now: Mono) {
        if self.moves.len() < MOST_REMEMBERED {
            self.forget_move(old, new.class);
            let draw = Arc::new(OnceCell::new_with(Some(*new)));
            let told = Move { into: new.class, draw, since: now };
            self.moves.entry((old.class, old.number)).or_default().push(told);
            self.moved(old, new, now);
        }
    }

    /// A ticket was shown: the place that was held before it, if that has not been left yet.
    pub fn seen(&self, ticket: &Ticket) -> Option<Ticket> {
        if self.left_behind.is_empty() {
            return None;
        }
        let (_, (old, _)) = self.left_behind.remove(&(ticket.class, ticket.number))?;
        self.forget_move(&old, ticket.class);
        Some(old)
    }

    /// A ticket went in: the place that was given to its visitor elsewhere, of which the visitor never heard.
    pub fn moved_to(&self, old: &Ticket) -> Option<Ticket> {
        if self.moves.is_empty() {
            return None;
        }
        let new = self.drawn_instead_of_any(old)?;
        self.left_behind.remove(&(new.class, new.number));
        self.forget_move(old, new.class);
        Some(new)
    }

    fn forget_move(&self, old: &Ticket, into: ClassId) {
        self.moves.remove_if_mut(&(old.class, old.number), |_, moves| {
            moves.retain(|known| known.into != into);
            moves.is_empty()
        });
    }

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Mono) {
        self.moves.retain(|_, moves| {
            moves.retain(|known| now.since(known.since) <= MOVE_REMEMBERED);
            !moves.is_empty()
        });
        self.left_behind.retain(|_, (_, since)| now.since(*since) <= MOVE_REMEMBERED);
        self.per_client.retain(|_, state| state.0 > now);
        self.waited.retain(|_, state| state.0 > now);
        self.by_id.retain(|_, (_, since)| now.since(*since) <= SAME_TICKET);
    }
}

fn in_all(state: &Mutex<WorkedOffAt>) -> MutexGuard<'_, WorkedOffAt> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
