//! The store that several nodes share: a Valkey or Redis server, one line for all of them.
//!
//! The server is the only sequencer. Once a tick each node sends what it has to say in one script, which draws numbers,
//! writes what must last, appends to the room's log and keeps the leader's lease; a second connection reads the log. A
//! node that leads signs its decisions with the lease's fence: what a stopped leader still has to say when it wakes up
//! is refused. No request waits for the server, except for a number.

mod late;
mod link;
mod log;
mod notes;
mod openings;
mod orders;
mod room;
mod server;
mod transfer;

#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transfer_tests;

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Drawn, Exchanged, Fact, Health, Item, Line, News, Notes, NotesMark, Observer, Operation, Part, Role, StoreError,
};
use crate::clock::{Clock, Steer};
use crate::config;
use crate::domain::budget::WHOLE;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::{ClassId, RoomName};
use crate::domain::recent::Bounds;
use crate::domain::time::Mono;
use crate::entropy;
use link::{ANSWER, Link, Scripts};
use orders::Lift;
use room::{Asked, Found, Room};
use server::Server;

/// How long somebody waits for a number, or for an order to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often, and after what pause, a node looks for a line before it begins one.
const LOOKS: u32 = 15;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A server that several nodes share.
pub struct Valkey {
    inner: Arc<Inner>,
}

/// What the tasks of all rooms work with.
struct Inner {
    node: NodeId,
    server: Server,
    link: Link,
    /// For notes, of which there may be many at once.
    notes: Link,
    scripts: Scripts,
    prefix: String,
    alone_for: Option<Duration>,
    clock: Clock,
    observer: Observer,
    health: watch::Sender<Health>,
    rooms: Mutex<HashMap<RoomName, Arc<Room>>>,
    open: watch::Sender<bool>,
}

