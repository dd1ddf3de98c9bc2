//! One room's part of the shared store: what this node still has to say, and the two tasks that say and hear it.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::super::{Drawn, Entry, Fact, Item, Line, News, Own, Role, StoreError};
use super::link::{ANSWER, Link};
use super::{Inner, Reply, log};
use crate::clock::Steer;
use crate::domain::mirror::Said;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::time::{Mono, Unix};

/// How often a node says something at least: it keeps the lease by it.
const TICK: Duration = Duration::from_millis(100);

/// What is said in a hurry is said at most this often, so that the server gets tens of commands a second, not thousands.
const SPACING: Duration = Duration::from_millis(20);

/// How long a holder may be sure of the lease after asking for it: well within `LEASE`.
const SURE: Duration = Duration::from_millis(625);

/// A server whose last answer is older than this is slow: a node asks it every tick.
const PROMPT: Duration = Duration::from_millis(250);

/// How long what was said is remembered: longer than it takes to hear it, and than a failover loses.
const LATELY: Duration = Duration::from_secs(10);

/// Items said in one script at most: the server does nothing else meanwhile.
const AT_ONCE: usize = 5000;

/// News are fetched at most this often, several at a time.
const FETCH_SPACING: Duration = Duration::from_millis(5);

/// How long the server waits for news before it answers that there are none.
const LISTEN: Duration = Duration::from_millis(1000);

/// When the server was not heard of for so long, it counts as unreachable.
const SILENCE: Duration = Duration::from_secs(1);

/// What is kept while the server is away; beyond that, presence is dropped, which shows again with the next polls.
const MOST_KEPT: usize = 200_000;

/// What a node asks for when it opens a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The line as it is; nothing when there is none.
    Look,
    /// The line as it is, or a new one.
    Open,
    /// A new line instead.
    End,
}

/// A line as the server has it, and from where in the log it goes on.
#[derive(Clone, Debug)]
pub struct Found {
    /// The line.
    pub line: Line,
    /// The number of the last entry of the log.
    pub seq: u64,
    /// Its identity.
    pub cursor: String,
}

/// What became of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done(Committed),
    /// Another leads by now; nothing was done.
    Fenced,
    /// The server has no such line any more.
    LineGone,
    /// The server has another line for the room.
    AnotherLine,
}

/// What the server did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// When it was asked.
    pub sent: Mono,
    /// When it answered.
    pub heard: Mono,
    /// What its clock showed in between, in milliseconds since 1970.
    pub store_ms: u64,
    /// The fence of our lease; 0 when another leads.
    pub fence: u64,
    /// The first number of each group of draws.
    pub first: Vec<u64>,
}

/// Somebody waits for a number.
#[derive(Debug)]
struct Draw {
    class: ClassId,
    drawn: Drawn,
    reply: Reply<u64>,
}

/// Those who wait for numbers, in the order in which they came.
#[derive(Debug, Default)]
pub struct Draws(Vec<Draw>);

impl Draws {
    /// Neighbours who want the same, and how many they are.
    pub fn groups(&self) -> Vec<(ClassId, Drawn, u64)> {
        let mut groups: Vec<(ClassId, Drawn, u64)> = Vec::new();
        for draw in &self.0 {
            match groups.last_mut() {
                Some((class, drawn, count)) if (*class, *drawn) == (draw.class, draw.drawn) => *count += 1,
                _ => groups.push((draw.class, draw.drawn, 1)),
            }
        }
        groups
    }

    /// Hands out the numbers; `first` has the first one of each group.
    fn answer(self, first: &[u64]) {
        let groups = self.groups();
        let numbers = groups.iter().zip(first).flat_map(|((_, _, count), first)| *first..first.saturating_add(*count));
        for (draw, number) in self.0.into_iter().zip(numbers) {
            // Whoever asked may have gone; the number is lost then, which costs nobody anything.
            let _ = draw.reply.send(Ok(number));
        }
    }
}

