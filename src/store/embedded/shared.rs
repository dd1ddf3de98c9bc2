//! What those who ask and the thread that writes share: counters, pending facts and orders, behind one lock that is
//! never held while the disk works.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::super::{Fact, Health, Line, Notes, NotesMark, Observer, Operation, StoreError};
use super::counter::{Counter, Promise};
use super::file::{Mark, RoomBatch};
use super::pending::Pending;
use crate::clock::Clock;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::Opening;
use crate::domain::recent::Bounds;
use crate::domain::time::Mono;

/// A commit that takes longer counts as a disk that does not answer.
const STALL: Duration = Duration::from_secs(2);

/// The answer to an order.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is told to do besides writing facts.
#[derive(Debug)]
pub enum Order {
    /// Write everything now.
    Flush(Reply<()>),
    /// Open the line of a room.
    OpenLine {
        /// The room.
        room: RoomName,
        /// The identity of a new line.
        fresh_identity: u64,
        /// Gets the line.
        reply: Reply<Line>,
    },
    /// End the line of a room and begin a new one.
    EndLine {
        /// The room.
        room: RoomName,
        /// The identity of the new line.
        fresh_identity: u64,
        /// Gets the new line.
        reply: Reply<Line>,
    },
    /// Write down an opening of a room's line.
    NoteOpening {
        /// The room.
        room: RoomName,
        /// The opening.
        opening: Box<Opening>,
        /// Is told when it is durable.
        reply: Reply<()>,
    },
    /// Keep notes.
    AddNotes {
        /// What they say.
        notes: Vec<Vec<u8>>,
        /// How many are kept, and how long.
        bounds: Bounds,
        /// Is told when they are durable.
        reply: Reply<()>,
    },
    /// Read notes.
    ReadNotes {
        /// After this one.
        mark: NotesMark,
        /// Gets them.
        reply: Reply<Notes>,
    },
    /// Write everything, trim the marks and let go of the file. Always the last order.
    Close(Reply<()>),
}

/// What a draw gives.
#[derive(Debug)]
pub enum Draw {
    /// A number at once.
    Number(u64),
    /// A number when the mark is durable.
    Promise(Promise),
}

/// What the writer finds to do.
#[derive(Debug)]
pub enum Work {
    /// It is time to look, or there are orders.
    Orders(Vec<Order>),
    /// Let go of the file and write nothing.
    Abandoned,
}

/// How the marks of a batch are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Ahead of use, where that is wanted.
    AsWanted,
    /// Exactly where the counters stand.
    Final,
}

/// What those who ask and the writer share.
pub struct Shared {
    state: Mutex<State>,
    work: Condvar,
    health: watch::Sender<Health>,
    clock: Clock,
    observer: Observer,
}

#[derive(Default)]
struct State {
    rooms: HashMap<RoomName, OpenRoom>,
    orders: Vec<Order>,
    stage: Stage,
    /// Somebody waits for a number.
    awaited: bool,
    /// When the commit that is under way began.
    committing_since: Option<Mono>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    Closing,
    Abandoned,
}

#[derive(Default)]
struct OpenRoom {
    pending: Pending,
    lanes: HashMap<ClassId, Counter>,
    line: LineStage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineStage {
    #[default]
    Open,
    Ending,
}

/// For those who ask.
impl Shared {
    /// Nothing open yet.
    pub fn new(clock: Clock, observer: Observer) -> Shared {
        let (health, _) = watch::channel(Health::Good);
        Shared { state: Mutex::default(), work: Condvar::new(), health, clock, observer }
    }

    /// The clock of the store.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Follows the health.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Tells how long an operation took that began at `since`.
    pub fn observe(&self, operation: Operation, since: Mono) {
        (self.observer)(operation, self.clock.now().mono.since(since));
    }

    /// Draws a number, or stands in line for one.
    pub fn draw(&self, room: &RoomName, class: ClassId) -> Result<Draw, StoreError> {
        let mut state = self.lock();
        let counter = state.counter(room, class)?;
        if let Some(number) = counter.take() {
            return Ok(Draw::Number(number));
        }
        self.notice_stall(&state);
        if let Some(refusal) = refusal(&self.health.borrow()) {
            return Err(refusal);
        }
        let promise = state.counter(room, class)?.wait();
        state.awaited = true;
        self.work.notify_one();
        Ok(Draw::Promise(promise))
    }