impl Valkey {
    /// Connects to the server.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unreachable`], in words for the operator.
    pub async fn open(settings: &config::SharedStore, clock: Clock, observer: Observer) -> Result<Valkey, StoreError> {
        let server = Server::of(settings)?;
        let node = entropy::bytes().map_err(|error| StoreError::Unreachable(error.to_string().into()))?;
        let since = clock.mono();
        let inner = Inner {
            node: NodeId(u64::from_be_bytes(node)),
            link: Link::new(server.clone(), ANSWER),
            notes: Link::new(server.clone(), ANSWER),
            server,
            scripts: Scripts::default(),
            prefix: settings.prefix.clone(),
            alone_for: settings.share_for,
            health: watch::Sender::new(Health::Good),
            rooms: Mutex::default(),
            open: watch::Sender::new(true),
            clock,
            observer,
        };
        inner.link.connect().await?;
        inner.clock.follow(inner.time().await?, Steer::AtOnce);
        inner.observe(Operation::Open, since);
        let (sentinels, mut open) = (inner.server.clone().follow_sentinels(), inner.open.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = sentinels => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
        Ok(Valkey { inner: Arc::new(inner) })
    }

    /// See [`super::Store::node`].
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// See [`super::Store::open_line`].
    ///
    /// # Errors
    /// See there.
    pub async fn open_line(&self, name: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        self.inner.is_open()?;
        if let Ok(known) = self.inner.room(name) {
            // What was said before belongs to the answer.
            known.flushed().await.unwrap_or(Err(StoreError::Closed))?;
        }
        let room = Arc::new(Room::new(&self.inner.prefix, name, self.inner.alone_for));
        let found = self.inner.find_line(&room, fresh_identity).await?;
        let mut rooms = self.inner.rooms();
        let known = rooms.contains_key(name);
        if !known {
            room.begin(self.inner.clone(), &found);
            rooms.insert(name.clone(), room);
        }
        Ok(found.line)
    }

    /// See [`super::Store::end_line`].
    ///
    /// # Errors
    /// See there.
    pub async fn end_line(&self, name: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        let room = self.inner.room(name)?;
        let found = self.inner.read_line(&room, fresh_identity, Asked::End).await?;
        room.forget_what_was_said();
        room.restart(&found);
        Ok(found.line)
    }

    /// See [`super::Store::take_number`].
    ///
    /// # Errors
    /// See there.
    pub async fn take_number(&self, name: &RoomName, class: ClassId, drawn: Drawn) -> Result<u64, StoreError> {
        let asked = self.inner.clock.mono();
        let number = self.inner.room(name)?.draw(class, drawn);
        let number = tokio::select! {
            biased;
            number = number => number.unwrap_or(Err(StoreError::Closed)),
            () = self.inner.clock.sleep(PATIENCE) => Err(not_in_time()),
        };
        self.inner.observe(Operation::Number, asked);
        number
    }

    /// See [`super::Store::lift`].
    ///
    /// # Errors
    /// See there.
    pub async fn lift(&self, name: &RoomName, class: ClassId, number: u64) -> Result<(), StoreError> {
        let room = self.inner.room(name)?;
        self.inner.lift(&room, &[(class, number)], Lift::To).await?;
        room.note_drawn(class, number);
        Ok(())
    }

    /// See [`super::Store::exchange`].
    ///
    /// # Errors
    /// See there.
    pub async fn exchange(
        &self,
        name: &RoomName,
        what: &str,
        (before, after): (&[u8], &[u8]),
        keep: Duration,
    ) -> Result<Exchanged, StoreError> {
        let room = self.inner.room(name)?;
        let mut script = self.inner.scripts.exchange.prepare_invoke();
        let longest = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        script.key(room.key(what)).arg(before).arg(after).arg(longest);
        let (is_done, kept): (u8, Vec<u8>) = self.inner.link.run(&script).await?;
        Ok(if is_done == 1 { Exchanged::Done } else { Exchanged::Other(kept) })
    }

    /// See [`super::Store::record`].
    pub fn record(&self, name: &RoomName, fact: Fact) {
        if let Ok(room) = self.inner.room(name) {
            room.say(Item::Fact(fact));
        }
    }

    /// See [`super::Store::tell`].
    pub fn tell(&self, name: &RoomName, said: Said) {
        if let Ok(room) = self.inner.room(name) {
            room.say(Item::Said(said));
        }
    }

    /// See [`super::Store::hurry`].
    pub fn hurry(&self, name: &RoomName) {
        if let Ok(room) = self.inner.room(name) {
            room.hurry();
        }
    }

    /// See [`super::Store::role`].
    pub fn role(&self, name: &RoomName, now: Mono) -> Role {
        self.inner.room(name).map_or(Role::Follows, |room| room.role(now))
    }

    /// See [`super::Store::part`].
    pub fn part(&self, name: &RoomName, now: Mono) -> Part {
        self.inner.room(name).map_or(Part::WithTheStore { permille: WHOLE }, |room| room.part(now))
    }

    /// See [`super::Store::is_there`].
    pub fn is_there(&self, name: &RoomName, now: Mono) -> bool {
        self.inner.room(name).is_ok_and(|room| room.hears_of_the_server(now))
    }

    /// See [`super::Store::answers_promptly`].
    pub fn answers_promptly(&self, name: &RoomName, now: Mono) -> bool {
        self.inner.room(name).is_ok_and(|room| room.answers_promptly(now))
    }

    /// See [`super::Store::millis`].
    pub fn millis(&self, name: &RoomName, now: Mono) -> u64 {
        self.inner.room(name).map_or(0, |room| room.millis(now))
    }

    /// See [`super::Store::possible_millis`].
    pub fn possible_millis(&self, name: &RoomName, now: Mono) -> RangeInclusive<u64> {
        self.inner.room(name).map_or(0..=0, |room| room.possible_millis(now))
    }

    /// See [`super::Store::news`].
    pub fn news(&self, name: &RoomName) -> Option<mpsc::UnboundedReceiver<News>> {
        self.inner.room(name).ok()?.take_news()
    }

    /// See [`super::Store::tell_again`].
    ///
    /// # Errors
    /// See there.
    pub async fn tell_again(&self, name: &RoomName, line: &Line) -> Result<(), StoreError> {
        let room = self.inner.room(name)?;
        let told = self.inner.tell_again(&room, line).await;
        room.has_told();
        told
    }

    /// See [`super::Store::add_notes`].
    ///
    /// # Errors
    /// See there.
    pub async fn add_notes(&self, notes: &[Vec<u8>], bounds: Bounds) -> Result<(), StoreError> {
        self.inner.is_open()?;
        self.inner.add_notes(notes, bounds).await
    }

    /// See [`super::Store::read_notes`].
    ///
    /// # Errors
    /// See there.
    pub async fn read_notes(&self, mark: NotesMark) -> Result<Notes, StoreError> {
        self.inner.is_open()?;
        self.inner.read_notes(mark).await
    }

    /// See [`super::Store::flush`].
    ///
    /// # Errors
    /// See there.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.inner.is_open()?;
        let rooms: Vec<_> = self.inner.rooms().values().cloned().collect();
        let mut all = Ok(());
        for flushed in rooms.iter().map(|room| room.flushed()).collect::<Vec<_>>() {
            all = all.and(flushed.await.unwrap_or(Err(StoreError::Closed)));
        }
        all
    }

