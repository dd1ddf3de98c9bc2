//! One room's part of the shared store: what this node still has to say, and the two tasks that say and hear it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::super::{Drawn, Entry, Fact, Item, Line, News, Order, Own, Part, Role, StoreError, TicketState, VisitorId};
use super::late::Late;
use super::link::{ANSWER, Link};
use super::{Inner, Reply, log};
use crate::clock::Steer;
use crate::domain::budget::WHOLE;
use crate::domain::far_clock::{FarClock, Reading};
use crate::domain::going_alone::{ALONE_AFTER, Claim, goes_on_alone, left_with_the_store, wanted};
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

/// How long it may take to tell the server the line again before it is read.
const TELLING: Duration = Duration::from_secs(1);

/// News are fetched at most this often, several at a time.
const FETCH_SPACING: Duration = Duration::from_millis(5);

/// How long the server waits for news before it answers that there are none.
const LISTEN: Duration = Duration::from_millis(1000);

/// When the server was not heard of for so long, it counts as unreachable.
const SILENCE: Duration = Duration::from_secs(1);

/// What is kept while the server is away; beyond that, presence is dropped, which shows again with the next polls, and of
/// what is told again and again all but the last word.
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
    /// The server was started anew, or another has taken its place; nothing was done.
    Anew(Run),
    /// Another leads by now; nothing was done.
    Fenced,
    /// The server has no such line any more.
    LineGone,
    /// The server has another line for the room.
    AnotherLine,
}

/// A server's life from its start on, and how far its log reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its identity.
    pub id: String,
    /// The number of the last entry of the log.
    pub seq: u64,
    /// Its identity.
    pub cursor: String,
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
    /// Thousandths of the rate that this node may use alone.
    pub given: u32,
    /// What the others may use.
    pub claims: Vec<Claim>,
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
    /// When the server was heard of the last time.
    heard_at: AtomicU64,
    /// The same by the server's clock, in milliseconds.
    answered_ms: AtomicU64,
    /// For how long this node may go on alone, if it may.
    alone_for: Option<Duration>,
    /// Thousandths of the rate that it may use then, and what others may who would do the same.
    given: AtomicU32,
    others: Mutex<Vec<Claim>>,
    /// How far each lane's counter was known to be.
    drawn: Mutex<HashMap<ClassId, u64>>,
    /// The server may have lost what others may use and how far the counters were: it is told with the next words.
    restates: AtomicBool,
    /// Thousandths of the rate that others leave, who may go on alone by now.
    left: AtomicU32,
    willing: AtomicBool,
    /// The server has lost the line, and is being told it.
    is_telling: AtomicBool,
    /// How often the server is to be told the line still.
    telling: AtomicI64,
    has_told: Notify,
    /// What is known of the server's clock.
    far_clock: Mutex<Option<FarClock>>,
    run: Mutex<Option<String>>,
    /// What was said lately, to be said again when the server may have lost it before all had heard it.
    lately: Mutex<VecDeque<(Mono, Vec<Item>)>>,
    news: mpsc::UnboundedSender<News>,
    news_to_take: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
    restarts: Notify,
    restarted: Mutex<Restarted>,
    late: Late,
}

/// From where the log is heard on, other than from where it was heard last.
#[derive(Debug, Default)]
struct Restarted {
    /// Up to here the line was read anew.
    read_anew: Option<Place>,
    /// Another run of the server, whose log may lack the last of what was heard and go on in another way.
    another_run: Option<Place>,
}