    /// Lifts a counter in memory.
    pub fn lift(&self, room: &RoomName, class: ClassId, number: u64) -> Result<(), StoreError> {
        self.lock().counter(room, class).map(|counter| counter.lift(number))
    }

    /// What the counters of a room stand at.
    pub fn counters(&self, room: &RoomName) -> Result<Vec<(ClassId, u64)>, StoreError> {
        let state = self.lock();
        state.running()?;
        let open = state.rooms.get(room).ok_or_else(|| StoreError::NotOpen(room.clone()))?;
        let mut counters: Vec<_> = open.lanes.iter().map(|(class, counter)| (*class, counter.taken())).collect();
        counters.sort_unstable();
        Ok(counters)
    }

    /// Keeps a fact until it is written.
    pub fn record(&self, room: &RoomName, fact: Fact) {
        let mut state = self.lock();
        self.notice_stall(&state);
        if state.stage != Stage::Running {
            return;
        }
        match state.rooms.get_mut(room) {
            Some(open) => open.pending.note(fact),
            None => tracing::warn!(%room, "a fact of a room whose line is not open was dropped"),
        }
    }

    /// Gives the writer an order.
    pub fn order(&self, order: Order) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.running()?;
        if matches!(order, Order::Close(_)) {
            state.stage = Stage::Closing;
        }
        state.orders.push(order);
        self.work.notify_one();
        Ok(())
    }

    /// Tells the writer to let go of the file without another word.
    pub fn abandon(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Running {
            state.stage = Stage::Abandoned;
            self.work.notify_one();
        }
    }