#[derive(Debug, Default)]
struct ToSay {
    items: Vec<Item>,
    /// The fence under which the decisions among them were made.
    decided: u64,
    draws: Draws,
    flushes: Vec<Reply<()>>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Room {
    name: RoomName,
    base: String,
    to_say: Mutex<ToSay>,
    hurry: Notify,
    identity: AtomicU64,
    seq: AtomicU64,
    fence: AtomicU64,
    leads_until: AtomicU64,
    answered_at: AtomicU64,
    willing: AtomicBool,
    /// The server has lost the line, and is being told it.
    is_telling: AtomicBool,
    /// The server's clock less our monotonic one, in milliseconds.
    ahead_ms: AtomicI64,
    run: Mutex<Option<String>>,
    /// What was said lately, to be said again when the server may have lost it before all had heard it.
    lately: Mutex<VecDeque<(Mono, Vec<Item>)>>,
    news: mpsc::UnboundedSender<News>,
    news_to_take: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
    restarts: Notify,
    restarted: Mutex<Option<(u64, String)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// A room of which nothing was read yet. The braces keep all of its keys on one node of a cluster.
    pub fn new(prefix: &str, name: &RoomName) -> Room {
        let (news, news_to_take) = mpsc::unbounded_channel();
        Room {
            name: name.clone(),
            base: format!("{prefix}:{{{name}}}:"),
            to_say: Mutex::default(),
            hurry: Notify::new(),
            identity: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            leads_until: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            willing: AtomicBool::new(true),
            is_telling: AtomicBool::new(false),
            ahead_ms: AtomicI64::new(0),
            run: Mutex::new(None),
            lately: Mutex::default(),
            news,
            news_to_take: Mutex::new(Some(news_to_take)),
            restarts: Notify::new(),
            restarted: Mutex::new(None),
        }
    }

    /// Begins to say and hear, from where the line was found.
    pub fn begin(self: &Arc<Self>, inner: Arc<Inner>, found: &Found) {
        self.take_over(found);
        tokio::spawn(until_closed(inner.clone(), Box::pin(speak(inner.clone(), self.clone()))));
        let (seq, cursor) = (found.seq, found.cursor.clone());
        tokio::spawn(until_closed(inner.clone(), Box::pin(listen(inner, self.clone(), seq, cursor))));
    }

    fn take_over(&self, found: &Found) {
        self.identity.store(found.line.identity, Ordering::Relaxed);
        self.seq.store(found.seq, Ordering::Relaxed);
    }

    /// From now on the line is the one that was found.
    pub fn restart(&self, found: &Found) {
        self.take_over(found);
        *locked(&self.restarted) = Some((found.seq, found.cursor.clone()));
        self.restarts.notify_one();
    }

    /// The line has ended: what was said of it does not count for the next one.
    pub fn forget_what_was_said(&self) {
        locked(&self.to_say).items.clear();
        locked(&self.lately).clear();
    }

    /// The room.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// What all of its keys begin with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One of its keys.
    pub fn key(&self, what: &str) -> String {
        format!("{}{what}", self.base)
    }

    /// The key of a page of tickets.
    pub fn page(&self, class: u8, number: u64) -> String {
        format!("{}page:{class}:{number}", self.base)
    }

    /// The line's identity.
    pub fn identity(&self) -> u64 {
        self.identity.load(Ordering::Relaxed)
    }

    /// The number of the last entry heard.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// Whether this node would lead.
    pub fn is_willing(&self) -> bool {
        self.willing.load(Ordering::Relaxed)
    }

    /// Gives the lease back with the next words.
    pub fn resign(&self) {
        self.willing.store(false, Ordering::Relaxed);
        self.leads_until.store(0, Ordering::Relaxed);
    }

    /// Whether this is the run of the server that was known.
    pub fn knows_run(&self, run: &str) -> bool {
        locked(&self.run).as_deref() == Some(run)
    }

    /// Notes the run of the server. After another one, the server may have lost its last writes.
    pub fn note_run(&self, run: String, now: Mono) {
        let was_another = locked(&self.run).replace(run).is_some();
        if was_another {
            self.doubt(now);
        }
    }

    /// The server may have lost what was said last: it is said again, and whoever knows the line tells all of it.
    fn doubt(&self, now: Mono) {
        let mut again: Vec<Item> = locked(&self.lately).drain(..).flat_map(|(_, items)| items).collect();
        if self.role(now) == Role::Follows {
            again.retain(|item| !is_decision(item));
        }
        let mut to_say = locked(&self.to_say);
        if again.iter().any(is_decision) {
            to_say.decided = self.fence.load(Ordering::Relaxed);
        }
        let newer = std::mem::replace(&mut to_say.items, again);
        to_say.items.extend(newer);
        drop(to_say);
        self.hear(News::Doubtful);
    }

    /// Remembers for a while what was said and matters longer than for a moment.
    fn remember(&self, said: Vec<Item>, now: Mono) {
        let matters =
            |item: &Item| matches!(item, Item::Fact(_) | Item::Said(Said::Unspent { .. } | Said::Extended { .. }));
        let mut lately = locked(&self.lately);
        lately.push_back((now, said.into_iter().filter(matters).collect()));
        while lately.front().is_some_and(|(at, _)| now.since(*at) > LATELY) {
            lately.pop_front();
        }
    }

    /// The server was told the line, or could not be.
    pub fn has_told(&self) {
        self.is_telling.store(false, Ordering::Relaxed);
    }

    /// Whether this node leads at `now`.
    pub fn role(&self, now: Mono) -> Role {
        if now.0 < self.leads_until.load(Ordering::Relaxed) { Role::Leads } else { Role::Follows }
    }

    /// Whether the server answered lately.
    pub fn answers_promptly(&self, now: Mono) -> bool {
        now.since(Mono(self.answered_at.load(Ordering::Relaxed))) <= PROMPT
    }

    /// What is heard, for the one who takes it first.
    pub fn take_news(&self) -> Option<mpsc::UnboundedReceiver<News>> {
        locked(&self.news_to_take).take()
    }

    /// Something to say.
    pub fn say(&self, item: Item) {
        let mut to_say = locked(&self.to_say);
        if is_decision(&item) {
            to_say.decided = self.fence.load(Ordering::Relaxed);
        }
        if to_say.items.len() < MOST_KEPT || !matches!(item, Item::Said(Said::Heard { .. })) {
            to_say.items.push(item);
        }
    }

    /// Says it soon.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// A number, as soon as the server gives one.
    pub fn draw(&self, class: ClassId, drawn: Drawn) -> oneshot::Receiver<Result<u64, StoreError>> {
        let (reply, number) = oneshot::channel();
        locked(&self.to_say).draws.0.push(Draw { class, drawn, reply });
        self.hurry();
        number
    }

    /// Becomes ready when all that was said before is written.
    pub fn flushed(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, flushed) = oneshot::channel();
        locked(&self.to_say).flushes.push(reply);
        self.hurry();
        flushed
    }