/// A place in the log: the number of an entry, and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    seq: u64,
    cursor: String,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// A room of which nothing was read yet. The braces keep all of its keys on one node of a cluster.
    pub fn new(prefix: &str, name: &RoomName, alone_for: Option<Duration>) -> Room {
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
            heard_at: AtomicU64::new(0),
            answered_ms: AtomicU64::new(0),
            alone_for,
            given: AtomicU32::new(0),
            others: Mutex::default(),
            drawn: Mutex::default(),
            restates: AtomicBool::new(false),
            left: AtomicU32::new(WHOLE),
            willing: AtomicBool::new(true),
            is_telling: AtomicBool::new(false),
            telling: AtomicI64::new(0),
            has_told: Notify::new(),
            far_clock: Mutex::new(None),
            run: Mutex::new(None),
            lately: Mutex::default(),
            news,
            news_to_take: Mutex::new(Some(news_to_take)),
            restarts: Notify::new(),
            restarted: Mutex::default(),
            late: Late::default(),
        }
    }

    /// Begins to say and hear, from where the line was found.
    pub fn begin(self: &Arc<Self>, inner: Arc<Inner>, found: &Found) {
        self.heard_at.store(inner.clock.mono().0, Ordering::Relaxed);
        self.take_over(found);
        tokio::spawn(until_closed(inner.clone(), Box::pin(speak(inner.clone(), self.clone()))));
        let from = Place { seq: found.seq, cursor: found.cursor.clone() };
        tokio::spawn(until_closed(inner.clone(), Box::pin(listen(inner, self.clone(), from))));
    }

    fn take_over(&self, found: &Found) {
        let before = self.identity.swap(found.line.identity, Ordering::Relaxed);
        if before != 0 && before != found.line.identity {
            self.forget_what_was_said();
            locked(&self.drawn).clear();
        }
        found.line.lanes.iter().for_each(|(class, lane)| self.note_drawn(*class, lane.mark));
        self.seq.store(found.seq, Ordering::Relaxed);
    }

    /// The lane's counter was seen to be as far as this.
    pub fn note_drawn(&self, class: ClassId, number: u64) {
        let mut drawn = locked(&self.drawn);
        let known = drawn.entry(class).or_default();
        *known = number.max(*known);
    }

    /// From now on the line is the one that was found.
    pub fn restart(&self, found: &Found) {
        self.take_over(found);
        locked(&self.restarted).read_anew = Some(Place { seq: found.seq, cursor: found.cursor.clone() });
        self.restarts.notify_one();
    }

    /// Knows the line by its identity, and never leads.
    pub fn only_writes(&self, identity: u64) {
        self.identity.store(identity, Ordering::Relaxed);
        self.resign();
    }

    /// Whether the log is to be heard from another place on.
    fn is_restarted(&self) -> bool {
        let restarted = locked(&self.restarted);
        restarted.read_anew.is_some() || restarted.another_run.is_some()
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

    /// Those who came while the server was away.
    pub fn late(&self) -> &Late {
        &self.late
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

    /// The run of the server that is known; empty before any is.
    pub fn run(&self) -> String {
        locked(&self.run).clone().unwrap_or_default()
    }

    /// Notes the run of the server. After another one, the server may have lost its last writes: its log is heard from
    /// where it is no longer the same, also what others have said since.
    pub fn note_run(&self, run: Run, now: Mono) {
        let was_another = locked(&self.run).replace(run.id).is_some();
        if !was_another {
            return;
        }
        self.seq.fetch_min(run.seq, Ordering::Relaxed);
        locked(&self.restarted).another_run = Some(Place { seq: run.seq, cursor: run.cursor });
        self.restarts.notify_one();
        self.restates.store(true, Ordering::Relaxed);
        self.doubt(now);
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
        self.telling.fetch_add(1, Ordering::Relaxed);
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

    /// Others said this since: what was said here before of the same is not said again.
    fn forget_what_others_went_on_from(&self, heard: &[Item]) {
        let later: HashSet<About> = heard.iter().filter_map(ends).collect();
        if !later.is_empty() {
            for (_, items) in locked(&self.lately).iter_mut() {
                items.retain(|item| about(item).is_none_or(|about| !later.contains(&about)));
            }
        }
    }

    /// The server was told the line, or could not be.
    pub fn has_told(&self) {
        self.is_telling.store(false, Ordering::Relaxed);
        self.telling.fetch_sub(1, Ordering::Relaxed);
        self.has_told.notify_waiters();
    }

    /// Waits until the server was told all that is to be told again, but not longer than this: what is read before that lacks
    /// what the server has lost.
    async fn told(&self, longest: Duration) {
        let all = async {
            loop {
                let told = self.has_told.notified();
                if self.telling.load(Ordering::Relaxed) <= 0 {
                    break;
                }
                told.await;
            }
        };
        // Whoever does not tell by then is left out.
        let _ = tokio::time::timeout(longest, all).await;
    }

    /// The fence of the last lease.
    pub fn fence(&self) -> u64 {
        self.fence.load(Ordering::Relaxed)
    }

    /// Whether this node leads at `now`.
    pub fn role(&self, now: Mono) -> Role {
        if now.0 < self.leads_until.load(Ordering::Relaxed) { Role::Leads } else { Role::Follows }
    }

    /// Whether the server was heard of lately.
    pub fn hears_of_the_server(&self, now: Mono) -> bool {
        now.since(Mono(self.heard_at.load(Ordering::Relaxed))) <= SILENCE
    }

    /// What a node may use of the rate.
    pub fn part(&self, now: Mono) -> Part {
        let since = |at: &AtomicU64| now.since(Mono(at.load(Ordering::Relaxed)));
        let (asked, heard) = (since(&self.answered_at), since(&self.heard_at));
        let given = self.given.load(Ordering::Relaxed);
        if given > 0 && self.alone_for.is_some_and(|longest| goes_on_alone(asked, heard, longest)) {
            let nodes = u32::try_from(locked(&self.others).len()).unwrap_or(u32::MAX).saturating_add(1);
            return Part::Alone { permille: given, nodes };
        }
        Part::WithTheStore { permille: self.left.load(Ordering::Relaxed) }
    }

    /// What this node knows of what it may use alone, and what it asks for; empty when it may not go on alone. Then what it
    /// knows that the server may have lost: what others may use, and, also whenever numbers are drawn, how far the counters
    /// were.
    pub fn claim(&self, draws: &Draws) -> String {
        let mut claim = self.alone_for.map_or_else(String::new, |longest| self.own_claim(longest));
        let restates = self.restates.load(Ordering::Relaxed);
        // Writing into memory cannot fail.
        for Claim { node, answered_ms, permille, .. } in self.others_who_may_go_on_alone().iter().filter(|_| restates) {
            let _ = write!(claim, ",{}:{answered_ms}:{permille}", node.0);
        }
        for (class, number) in locked(&self.drawn).iter().filter(|_| restates || !draws.0.is_empty()) {
            let _ = write!(claim, ";{}:{number}", class.0);
        }
        claim
    }

    pub(super) fn others_who_may_go_on_alone(&self) -> Vec<Claim> {
        if self.alone_for.is_some() { locked(&self.others).clone() } else { Vec::new() }
    }

    fn own_claim(&self, longest: Duration) -> String {
        let answered = self.answered_ms.load(Ordering::Relaxed);
        let (has, others) = (self.given.load(Ordering::Relaxed), locked(&self.others).len());
        // Who has not heard anything yet asks for nothing: it would not know how much.
        let wanted = if answered == 0 { 0 } else { wanted(others) };
        format!("{answered}:{has}:{wanted}:{}", longest.as_millis())
    }

    /// Whether this node may have gone on alone until it was heard now, after the server was heard of last then.
    fn was_alone(&self, last_heard: Mono, now: Mono) -> bool {
        self.alone_for.is_some() && now.since(last_heard) >= ALONE_AFTER
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

    /// While the server is away: those who wait for all to be said, and nothing more is kept than has to be.
    fn take_flushes(&self) -> Vec<Reply<()>> {
        let mut to_say = locked(&self.to_say);
        keep_what_matters(&mut to_say.items);
        to_say.draws.0.retain(|draw| !draw.reply.is_closed());
        std::mem::take(&mut to_say.flushes)
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
        keep_what_matters(&mut unsaid.items);
        unsaid.draws.0.extend(newer.draws.0);
        unsaid.flushes.extend(newer.flushes);
        let decided = unsaid.decided.max(newer.decided);
        *to_say = ToSay { decided, ..unsaid };
    }

    /// Whoever waits for a number waits on.
    fn keep_draws(&self, draws: &mut Draws) {
        let mut to_say = locked(&self.to_say);
        let newer = std::mem::replace(&mut to_say.draws.0, std::mem::take(&mut draws.0));
        to_say.draws.0.extend(newer);
    }

    /// Whether more is to be said than goes into the next words.
    fn has_much_to_say(&self) -> bool {
        locked(&self.to_say).items.len() > AT_ONCE
    }

    fn note_own_draws(&self, draws: &Draws, first: &[u64]) {
        for ((class, _, count), first) in draws.groups().into_iter().zip(first) {
            self.note_drawn(class, first.saturating_add(count).saturating_sub(1));
        }
    }

    fn note_what_was_drawn(&self, heard: &[Item]) {
        for item in heard {
            if let Item::Drawn { class, last, .. } = *item {
                self.note_drawn(class, last);
            }
        }
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
        self.heard_at.store(done.heard.0, Ordering::Relaxed);
        self.answered_ms.store(done.store_ms, Ordering::Relaxed);
        self.given.store(done.given, Ordering::Relaxed);
        locked(&self.others).clone_from(&done.claims);
        self.restates.store(false, Ordering::Relaxed);
        self.left.store(left_with_the_store(&done.claims, done.store_ms), Ordering::Relaxed);
        let reading = Reading { asked: done.sent, heard: done.heard, shown_ms: done.store_ms };
        let mut known = locked(&self.far_clock);
        *known = Some(known.map_or_else(|| FarClock::of(reading), |clock| clock.and(reading)));
    }

    /// What the server's clock shows, most likely.
    pub fn millis(&self, now: Mono) -> u64 {
        let (earliest, latest) = self.possible_millis(now).into_inner();
        earliest.midpoint(latest)
    }

    /// From when to when that may be.
    pub fn possible_millis(&self, now: Mono) -> RangeInclusive<u64> {
        locked(&self.far_clock).map_or(0..=0, |clock| clock.at(now))
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
    let mut speech = Speech { last_heard: inner.clock.mono(), count: 0, unanswered: None, reads_anew: false };
    loop {
        tokio::select! {
            () = room.hurry.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        if speech.go_on(&inner, &room).await.is_err() {
            tokio::time::sleep(TICK).await;
        }
        tokio::time::sleep(SPACING).await;
    }
}

/// What the speaking task remembers.
struct Speech {
    last_heard: Mono,
    /// How often something was said.
    count: u64,
    /// What was said without an answer, and of which line: it may have been done, so that it is said again word for word
    /// before anything else.
    unanswered: Option<(u64, ToSay)>,
    /// The node went on alone: once all that happened meanwhile is said, it takes the line up as all know it.
    reads_anew: bool,
}

impl Speech {
    async fn go_on(&mut self, inner: &Inner, room: &Room) -> Result<(), StoreError> {
        let said = self.unanswered_of(room).unwrap_or_else(|| {
            self.count += 1;
            let mut said = room.take();
            if room.late().is_settling() || inner.clock.mono().since(self.last_heard) > SILENCE {
                // Those who came while the server was away have their numbers first.
                room.keep_draws(&mut said.draws);
            }
            said
        });
        let identity = room.identity();
        match inner.commit(room, &said.draws, &said.items, said.decided, self.count).await {
            Ok(Outcome::Done(done)) => {
                self.reads_anew |= room.was_alone(self.last_heard, done.heard);
                room.done(&done);
                if done.heard.since(self.last_heard) > SILENCE {
                    room.late().begin_to_settle(done.heard);
                }
                if self.reads_anew {
                    // What was called here meanwhile is this node's own affair: it leads only with what all know.
                    room.leads_until.store(0, Ordering::Relaxed);
                }
                self.last_heard = done.heard;
                inner.clock.follow(Unix(room.millis(inner.clock.mono())), Steer::Slowly);
                inner.is_well();
                room.note_own_draws(&said.draws, &done.first);
                said.draws.answer(&done.first);
                room.remember(said.items, done.heard);
                said.flushes.into_iter().for_each(|flush| drop(flush.send(Ok(()))));
                if self.reads_anew && !room.has_much_to_say() {
                    step_back(inner, room, Outcome::Fenced).await?;
                    self.reads_anew = false;
                }
                inner.settle(room).await
            }
            Ok(Outcome::Anew(run)) => {
                room.put_back(said);
                room.note_run(run, inner.clock.mono());
                room.hurry();
                Ok(())
            }
            Ok(outcome) => {
                room.leads_until.store(0, Ordering::Relaxed);
                room.put_back(without_decisions(said));
                let stepped = step_back(inner, room, outcome).await;
                if let Err(error) = &stepped {
                    self.nothing_was_done(inner, room, error);
                }
                stepped
            }
            Err(error) => {
                self.nothing_was_heard(inner, room, (identity, said), &error);
                Err(error)
            }
        }
    }

    /// The server answers, and has not got the line. That may be mended in a moment, by whoever knows it.
    fn nothing_was_done(&self, inner: &Inner, room: &Room, error: &StoreError) {
        let now = inner.clock.mono();
        if now.since(self.last_heard) > SILENCE {
            room.take_flushes().into_iter().for_each(|flush| drop(flush.send(Err(error.clone()))));
            inner.is_ill(error, now);
        }
    }

    /// What is to be said again word for word. Words of a line that has ended meanwhile are not; whoever waits for a number
    /// gets one of the new line.
    fn unanswered_of(&mut self, room: &Room) -> Option<ToSay> {
        let (identity, said) = self.unanswered.take()?;
        if identity == room.identity() {
            return Some(said);
        }
        room.put_back(ToSay { items: Vec::new(), decided: 0, ..said });
        None
    }

    fn nothing_was_heard(
        &mut self,
        inner: &Inner,
        room: &Room,
        (identity, mut said): (u64, ToSay),
        error: &StoreError,
    ) {
        let flushes = std::mem::take(&mut said.flushes).into_iter().chain(room.take_flushes());
        flushes.for_each(|flush| drop(flush.send(Err(error.clone()))));
        self.unanswered = Some((identity, said));
        let now = inner.clock.mono();
        let refused = !matches!(error, StoreError::Unreachable(_));
        if refused || now.since(self.last_heard) > SILENCE {
            inner.is_ill(error, now);
        }
    }
}

/// Another leads, or the line is not the one we know.
pub async fn step_back(inner: &Inner, room: &Room, outcome: Outcome) -> Result<(), StoreError> {
    if outcome == Outcome::LineGone {
        // The line is begun again only with its counters, by whoever knows them: no number may be drawn before that.
        if !room.is_telling.swap(true, Ordering::Relaxed) {
            tracing::error!(room = %room.name, "the store has lost the line; this node tells it what it knows");
            room.restates.store(true, Ordering::Relaxed);
            room.late().report_again(room.identity());
            room.doubt(inner.clock.mono());
        }
        return Err(StoreError::Unreachable("the store has lost the line".into()));
    }
    if outcome == Outcome::AnotherLine {
        room.forget_what_was_said();
    } else {
        // What nobody disputes is said first, so that the line is read with it. What was decided since is disputed.
        let said = without_decisions(room.take());
        match inner.send_once(room, &said.items).await {
            Ok(Outcome::Done(_)) => room.put_back(ToSay { items: Vec::new(), ..said }),
            _ => room.put_back(said),
        }
    }
    room.told(TELLING).await;
    let found = inner.read_line(room, room.identity(), Asked::Look).await?;
    room.restart(&found);
    room.hear(News::Anew(Box::new(found.line)));
    Ok(())
}

/// When there is too much to say, presence is left out, and all words that a later one replaces.
fn keep_what_matters(items: &mut Vec<Item>) {
    if items.len() > MOST_KEPT {
        items.retain(|item| !matches!(item, Item::Said(Said::Heard { .. } | Said::Answers { .. })));
        keep_last_words(items);
    }
}

/// What is said of a seat, of this node, or of a request at the gate replaces what was said of it before.
fn keep_last_words(items: &mut Vec<Item>) {
    let mut later = HashSet::new();
    let mut last: Vec<Item> =
        items.drain(..).rev().filter(|item| replaces(item).is_none_or(|replaced| later.insert(replaced))).collect();
    last.reverse();
    *items = last;
}

/// Of what a word is the whole truth, so that only the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Replaced {
    Seat(VisitorId),
    Waits(ClassId, u64),
    ThisNode,
    Gate(ClassId, u64),
    TurnsTime(ClassId, u64),
    Frozen,
    Freeze,
    Hold,
    Pace,
}

fn replaces(item: &Item) -> Option<Replaced> {
    match *item {
        Item::Fact(Fact::Seat { id, .. } | Fact::SeatGone { id, .. }) => Some(Replaced::Seat(id)),
        Item::Fact(Fact::Ticket { class, number, record }) if record.state == TicketState::Waiting => {
            Some(Replaced::Waits(class, number))
        }
        Item::Fact(Fact::Frozen(_)) => Some(Replaced::Frozen),
        Item::Fact(Fact::Ordered(Order::Freeze | Order::Thaw)) => Some(Replaced::Freeze),
        Item::Fact(Fact::Ordered(Order::Hold | Order::GoOn)) => Some(Replaced::Hold),
        Item::Said(Said::Here { .. }) => Some(Replaced::ThisNode),
        Item::Said(Said::Gate { class, number, .. }) => Some(Replaced::Gate(class, number)),
        Item::Said(Said::Extended { class, number }) => Some(Replaced::TurnsTime(class, number)),
        Item::Said(Said::Pace { .. }) => Some(Replaced::Pace),
        _ => None,
    }
}

/// What a word is about that a later one of another node may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum About {
    Ticket(ClassId, u64),
    Freeze,
    Hold,
}

fn about(item: &Item) -> Option<About> {
    match *item {
        Item::Fact(Fact::Ticket { class, number, .. })
        | Item::Said(Said::Unspent { class, number } | Said::Extended { class, number }) => {
            Some(About::Ticket(class, number))
        }
        Item::Fact(Fact::Ordered(Order::Freeze | Order::Thaw)) => Some(About::Freeze),
        Item::Fact(Fact::Ordered(Order::Hold | Order::GoOn)) => Some(About::Hold),
        _ => None,
    }
}

/// What a word of another node settles: whether the ticket entered or left, and what operators want.
fn ends(item: &Item) -> Option<About> {
    match item {
        Item::Fact(Fact::Ticket { record, .. })
            if !matches!(record.state, TicketState::Entered | TicketState::Left) =>
        {
            None
        }
        Item::Fact(_) => about(item),
        _ => None,
    }
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

/// Entries heard last that are remembered, so that the place is found from which another run's log is not the same: more
/// than a failover loses.
const REMEMBERED: usize = 2048;

/// Where in the log this node is, and where it was before.
struct Listener {
    link: Link,
    /// The last of them is where it is.
    places: VecDeque<Place>,
}

impl Listener {
    fn is_at(&self) -> Place {
        self.places.back().cloned().unwrap_or(Place { seq: 0, cursor: "0-0".to_owned() })
    }

    fn goes_to(&mut self, place: Place) {
        if self.places.len() == REMEMBERED {
            self.places.pop_front();
        }
        self.places.push_back(place);
    }

    /// Goes back to the last entry that was heard and that the log of another run has as well. Where there is none, a log
    /// that is shorter than what was heard is heard from its end on.
    async fn goes_back_to_what_is_the_same(&mut self, room: &Room, end: Place) -> Result<(), StoreError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(room.key("log")).arg("+").arg("-").arg("COUNT").arg(REMEMBERED);
        let last: Value = self.link.ask(&command).await?;
        let last: HashSet<String> = log::identities(&last).collect();
        if let Some(same) = self.places.iter().rposition(|place| last.contains(&place.cursor)) {
            self.places.truncate(same + 1);
        } else if end.seq < self.is_at().seq {
            self.goes_to(end);
        }
        Ok(())
    }

    /// Goes where it was told to, if it was.
    async fn restarts(&mut self, room: &Room) -> Result<(), StoreError> {
        let Restarted { read_anew, another_run } = std::mem::take(&mut *locked(&room.restarted));
        if let Some(place) = read_anew {
            self.goes_to(place);
        }
        if let Some(end) = another_run
            && let Err(error) = self.goes_back_to_what_is_the_same(room, end.clone()).await
        {
            locked(&room.restarted).another_run.get_or_insert(end);
            return Err(error);
        }
        Ok(())
    }
}

/// Hears what all nodes say, in order.
async fn listen(inner: Arc<Inner>, room: Arc<Room>, from: Place) {
    let mut listener = Listener { link: Link::new(inner.server.clone(), LISTEN + ANSWER), places: [from].into() };
    loop {
        if listener.restarts(&room).await.is_err() {
            tokio::time::sleep(TICK).await;
            continue;
        }
        let wait = u64::try_from(LISTEN.as_millis()).unwrap_or(0);
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(256).arg("BLOCK").arg(wait).arg("STREAMS").arg(room.key("log"));
        command.arg(listener.is_at().cursor);
        let read: Result<Value, StoreError> = tokio::select! {
            read = listener.link.ask(&command) => read,
            () = room.restarts.notified() => continue,
        };
        let Ok(answer) = read else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        // What was read may be of a run that has ended.
        if room.is_restarted() {
            continue;
        }
        for entry in log::entries(&answer) {
            let seq = listener.is_at().seq;
            match entry {
                Some(entry) if entry.seq <= seq + 1 => {
                    if entry.seq <= seq {
                        room.doubt(inner.clock.mono());
                    }
                    listener.goes_to(Place { seq: entry.seq, cursor: entry.id.clone() });
                    room.seq.store(entry.seq, Ordering::Relaxed);
                    let entry = heard(&inner, entry);
                    room.note_what_was_drawn(&entry.items);
                    if entry.own == Own::Others {
                        room.forget_what_others_went_on_from(&entry.items);
                    }
                    room.hear(News::Entry(entry));
                }
                _ => {
                    if let Ok(found) = inner.read_line(&room, room.identity(), Asked::Look).await {
                        listener.goes_to(Place { seq: found.seq, cursor: found.cursor.clone() });
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
    Entry { from: entry.node, own, items: entry.items, opening: entry.opening }
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
    fn a_grant_that_is_heard_late_is_as_old_as_it_may_be() {
        let room = Room::new("a", &RoomName::new("r").unwrap(), None);
        let at = |ms: u64| Mono(ms * 1_000_000);
        let done = |sent: u64, heard: u64, store_ms: u64| Committed {
            sent: at(sent),
            heard: at(heard),
            store_ms,
            fence: 0,
            first: Vec::new(),
            given: 0,
            claims: Vec::new(),
        };
        // The node stood still for a second, before or after the server looked at its clock.
        room.done(&done(0, 1000, 50_000));
        assert_eq!(room.possible_millis(at(1000)), 50_000..=51_001);
        room.done(&done(1000, 1001, 51_000));
        room.done(&done(1100, 2100, 51_100));
        assert_eq!(room.possible_millis(at(2100)), 52_097..=52_101);
    }

    #[test]
    fn an_hour_without_the_store_keeps_no_more_than_a_bounded_number_of_words() {
        let room = Room::new("a", &RoomName::new("r").unwrap(), None);
        let each_second = 1000 + 1 + 10_000;
        let mut most = 0;
        for second in 0..3600 {
            room.say(Item::Said(Said::Here { definition: second }));
            for number in 0..1000 {
                room.say(Item::Said(Said::Gate { class: CLASS, number, open: second % 2 == 0 }));
            }
            // What is added after these minutes is dropped in the same way.
            for number in 0..if second < 120 { 10_000 } else { 0 } {
                room.say(Item::Said(Said::Heard { class: CLASS, number, told: crate::domain::tickets::Told::Two }));
            }
            room.take_flushes();
            most = most.max(locked(&room.to_say).items.len());
        }
        assert!(most <= MOST_KEPT + each_second, "{most} words are kept");
        assert!(size_of::<Item>() <= 64, "{} bytes each", size_of::<Item>());
        let mut items = std::mem::take(&mut locked(&room.to_say).items);
        keep_last_words(&mut items);
        assert_eq!(items.len(), 1001);
        assert!(items.contains(&Item::Said(Said::Here { definition: 3599 })), "the last word is kept");
        let is_last = |item: &Item| !matches!(item, Item::Said(Said::Gate { open: true, .. }));
        assert!(items.iter().all(is_last), "no older one is");
    }

    #[test]
    fn words_that_count_are_all_kept_and_in_their_order() {
        let record = |state| super::super::super::TicketRecord { state, script: super::super::super::Script::Runs };
        let ticket = |number, state| Item::Fact(Fact::Ticket { class: CLASS, number, record: record(state) });
        let unspent = Item::Said(Said::Unspent { class: CLASS, number: 1 });
        let (waits, entered) = (ticket(1, TicketState::Waiting), ticket(1, TicketState::Entered));
        let mut items = vec![waits, entered, unspent, waits, entered, ticket(2, TicketState::Waiting), unspent];
        keep_last_words(&mut items);
        assert_eq!(items, [entered, unspent, waits, entered, ticket(2, TicketState::Waiting), unspent]);
    }

    #[test]
    fn the_fence_of_the_last_lease_stays_on_later_decisions() {
        let room = Room::new("a", &RoomName::new("r").unwrap(), None);
        let done = |fence| Committed {
            sent: Mono(0),
            heard: Mono(0),
            store_ms: 0,
            fence,
            first: Vec::new(),
            given: 0,
            claims: Vec::new(),
        };
        room.done(&done(4));
        assert_eq!((room.role(Mono(1)), room.role(Mono(0) + LEASE)), (Role::Leads, Role::Follows));
        room.done(&done(0));
        assert_eq!(room.role(Mono(1)), Role::Follows);
        room.say(Item::Fact(super::super::super::Fact::Forget { class: CLASS, through: 1 }));
        assert_eq!(room.take().decided, 4);
    }

    #[test]
    fn a_call_of_a_ticket_that_entered_elsewhere_is_not_said_again() {
        let room = Room::new("a", &RoomName::new("r").unwrap(), None);
        room.done(&Committed {
            sent: Mono(0),
            heard: Mono(0),
            store_ms: 0,
            fence: 4,
            first: Vec::new(),
            given: 0,
            claims: Vec::new(),
        });
        let fact = |number, state| {
            let record = super::super::super::TicketRecord { state, script: super::super::super::Script::Runs };
            Item::Fact(Fact::Ticket { class: CLASS, number, record })
        };
        let unspent = Item::Said(Said::Unspent { class: CLASS, number: 1 });
        let still_called = fact(2, TicketState::Called);
        let freeze = Item::Fact(Fact::Ordered(Order::Freeze));
        let hold = Item::Fact(Fact::Ordered(Order::Hold));
        room.remember(vec![fact(1, TicketState::Called), unspent, still_called, freeze, hold], Mono(0));
        let thaw = Item::Fact(Fact::Ordered(Order::Thaw));
        room.forget_what_others_went_on_from(&[fact(1, TicketState::Entered), fact(2, TicketState::Waiting), thaw]);
        room.doubt(Mono(1));
        assert_eq!(room.take().items, [still_called, hold]);
    }

    #[test]
    fn words_of_an_ended_line_are_not_said_to_the_new_one() {
        let found = |identity| Found {
            line: Line {
                identity,
                origin: super::super::super::Origin::Known,
                lanes: Vec::new(),
                seats: Vec::new(),
                ended: Vec::new(),
                frozen: Duration::ZERO,
                last_durable: None,
                openings: Vec::new(),
                orders: super::super::super::Orders::default(),
            },
            seq: 7,
            cursor: String::new(),
        };
        let room = Room::new("a", &RoomName::new("r").unwrap(), None);
        room.take_over(&found(1));
        let gone = || Item::Fact(Fact::SeatGone { id: [3; 16], ended_until: Some(4) });
        let (reply, _number) = oneshot::channel();
        let said = |draws| ToSay { items: vec![gone()], draws, ..ToSay::default() };
        let draws = Draws(vec![Draw { class: CLASS, drawn: Drawn::ToEnter, reply }]);
        let mut speech =
            Speech { last_heard: Mono(0), count: 0, unanswered: Some((1, said(draws))), reads_anew: false };
        room.say(gone());
        room.take_over(&found(2));
        assert!(speech.unanswered_of(&room).is_none());
        let next = room.take();
        assert_eq!((next.items, next.draws.0.len()), (Vec::new(), 1));
        speech.unanswered = Some((2, said(Draws::default())));
        assert_eq!(speech.unanswered_of(&room).map(|said| said.items), Some(vec![gone()]));
    }
}