    /// A disk that hangs reports nothing, so those who ask look at how long it has been at work.
    fn notice_stall(&self, state: &State) {
        let Some(since) = state.committing_since else { return };
        if self.clock.now().mono.since(since) > STALL {
            self.fall_ill(Health::Unreachable { since, reason: "the disk does not answer".into() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the writer.
impl Shared {
    /// Waits until there are orders, somebody waits for a number, or `pause` is over.
    pub fn wait_for_work(&self, pause: Duration) -> Work {
        let idle = |state: &mut State| state.stage != Stage::Abandoned && !state.awaited && state.orders.is_empty();
        let waited = self.work.wait_timeout_while(self.lock(), pause, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.stage {
            Stage::Abandoned => Work::Abandoned,
            Stage::Running | Stage::Closing => Work::Orders(std::mem::take(&mut state.orders)),
        }
    }

    /// Takes everything that is to be written.
    pub fn collect(&self, marks: Marks) -> BTreeMap<RoomName, RoomBatch> {
        let now = self.clock.now().mono;
        let mut state = self.lock();
        state.awaited = false;
        let batches = state.rooms.iter_mut().map(|(name, room)| (name.clone(), room.collect(marks, now)));
        batches.filter(|(_, batch)| !batch.facts.is_empty() || !batch.marks.is_empty()).collect()
    }

    /// A commit begins.
    pub fn commit_begins(&self, now: Mono) {
        self.lock().committing_since = Some(now);
    }

    /// Everything collected is durable.
    pub fn committed(&self, batch: &BTreeMap<RoomName, RoomBatch>) {
        let now = self.clock.now().mono;
        let mut state = self.lock();
        state.committing_since = None;
        for (name, RoomBatch { marks, .. }) in batch {
            let awaited = state.rooms.get_mut(name).is_some_and(|room| room.extend(marks, now));
            state.awaited |= awaited;
        }
        self.health.send_if_modified(|health| std::mem::replace(health, Health::Good) != Health::Good);
    }

    /// The disk failed: what was collected goes back, and those who wait for numbers are told.
    pub fn failed(&self, batch: BTreeMap<RoomName, RoomBatch>, why: &StoreError) {
        let since = self.clock.now().mono;
        let mut state = self.lock();
        state.committing_since = None;
        for (name, RoomBatch { facts, .. }) in batch {
            if let Some(room) = state.rooms.get_mut(&name) {
                let newer = std::mem::replace(&mut room.pending, facts);
                room.pending.absorb(newer);
            }
        }
        self.fall_ill(match why {
            StoreError::Full(reason) => Health::Full { since, reason: Arc::clone(reason) },
            StoreError::Unreachable(reason) => Health::Unreachable { since, reason: Arc::clone(reason) },
            other => Health::Unreachable { since, reason: other.to_string().into() },
        });
        state.refuse_all(why);
    }

    /// The line of a room is open: its counters continue at their marks, unless they run already.
    pub fn line_opened(&self, room: &RoomName, line: &mut Line) {
        let now = self.clock.now().mono;
        let mut state = self.lock();
        let open = state.rooms.entry(room.clone()).or_default();
        for (class, lane) in &mut line.lanes {
            let counter = open.lanes.entry(*class);
            lane.mark = counter.or_insert_with(|| Counter::continuing_after(lane.mark, now)).taken();
        }
    }

    /// The line of a room is about to end: it gives no more numbers.
    pub fn line_ending(&self, room: &RoomName) {
        if let Some(open) = self.lock().rooms.get_mut(room) {
            open.line = LineStage::Ending;
            open.refuse(&StoreError::NotOpen(room.clone()));
        }
    }

    /// The old line has ended and a new one has begun.
    pub fn line_ended(&self, room: &RoomName) {
        self.lock().rooms.insert(room.clone(), OpenRoom::default());
    }

    /// The old line could not be ended and goes on.
    pub fn line_goes_on(&self, room: &RoomName) {
        if let Some(open) = self.lock().rooms.get_mut(room) {
            open.line = LineStage::Open;
        }
    }

    /// The writer is gone: nobody waits for it any more.
    pub fn retire(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Running {
            let since = self.clock.now().mono;
            self.fall_ill(Health::Unreachable { since, reason: "the store has stopped; restart the program".into() });
        }
        state.stage = Stage::Abandoned;
        state.refuse_all(&StoreError::Closed);
        state.orders.clear();
        state.rooms.clear();
    }

    /// Sets the health, and keeps the time since when it is of that kind.
    fn fall_ill(&self, ill: Health) {
        self.health.send_if_modified(|health| {
            let ill = match (&*health, ill) {
                (Health::Full { since, .. }, Health::Full { reason, .. }) => Health::Full { since: *since, reason },
                (Health::Unreachable { since, .. }, Health::Unreachable { reason, .. }) => {
                    Health::Unreachable { since: *since, reason }
                }
                (_, ill) => ill,
            };
            let news = *health != ill;
            *health = ill;
            news
        });
    }
}

impl State {
    fn running(&self) -> Result<(), StoreError> {
        if self.stage == Stage::Running { Ok(()) } else { Err(StoreError::Closed) }
    }

    fn counter(&mut self, room: &RoomName, class: ClassId) -> Result<&mut Counter, StoreError> {
        self.running()?;
        match self.rooms.get_mut(room) {
            Some(open) if open.line == LineStage::Open => Ok(open.lanes.entry(class).or_default()),
            _ => Err(StoreError::NotOpen(room.clone())),
        }
    }

    fn refuse_all(&mut self, why: &StoreError) {
        self.rooms.values_mut().for_each(|room| room.refuse(why));
    }
}

impl OpenRoom {
    fn collect(&mut self, marks: Marks, now: Mono) -> RoomBatch {
        let lanes = self.lanes.iter();
        let marks = match marks {
            Marks::AsWanted => lanes.filter_map(|(class, lane)| Some((*class, Mark::Ahead(lane.wish(now)?)))).collect(),
            Marks::Final => lanes.map(|(class, lane)| (*class, Mark::Final(lane.taken()))).collect(),
        };
        RoomBatch { facts: std::mem::take(&mut self.pending), marks }
    }

    /// Says whether somebody still waits for a number.
    fn extend(&mut self, marks: &[(ClassId, Mark)], now: Mono) -> bool {
        for (class, mark) in marks {
            if let (Some(counter), Mark::Ahead(mark)) = (self.lanes.get_mut(class), mark) {
                counter.extend(*mark, now);
            }
        }
        self.lanes.values().any(Counter::is_awaited)
    }

    fn refuse(&mut self, why: &StoreError) {
        self.lanes.values_mut().for_each(|lane| lane.refuse(why));
    }
}

/// What somebody is told who would have to wait for a disk that is known to be ill.
fn refusal(health: &Health) -> Option<StoreError> {
    match health {
        Health::Good => None,
        Health::Full { reason, .. } => Some(StoreError::Full(Arc::clone(reason))),
        Health::Unreachable { reason, .. } => Some(StoreError::Unreachable(Arc::clone(reason))),
    }
}