    /// What is said next: not so much that the server is held up. Whoever waits for all to be said waits for the last part.
    fn take(&self) -> ToSay {
        let mut waiting = locked(&self.to_say);
        let mut to_say = std::mem::take(&mut *waiting);
        if to_say.items.len() > AT_ONCE {
            waiting.items = to_say.items.split_off(AT_ONCE);
            waiting.decided = to_say.decided;
            waiting.flushes = std::mem::take(&mut to_say.flushes);
            self.hurry();
        }
        drop(waiting);
        // Whoever no longer waits for a number needs none.
        to_say.draws.0.retain(|draw| !draw.reply.is_closed());
        to_say
    }

    /// What could not be said is said first the next time.
    fn put_back(&self, mut unsaid: ToSay) {
        let mut to_say = locked(&self.to_say);
        let newer = std::mem::take(&mut *to_say);
        unsaid.items.extend(newer.items);
        if unsaid.items.len() > MOST_KEPT {
            unsaid.items.retain(|item| !matches!(item, Item::Said(Said::Heard { .. })));
            keep_last_of_each_seat(&mut unsaid.items);
        }
        unsaid.draws.0.extend(newer.draws.0);
        unsaid.flushes.extend(newer.flushes);
        let decided = unsaid.decided.max(newer.decided);
        *to_say = ToSay { decided, ..unsaid };
    }

    fn hear(&self, news: News) {
        // When nobody listens any more, the room is going away.
        let _ = self.news.send(news);
    }