    /// See [`super::Store::flush_room`].
    ///
    /// # Errors
    /// See there.
    pub async fn flush_room(&self, name: &RoomName) -> Result<(), StoreError> {
        let flushed = self.inner.room(name)?.flushed();
        tokio::select! {
            biased;
            flushed = flushed => flushed.unwrap_or(Err(StoreError::Closed)),
            () = self.inner.clock.sleep(PATIENCE) => Err(not_in_time()),
        }
    }

    /// See [`super::Store::close`].
    ///
    /// # Errors
    /// See there.
    pub async fn close(&self) -> Result<(), StoreError> {
        let rooms: Vec<_> = self.inner.rooms().values().cloned().collect();
        rooms.iter().for_each(|room| room.resign());
        let flushed = self.flush().await;
        self.inner.open.send_replace(false);
        self.inner.rooms().clear();
        flushed
    }

    /// See [`super::Store::health`].
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    /// Stops as a kill would: nothing more is said, and the lease is not given back.
    #[cfg(test)]
    pub fn abandon(&self) {
        self.inner.open.send_replace(false);
        self.inner.rooms().clear();
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.inner.open.send_replace(false);
    }
}

impl Inner {
    fn rooms(&self) -> std::sync::MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> Result<(), StoreError> {
        if *self.open.borrow() { Ok(()) } else { Err(StoreError::Closed) }
    }

    fn room(&self, name: &RoomName) -> Result<Arc<Room>, StoreError> {
        self.is_open()?;
        self.rooms().get(name).cloned().ok_or_else(|| StoreError::NotOpen(name.clone()))
    }

    /// A server without the line may have lost it a moment ago, and another node may be about to tell it again. So a new
    /// one is begun only after a while.
    async fn find_line(&self, room: &Room, fresh_identity: u64) -> Result<Found, StoreError> {
        for _ in 0..LOOKS {
            match self.read_line(room, fresh_identity, Asked::Look).await {
                Err(StoreError::NotOpen(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                found => return found,
            }
        }
        self.read_line(room, fresh_identity, Asked::Open).await
    }

    fn observe(&self, operation: Operation, since: Mono) {
        (self.observer)(operation, self.clock.mono().since(since));
    }

    /// Notes that the server did its work.
    fn is_well(&self) {
        self.health.send_if_modified(|health| {
            let was_ill = *health != Health::Good;
            *health = Health::Good;
            was_ill
        });
    }

    /// Notes that it did not, since that moment.
    fn is_ill(&self, error: &StoreError, since: Mono) {
        let reason: Arc<str> = error.to_string().into();
        let new = match error {
            StoreError::Full(_) => Health::Full { since, reason },
            _ => Health::Unreachable { since, reason },
        };
        self.health.send_if_modified(|health| {
            let is_news = std::mem::discriminant(health) != std::mem::discriminant(&new);
            if is_news {
                *health = new;
            }
            is_news
        });
    }
}

impl fmt::Debug for Valkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Valkey").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

fn not_in_time() -> StoreError {
    StoreError::Unreachable("the server has not answered in time".into())
}

/// The answer to a flush or a draw.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;
