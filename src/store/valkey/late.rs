//! Those who join while the server is away: what this node issued meanwhile, and their numbers once the server is back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::StoreError;
use super::room::Room;
use super::{Inner, Valkey};
use crate::domain::line::Asks;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::provisional::{Issued, Ledger, Provisional, Row, node_of};
use crate::domain::time::Mono;
use crate::domain::token::VisitorId;

/// How long a node draws no numbers after the server is back: the others report meanwhile, so that whoever came while it
/// was away stands before whoever comes now.
const SETTLE: Duration = Duration::from_secs(1);

/// For how long the table is kept where this node does not know how long a ticket is valid: it let nobody in meanwhile.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Rows reported at once: the server does nothing else meanwhile.
const AT_ONCE: usize = 1000;

/// What a room's part of the store remembers of those who came while the server was away.
#[derive(Debug, Default)]
pub struct Late {
    ledger: Mutex<Kept>,
    /// Until when no number is drawn; 0 when that is over.
    settles_until: AtomicU64,
    /// For how long a ticket is valid, in milliseconds.
    lifetime_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    ledger: Ledger,
    /// Of which line.
    identity: u64,
    /// The run of the server to which all that counts as reported was reported.
    run: String,
}

impl Late {
    fn kept(&self, identity: u64) -> MutexGuard<'_, Kept> {
        let mut kept = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.identity != identity {
            kept.identity = identity;
            kept.ledger.clear();
        }
        kept
    }

    /// The server is back after a while.
    pub fn begin_to_settle(&self, now: Mono) {
        // A server that answers slowly again and again does not put the end off.
        let _ = self.settles_until.compare_exchange(0, (now + SETTLE).0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The server may have lost what it was told.
    pub fn report_again(&self, identity: u64) {
        self.kept(identity).ledger.report_again();
    }

    /// Whether no number is to be drawn yet.
    pub fn is_settling(&self) -> bool {
        self.settles_until.load(Ordering::Relaxed) > 0
    }

    fn lifetime(&self) -> Duration {
        match self.lifetime_ms.load(Ordering::Relaxed) {
            0 => LONGEST,
            known => Duration::from_millis(known),
        }
    }
}

impl Valkey {
    /// See [`super::super::Store::issue`].
    pub fn issue(
        &self,
        name: &RoomName,
        (class, asks): (ClassId, Asks),
        lifetime: Duration,
        came: Mono,
    ) -> Option<Provisional> {
        let room = self.inner.room(name).ok()?;
        let late = room.late();
        late.lifetime_ms.store(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let (mut kept, at) = (late.kept(room.identity()), room.millis(came));
        kept.ledger.issue(class, asks, at).or_else(|| {
            kept.ledger.forget(at, lifetime);
            kept.ledger.issue(class, asks, at)
        })
    }

    /// See [`super::super::Store::give_number`].
    ///
    /// # Errors
    /// See there.
    pub async fn give_number(
        &self,
        name: &RoomName,
        ticket: Provisional,
        id: VisitorId,
        lifetime: Duration,
    ) -> Result<u64, StoreError> {
        let room = self.inner.room(name)?;
        if room.late().is_settling() || !room.hears_of_the_server(self.inner.clock.mono()) {
            return Err(StoreError::Unreachable("the numbers of those who came meanwhile are not known yet".into()));
        }
        self.inner.give_number(&room, ticket, id, lifetime).await
    }
}

impl Inner {
    /// Reports what this node issued, and ends the time in which no number is drawn. Does nothing most of the time.
    ///
    /// # Errors
    /// When the server does not take it; it is to be tried again then.
    pub(super) async fn settle(&self, room: &Room) -> Result<(), StoreError> {
        let late = room.late();
        {
            let (mut kept, run) = (late.kept(room.identity()), room.run());
            if kept.run != run {
                kept.ledger.report_again();
                kept.run = run;
            }
        }
        // All of them before the others' numbers are given.
        loop {
            let rows = late.kept(room.identity()).ledger.to_report(AT_ONCE);
            if rows.is_empty() {
                break;
            }
            self.report(room, &rows).await?;
        }
        let until = late.settles_until.load(Ordering::Relaxed);
        let now = self.clock.mono();
        if until > 0 && now.0 >= until {
            self.ask_late(room, late.lifetime(), "settle", &[]).await?;
            late.settles_until.store(0, Ordering::Relaxed);
            let mut kept = late.kept(room.identity());
            kept.ledger.forget(room.millis(now), late.lifetime());
            // The next report brings the numbers that were given: they are said again if the server loses the table.
            kept.ledger.ask_for_numbers();
            drop(kept);
            room.hurry();
        }
        Ok(())
    }

    async fn report(&self, room: &Room, rows: &[(Row, Issued)]) -> Result<(), StoreError> {
        let late = room.late();
        let words: Vec<Vec<u8>> = rows
            .iter()
            .flat_map(|(row, issued)| {
                let (count, first) = (issued.count.to_string(), issued.first.unwrap_or(0).to_string());
                [name_of(row, self.node.0), count, first].map(String::into_bytes)
            })
            .collect();
        let firsts = self.ask_late(room, late.lifetime(), "report", &words).await?;
        let mut kept = late.kept(room.identity());
        for ((row, _), first) in rows.iter().zip(firsts.into_iter().chain(std::iter::repeat(0))) {
            kept.ledger.reported(*row, Some(first).filter(|first| *first > 0));
        }
        tracing::warn!(room = %room.name(), rows = rows.len(), "those who joined while the store was away are reported to it");
        Ok(())
    }

    async fn give_number(
        &self,
        room: &Room,
        ticket: Provisional,
        id: VisitorId,
        lifetime: Duration,
    ) -> Result<u64, StoreError> {
        let name = name_of(&ticket.row, node_of(&id)).into_bytes();
        let words = [name, ticket.ordinal.to_string().into_bytes(), id.0.to_vec()];
        let numbers = self.ask_late(room, lifetime, "exchange", &words).await?;
        numbers.first().copied().ok_or_else(|| StoreError::Unreachable("the server gave no number".into()))
    }

    async fn ask_late(
        &self,
        room: &Room,
        lifetime: Duration,
        deed: &str,
        words: &[Vec<u8>],
    ) -> Result<Vec<u64>, StoreError> {
        let mut script = self.scripts.late.prepare_invoke();
        let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).max(1);
        script.key(room.base()).arg(self.node.0).arg(room.identity()).arg(room.run()).arg(lifetime).arg(deed);
        for word in words {
            script.arg(word.as_slice());
        }
        let answer: Vec<String> = self.link.run(&script).await?;
        match answer.split_first() {
            Some((word, numbers)) if word == "done" => {
                Ok(numbers.iter().map(|number| number.parse().unwrap_or(0)).collect())
            }
            Some((word, _)) if word == "anew" => {
                Err(StoreError::Unreachable("the server has to be got to know again first".into()))
            }
            _ => Err(StoreError::NotOpen(room.name().clone())),
        }
    }
}

/// What a row is called in the server.
fn name_of(row: &Row, node: u64) -> String {
    format!("{}:{node}:{}:{}", row.slot, row.class.0, if row.plain { 'p' } else { 'w' })
}