    fn done(&self, done: &Committed) {
        if done.fence > 0 && self.is_willing() {
            self.fence.store(done.fence, Ordering::Relaxed);
            self.leads_until.store((done.sent + SURE).0, Ordering::Relaxed);
        } else {
            self.leads_until.store(0, Ordering::Relaxed);
        }
        self.answered_at.store(done.sent.0, Ordering::Relaxed);
        let middle_ms = (done.sent.0 / 2 + done.heard.0 / 2) / 1_000_000;
        self.ahead_ms.store(done.store_ms.cast_signed() - middle_ms.cast_signed(), Ordering::Relaxed);
    }

    /// What the server's clock shows.
    pub fn millis(&self, now: Mono) -> u64 {
        (now.0 / 1_000_000).saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// Runs a task until the store is closed.
async fn until_closed(inner: Arc<Inner>, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
    let mut open = inner.open.subscribe();
    tokio::select! {
        () = task => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

/// Says what there is to say, once a tick and when somebody is in a hurry.
async fn speak(inner: Arc<Inner>, room: Arc<Room>) {
    let mut last_heard = inner.clock.mono();
    loop {
        tokio::select! {
            () = room.hurry.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        if speak_once(&inner, &room, &mut last_heard).await.is_err() {
            tokio::time::sleep(TICK).await;
        }
        tokio::time::sleep(SPACING).await;
    }
}

async fn speak_once(inner: &Inner, room: &Room, last_heard: &mut Mono) -> Result<(), StoreError> {
    let said = room.take();
    match inner.commit(room, &said.draws, &said.items, said.decided).await {
        Ok(Outcome::Done(done)) => {
            room.done(&done);
            *last_heard = done.heard;
            inner.clock.follow(Unix(room.millis(inner.clock.mono())), Steer::Slowly);
            inner.is_well();
            said.draws.answer(&done.first);
            room.remember(said.items, done.heard);
            said.flushes.into_iter().for_each(|flush| drop(flush.send(Ok(()))));
            Ok(())
        }
        Ok(outcome) => {
            room.leads_until.store(0, Ordering::Relaxed);
            room.put_back(without_decisions(said));
            step_back(inner, room, outcome).await
        }
        Err(error) => {
            let mut said = said;
            let flushes = std::mem::take(&mut said.flushes);
            flushes.into_iter().for_each(|flush| drop(flush.send(Err(error.clone()))));
            room.put_back(said);
            let now = inner.clock.mono();
            let refused = !matches!(error, StoreError::Unreachable(_));
            if refused || now.since(*last_heard) > SILENCE {
                inner.is_ill(&error, now);
            }
            Err(error)
        }
    }
}

/// Another leads, or the line is not the one we know.
async fn step_back(inner: &Inner, room: &Room, outcome: Outcome) -> Result<(), StoreError> {
    if outcome == Outcome::LineGone {
        // The line is begun again only with its counters, by whoever knows them: no number may be drawn before that.
        if !room.is_telling.swap(true, Ordering::Relaxed) {
            tracing::error!(room = %room.name, "the store has lost the line; this node tells it what it knows");
            room.doubt(inner.clock.mono());
        }
        return Err(StoreError::Unreachable("the store has lost the line".into()));
    }
    if outcome == Outcome::AnotherLine {
        room.forget_what_was_said();
    } else {
        // What nobody disputes is said first, so that the line is read with it.
        let said = room.take();
        match inner.commit(room, &Draws::default(), &said.items, 0).await {
            Ok(Outcome::Done(_)) => room.put_back(ToSay { items: Vec::new(), ..said }),
            _ => room.put_back(said),
        }
    }
    let found = inner.read_line(room, room.identity(), Asked::Look).await?;
    room.restart(&found);
    room.hear(News::Anew(Box::new(found.line)));
    Ok(())
}

/// What is said of a seat replaces what was said of it before.
fn keep_last_of_each_seat(items: &mut Vec<Item>) {
    let mut later = HashSet::new();
    let mut last: Vec<Item> = items
        .drain(..)
        .rev()
        .filter(|item| match item {
            Item::Fact(Fact::Seat { id, .. } | Fact::SeatGone { id, .. }) => later.insert(*id),
            _ => true,
        })
        .collect();
    last.reverse();
    *items = last;
}

/// Whether only the leader may say it.
fn is_decision(item: &Item) -> bool {
    match item {
        Item::Fact(fact) => fact.is_decision(),
        Item::Said(said) => said.is_decision(),
        Item::Drawn { .. } => false,
    }
}

/// What others than the leader may say of it.
fn without_decisions(said: ToSay) -> ToSay {
    ToSay { items: said.items.into_iter().filter(|item| !is_decision(item)).collect(), decided: 0, ..said }
}

/// Hears what all nodes say, in order.
async fn listen(inner: Arc<Inner>, room: Arc<Room>, mut seq: u64, mut cursor: String) {
    let link = Link::new(inner.server.clone(), LISTEN + ANSWER);
    loop {
        let wait = u64::try_from(LISTEN.as_millis()).unwrap_or(0);
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(256).arg("BLOCK").arg(wait).arg("STREAMS").arg(room.key("log")).arg(&cursor);
        let read: Result<Value, StoreError> = tokio::select! {
            read = link.ask(&command) => read,
            () = room.restarts.notified() => Ok(Value::Nil),
        };
        if let Some((new_seq, new_cursor)) = locked(&room.restarted).take() {
            (seq, cursor) = (new_seq, new_cursor);
            continue;
        }
        let entries = match read {
            Ok(answer) => log::entries(&answer),
            Err(_) => {
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        for entry in entries {
            match entry {
                Some(entry) if entry.seq <= seq + 1 => {
                    if entry.seq <= seq {
                        room.doubt(inner.clock.mono());
                    }
                    (seq, cursor) = (entry.seq, entry.id.clone());
                    room.seq.store(seq, Ordering::Relaxed);
                    room.hear(News::Entry(heard(&inner, entry)));
                }
                _ => {
                    if let Ok(found) = inner.read_line(&room, room.identity(), Asked::Look).await {
                        (seq, cursor) = (found.seq, found.cursor.clone());
                        room.take_over(&found);
                        room.hear(News::Anew(Box::new(found.line)));
                    } else {
                        tokio::time::sleep(TICK).await;
                    }
                    break;
                }
            }
        }
        tokio::time::sleep(FETCH_SPACING).await;
    }
}

fn heard(inner: &Inner, entry: log::LogEntry) -> Entry {
    let own = match (entry.node == inner.node, entry.fence) {
        (false, _) => Own::Others,
        (true, 0) => Own::AsFollower,
        (true, _) => Own::AsLeader,
    };
    Entry { from: entry.node, own, items: entry.items }
}

#[cfg(test)]
mod tests {
    use super::super::orders::LEASE;
    use super::*;

    const CLASS: ClassId = ClassId(7);

    #[tokio::test]
    async fn numbers_are_handed_out_in_the_order_of_asking() {
        let mut draws = Draws::default();
        let mut waiting = Vec::new();
        for drawn in
            [Drawn::ToEnter, Drawn::ToEnter, Drawn::ToWait(crate::domain::line::Asks::Scripted), Drawn::ToEnter]
        {
            let (reply, number) = oneshot::channel();
            draws.0.push(Draw { class: CLASS, drawn, reply });
            waiting.push(number);
        }
        let groups = draws.groups();
        assert_eq!(groups.iter().map(|(_, _, count)| *count).collect::<Vec<_>>(), [2, 1, 1]);
        draws.answer(&[10, 12, 13]);
        let mut got = Vec::new();
        for number in waiting {
            got.push(number.await.unwrap().unwrap());
        }
        assert_eq!(got, [10, 11, 12, 13]);
    }

    #[test]
    fn the_fence_of_the_last_lease_stays_on_later_decisions() {
        let room = Room::new("a", &RoomName::new("r").unwrap());
        let done = |fence| Committed { sent: Mono(0), heard: Mono(0), store_ms: 0, fence, first: Vec::new() };
        room.done(&done(4));
        assert_eq!((room.role(Mono(1)), room.role(Mono(0) + LEASE)), (Role::Leads, Role::Follows));
        room.done(&done(0));
        assert_eq!(room.role(Mono(1)), Role::Follows);
        room.say(Item::Fact(super::super::super::Fact::Forget { class: CLASS, through: 1 }));
        assert_eq!(room.take().decided, 4);
    }
}
