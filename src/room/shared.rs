//! A room whose line several nodes share: telling the others what happens here, and hearing what happens there.
//!
//! Every node keeps a copy of the line and answers its visitors from it. One node leads: it calls and lets in, here and
//! at the other nodes' gates. Where the store is of this machine alone, this node always leads and nobody listens.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::gate::{Call, who_is_still_there};
use super::restore::{Sharing, line_of};
use super::{Around, Inner, Key, LiveRoom, Ticket};
use crate::clock::Clock;
use crate::config;
use crate::domain::budget::WHOLE;
use crate::domain::gate::Elsewhere;
use crate::domain::line::{Asks, Conditions, Standstill, TicketStage};
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::ClassId;
use crate::domain::tickets::{Number, State, Told};
use crate::domain::time::{Mono, Now};
use crate::domain::token::VisitorId;
use crate::proxy::Portal;
use crate::store::{
    self, Doubt, Drawn, Entry, Exchanged, Fact, Item, Lane, News, Origin, Own, Part, Role, Script, StoreError,
    TicketPage, TicketRecord, TicketState,
};

/// A grant is worth nothing after this time: many that come late together would be more than the rate.
const GRANT_LASTS: Duration = Duration::from_millis(150);

/// How long a number drawn may take to be heard of.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// When the leader has not heard by then that its grant was used, the ticket stands at the gate again.
const GRANT_LOST: Duration = Duration::from_millis(1500);

/// A node says once a second that it is there; after this time without, nobody is let in at its gate.
const NODE_GONE: Duration = Duration::from_millis(2500);

/// How long a new leader waits until it has heard what the last one said, before it says who holds a turn.
const CAUGHT_UP: Duration = Duration::from_secs(1);

/// How long a new leader waits for what others say of their visitors before it ends sessions.
const SETTLED: Duration = Duration::from_secs(15);

/// How much later than here another node's visitor may have been active.
const LATER: Duration = Duration::from_secs(12);

/// How often the leader says how it sees the room, if nothing changes, in ticks.
const PACE_EVERY: u32 = 10;

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub(super) struct Others {
    role: Option<Role>,
    /// Where a request of a ticket waits, if not here.
    at: HashMap<Key, NodeId>,
    /// Tickets of which the others know that a request waits here.
    told: HashSet<Key>,
    /// Tickets let in elsewhere of which nothing was heard since.
    granted: HashMap<Key, Mono>,
    leads_since: Option<Mono>,
    /// When this node, which leads anew, says who holds a turn.
    says_turns_at: Option<Mono>,
    /// When each node was last heard of, and how it defines the room.
    nodes: HashMap<NodeId, (Mono, u64)>,
    /// How the leader sees the room.
    pace: Option<(Option<Standstill>, u32)>,
    /// What was told of the pace, and how many ticks ago.
    told_pace: (Option<Said>, u32),
    /// Whether a request that waits here could be forwarded.
    cannot_forward: bool,
    /// The highest number of each lane that was heard to be drawn.
    drawn: HashMap<ClassId, u64>,
    /// Whether a disagreement about the room's definition was logged.
    complained: bool,
    /// Thousandths of the rate that this node may use, if not all.
    part: Option<u32>,
    /// The last number of each lane before this node went on alone: later ones are its own affair.
    known: Option<HashMap<ClassId, u64>>,
}

impl Others {
    /// Entries granted to other nodes that have not shown up as seats yet.
    pub(super) fn granted(&self) -> u64 {
        self.granted.len() as u64
    }

    /// The last number of a lane of which the others know, or may know.
    fn issued(&self, class: ClassId, here: u64) -> u64 {
        self.known.as_ref().map_or(here, |known| known.get(&class).copied().unwrap_or(0).min(here))
    }

    /// With whom it was decided what this node knows.
    fn decided(&self) -> Decided {
        if self.known.is_some() { Decided::Alone } else { Decided::WithAll }
    }

    /// This node may use so much of the rate.
    pub(super) fn uses(&mut self, permille: u32) {
        self.part = Some(permille);
    }

    /// Thousandths of the rate that may be used here.
    pub(super) fn part(&self) -> u32 {
        self.part.unwrap_or(WHOLE)
    }
}

/// With whom it was decided who is called and who is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    /// All nodes know it.
    WithAll,
    /// This node went on alone, and has not taken up the line anew since.
    Alone,
}

/// Whether somebody at another node was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// Somebody was, or was found to have gone.
    Somebody,
    /// There is no admission.
    Nobody,
}

impl LiveRoom {
    /// Whether other nodes serve the same line.
    pub fn is_shared(&self) -> bool {
        self.store.node().is_some()
    }

    /// Replaces what all nodes keep of something in this room; see [`store::Store::exchange`].
    ///
    /// # Errors
    /// See there.
    pub async fn exchange(
        &self,
        what: &str,
        exchange: (&[u8], &[u8]),
        keep: Duration,
        now: Mono,
    ) -> Result<Exchanged, StoreError> {
        if !self.store.is_there(&self.name, now) {
            return Err(StoreError::Unreachable("it has not answered for a while".into()));
        }
        self.store.exchange(&self.name, what, exchange, keep).await
    }

    /// What the clock shows that all nodes agree on, in milliseconds since 1970.
    pub fn shared_millis(&self, now: Mono) -> u64 {
        self.store.millis(&self.name, now)
    }

    /// Whether this node decides who enters.
    pub fn leads(&self, now: Mono) -> bool {
        self.store.role(&self.name, now) == Role::Leads
    }

    /// Tells the other nodes.
    pub(super) fn tell(&self, said: Said) {
        if !(said.is_decision() && self.alone.is_alone()) {
            self.store.tell(&self.name, said);
        }
    }

    /// Waits until all numbers up to `number` were heard of, wherever they were drawn: who is noted before the others
    /// would go before them.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn heard_of_all_before(&self, class: ClassId, number: u64) -> Result<(), StoreError> {
        let is_heard = |_: &()| self.lock().others.drawn.get(&class).is_some_and(|drawn| *drawn >= number);
        let mut drawn = self.drawn.subscribe();
        match tokio::time::timeout(HEARD_WITHIN, drawn.wait_for(is_heard)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Unreachable("what is said is heard too late".into())),
        }
    }

    /// Why nobody enters when the store that all share is not there for this room: nobody knows what the others do. Not
    /// while this node goes on alone.
    pub(super) fn store_unreachable(&self, now: Mono) -> Option<Standstill> {
        let away = self.is_shared() && !self.store.is_there(&self.name, now);
        let alone = || matches!(self.store.part(&self.name, now), Part::Alone { .. });
        (away && !alone()).then_some(Standstill::StoreUnreachable)
    }

    /// The part this node plays; when it begins to lead, the line hears of it.
    pub(super) fn role(&self, inner: &mut Inner, now: Now) -> Role {
        if self.goes_on_alone(inner, now) {
            return Role::Leads;
        }
        let role = self.store.role(&self.name, now.mono);
        if role == Role::Leads && inner.others.role == Some(Role::Follows) {
            tracing::info!(room = %self.name, "this node leads the line now");
            inner.line.take_the_lead(now.mono);
            inner.others.leads_since = Some(now.mono);
            inner.others.says_turns_at = Some(now.mono + CAUGHT_UP);
        }
        if role == Role::Follows && inner.others.role == Some(Role::Leads) {
            tracing::info!(room = %self.name, "this node follows another now");
            inner.takes_grants_back();
        }
        inner.others.role = Some(role);
        role
    }

    /// A tick of a node that follows.
    pub(super) fn follow(&self, mut inner: MutexGuard<'_, Inner>, here: Conditions, now: Now) {
        // What this node has heard of already.
        let first = [Standstill::OperatorHold, Standstill::BeforeOpening];
        let held = here.standstill.filter(|standstill| first.contains(standstill));
        let (standstill, ramp) = inner.others.pace.unwrap_or((None, WHOLE));
        // Every node hears itself of the opening that is held.
        let standstill = standstill.filter(|standstill| *standstill != Standstill::BeforeOpening);
        let standstill = held.or(self.store_unreachable(now.mono)).or(standstill);
        if let Part::WithTheStore { permille } = self.store.part(&self.name, now.mono) {
            // What the leader leaves to others that go on alone is no ramp.
            inner.others.uses(permille);
        }
        inner.line.follow(now, Conditions { standstill, ramp, ..here });
        inner.last_tick = now.mono;
        inner.note_still(now);
        let classes: Vec<ClassId> = inner.line.lanes().map(|(class, _)| class).collect();
        for class in classes {
            for number in inner.line.time_to_knock(class) {
                inner.news.remove(&Key { class, number });
            }
        }
        inner.measure(&self.hours.last(), now.wall);
        self.tell_gate(&mut inner);
    }

    /// Notes whether requests that wait here could be forwarded.
    pub(super) fn note_around(&self, inner: &mut Inner, around: Around) {
        inner.others.cannot_forward = around.standstill == Some(Standstill::PortalUnhealthy);
    }

    /// Tells the others for which tickets a request waits here, as far as they do not know.
    pub(super) fn tell_gate(&self, inner: &mut Inner) {
        if !self.is_shared() {
            return;
        }
        let open: HashSet<Key> =
            if inner.others.cannot_forward { HashSet::new() } else { inner.at_gate.keys().copied().collect() };
        let gone = inner.others.told.difference(&open).map(|key| (*key, false));
        let come = open.difference(&inner.others.told).map(|key| (*key, true));
        let changes: Vec<(Key, bool)> = gone.chain(come).collect();
        for (key, open) in &changes {
            self.tell(Said::Gate { class: key.class, number: inner.number(*key), open: *open });
        }
        inner.others.told = open;
        if !changes.is_empty() {
            self.store.hurry(&self.name);
        }
    }

    /// The leader's tick: those who went silent are dealt with, and the others hear how it sees the room.
    pub(super) fn lead(&self, inner: &mut Inner, now: Now) {
        if !self.is_shared() {
            return;
        }
        let lost: Vec<Key> = keys(&inner.others.granted, |since| now.mono.since(*since) > GRANT_LOST);
        for key in lost {
            inner.others.granted.remove(&key);
            inner.line.unspent(key.class, key.number);
        }
        let is_gone =
            |node: &NodeId| inner.others.nodes.get(node).is_none_or(|(heard, _)| now.mono.since(*heard) > NODE_GONE);
        let unattended: Vec<Key> = keys(&inner.others.at, is_gone);
        for key in unattended {
            inner.others.at.remove(&key);
            inner.line.at_gate_elsewhere(key.class, key.number, Elsewhere::Closed, now.mono);
        }
        if inner.others.says_turns_at.is_some_and(|at| at <= now.mono) {
            inner.others.says_turns_at = None;
            self.tell_turns(inner);
        }
        self.tell_pace(inner);
        self.tell_gate(inner);
    }

    /// Says again who was called. A server that was replaced may have lost that word, and then the node where the visitor
    /// waits does not know of the turn; nobody else is going to call the ticket.
    fn tell_turns(&self, inner: &Inner) {
        for (class, lane) in inner.line.lanes() {
            for place in lane.turns() {
                let number = inner.number(Key { class, number: place });
                self.record_ticket(class, number, TicketState::Called, Asks::Scripted);
            }
        }
    }

    fn tell_pace(&self, inner: &mut Inner) {
        let learnt = (inner.line.learnt_calls_per_entry() * 10.0).round() / 10.0;
        let pace = Said::Pace { standstill: inner.line.standstill(), ramp: inner.line.ramp(), learnt: learnt as f32 };
        let (told, ticks) = inner.others.told_pace;
        if told == Some(pace) && ticks < PACE_EVERY {
            inner.others.told_pace.1 += 1;
            return;
        }
        inner.others.told_pace = (Some(pace), 0);
        self.tell(pace);
    }

    /// Which silent seats this node may free: a node of its own those whose session is over. Where several share the line,
    /// the leader does, a little later, since the others tell of activity every ten seconds, and not just after it took
    /// the lead.
    pub(super) fn frees_after(&self, session: Duration, now: Mono) -> Option<Duration> {
        if !self.is_shared() {
            return Some(session);
        }
        let inner = self.lock();
        let leads = self.store.role(&self.name, now) == Role::Leads;
        let settled = inner.others.leads_since.is_none_or(|since| now.since(since) > SETTLED);
        (leads && settled).then_some(session + LATER)
    }

    /// Once a second: this node is there, and so are the visitors whose requests it holds.
    pub(super) fn tell_of_this_node(&self, settings: &config::Room, seconds: u32) {
        if !self.is_shared() {
            return;
        }
        self.tell(Said::Here { definition: definition(settings) });
        for (id, seat) in self.seats.open() {
            if seat.touch(seconds) {
                self.record(Fact::Seat { id: id.0, seat: seat.record() });
            }
        }
        let mut inner = self.lock();
        inner.others.told.clear();
        self.tell_gate(&mut inner);
    }

    /// Lets the next ticket at the gate in whose request waits at another node.
    pub(super) fn grant_elsewhere(&self, inner: &mut Inner, now: Now) -> Granted {
        let Some((class, number)) = inner.line.next_at_gate(now.mono) else { return Granted::Nobody };
        let key = Key { class, number };
        let Some(node) = inner.others.at.get(&key).copied() else {
            inner.line.at_gate_elsewhere(class, number, Elsewhere::Closed, now.mono);
            return Granted::Somebody;
        };
        // What was granted while the store is slow would arrive all at once.
        if !self.store.answers_promptly(&self.name, now.mono) || inner.line.enter_next(now.mono).is_none() {
            return Granted::Nobody;
        }
        inner.others.at.remove(&key);
        inner.others.granted.insert(key, now.mono);
        // When it cannot have been earlier; whoever takes it judges by when it cannot be later.
        let at_ms = *self.store.possible_millis(&self.name, now.mono).start();
        self.tell(Said::Grant { class, number: inner.number(key), node, at_ms });
        self.store.hurry(&self.name);
        Granted::Somebody
    }

    /// Hears what happens in the store until that is closed.
    pub async fn listen(self: Arc<Self>, mut news: mpsc::UnboundedReceiver<News>, portal: Arc<Portal>, clock: Clock) {
        while let Some(news) = news.recv().await {
            let now = clock.now();
            match news {
                News::Entry(entry) => self.hear(entry, &portal, now),
                News::Anew(line) => self.begin_anew(&line, now),
                News::Doubtful => self.tell_again().await,
            }
            self.let_in(&portal, clock.now());
        }
    }

    fn hear(self: &Arc<Self>, entry: Entry, portal: &Portal, now: Now) {
        for item in entry.items {
            if let Item::Drawn { class, last, .. } = item {
                self.lock().others.drawn.insert(class, last);
            }
            match item {
                Item::Drawn { class, first, last, drawn: Drawn::ToWait(asks) } => {
                    let mut inner = self.lock();
                    for number in first..=last {
                        let place = inner.place(class, number);
                        inner.line.joined_elsewhere(class, place..=place, asks, now);
                    }
                }
                Item::Drawn { class, first, last, drawn: Drawn::ToEnter } if entry.own == Own::Others => {
                    let mut inner = self.lock();
                    for number in first..=last {
                        let place = inner.place(class, number);
                        inner.line.went_straight_elsewhere(class, place..=place, now);
                    }
                }
                Item::Fact(fact) if entry.own == Own::Others => self.hear_fact(fact, now),
                Item::Said(Said::Grant { class, number, node, at_ms }) if Some(node) == self.store.node() => {
                    let age = self.store.possible_millis(&self.name, now.mono).end().saturating_sub(at_ms);
                    self.take_grant(class, number, Duration::from_millis(age), portal, now);
                }
                Item::Said(said) if entry.own == Own::Others => self.hear_said(said, entry.from, now),
                // What we said while others decided may have been undone in our copy by what they said before.
                Item::Said(Said::Heard { class, number, told }) if entry.own == Own::AsFollower => {
                    let mut inner = self.lock();
                    let place = inner.place(class, number);
                    inner.line.heard_again(class, place, told, now);
                }
                Item::Drawn { .. } | Item::Fact(_) | Item::Said(_) => {}
            }
        }
        if let Some(opening) = entry.opening {
            self.hear_opening(*opening, now);
        }
        self.drawn.send_replace(());
    }

    fn hear_fact(self: &Arc<Self>, fact: Fact, now: Now) {
        match fact {
            Fact::Ticket { class, number, record } => self.hear_ticket(class, number, record, now),
            Fact::Forget { class, through } => self.lock().line.restore_done(class, through, now),
            Fact::Seat { id, seat } => self.seats.note(VisitorId(id), &seat),
            Fact::SeatGone { id, ended_until } => {
                self.seats.note_gone(VisitorId(id), ended_until, &self.settings().stay(), self.room_seconds(now));
            }
            Fact::Ordered(order) => self.obey(order, now.mono),
            Fact::Frozen(span) => {
                self.frozen_ms.fetch_max(u64::try_from(span.as_millis()).unwrap_or(0), Ordering::Relaxed);
            }
        }
    }

    fn hear_ticket(&self, class: ClassId, number: Number, record: TicketRecord, now: Now) {
        let mut inner = self.lock();
        let number = inner.place(class, number);
        let key = Key { class, number };
        match record.state {
            TicketState::Waiting => {
                let asks = if record.script == Script::Plain { Asks::ByHand } else { Asks::Scripted };
                inner.line.joined_elsewhere(class, number..=number, asks, now);
            }
            TicketState::Called => {
                if inner.line.called_elsewhere(class, number) {
                    inner.moving.called(class, 1);
                    inner.news.remove(&key);
                }
            }
            TicketState::Absent => inner.line.absent_elsewhere(class, number),
            TicketState::Left => {
                inner.line.left_elsewhere(class, number);
                inner.news.remove(&key);
            }
            TicketState::Entered => {
                inner.line.entered_elsewhere(class, number);
                inner.others.granted.remove(&key);
                inner.others.at.remove(&key);
                inner.others.told.remove(&key);
                for waiter in inner.at_gate.remove(&key).unwrap_or_default() {
                    waiter.tell(Call::Follow);
                }
            }
        }
    }

    /// Whoever holds the old place was given a new one, and may not have heard of it: the old place is left once the new
    /// ticket is seen, at whichever node.
    pub fn has_moved(&self, old: &Ticket, new: &Ticket, now: Mono) {
        self.joins.moved(old, new, now);
        let place = |ticket: &Ticket| (ticket.class, ticket.number);
        self.tell(Said::Moved { from: place(old), to: place(new), id: new.id.0 });
    }

    /// Another node moved a visitor, who may have shown the new ticket here before that was heard of.
    fn hear_of_move(&self, old: &Ticket, new: &Ticket, now: Mono) {
        self.joins.moved_elsewhere(old, new, now);
        if self.ticket_stage(new) == TicketStage::Entered
            && let Some(old) = self.joins.seen(new)
        {
            self.leave(&old);
        }
    }

    fn hear_said(&self, said: Said, from: NodeId, now: Now) {
        if let Said::Moved { from: (class, number), to, id } = said {
            let old = Ticket { id: VisitorId([0; 16]), class, number };
            return self.hear_of_move(&old, &Ticket { id: VisitorId(id), class: to.0, number: to.1 }, now.mono);
        }
        match said {
            Said::Answers { bucket, count } => return self.hear_of_answers(bucket, count),
            Said::Bears(course) => return self.follow_course(course),
            _ => {}
        }
        let mut inner = self.lock();
        match said {
            Said::Heard { class, number, told } => {
                let place = inner.place(class, number);
                inner.line.heard_elsewhere(class, place, told, now);
            }
            Said::Gate { class, number, open: true } => {
                let number = inner.place(class, number);
                inner.others.nodes.entry(from).or_insert((now.mono, 0)).0 = now.mono;
                inner.others.at.insert(Key { class, number }, from);
                inner.line.reinstate(class, number, Asks::Scripted, now);
                inner.line.at_gate_elsewhere(class, number, Elsewhere::Open, now.mono);
            }
            Said::Gate { class, number, open: false } => {
                let number = inner.place(class, number);
                let key = Key { class, number };
                if inner.others.at.get(&key) == Some(&from) {
                    inner.others.at.remove(&key);
                    inner.line.at_gate_elsewhere(class, number, Elsewhere::Closed, now.mono);
                }
            }
            Said::Unspent { class, number } => {
                let number = inner.place(class, number);
                inner.line.unspent(class, number);
                if inner.others.granted.remove(&Key { class, number }).is_some() {
                    inner.line.give_admission_back(class);
                }
            }
            Said::Extended { class, number } => {
                let place = inner.place(class, number);
                inner.line.extend(class, place);
            }
            Said::Pace { standstill, ramp, learnt } => {
                inner.others.pace = Some((standstill, ramp));
                inner.line.learnt_elsewhere(learnt);
            }
            Said::Here { definition } => {
                inner.others.nodes.insert(from, (now.mono, definition));
                inner.others.nodes.retain(|_, (heard, _)| now.mono.since(*heard) < 2 * NODE_GONE);
            }
            Said::Grant { .. } | Said::Moved { .. } | Said::Answers { .. } | Said::Bears(_) => {}
        }
    }

    /// The leader lets a ticket in whose request waits here.
    fn take_grant(self: &Arc<Self>, class: ClassId, number: Number, age: Duration, portal: &Portal, now: Now) {
        let mut inner = self.lock();
        let key = Key { class, number: inner.place(class, number) };
        if inner.line.ticket_stage(key.class, key.number) == TicketStage::Entered {
            return;
        }
        let is_there = inner.at_gate.get(&key).is_some_and(|waiting| waiting.iter().any(|waiter| !waiter.has_gone()));
        let slot = if is_there && age <= GRANT_LASTS { portal.try_slot_for_newcomer() } else { None };
        let Some(slot) = slot else {
            // What is still here is announced again with the next tick.
            inner.others.told.remove(&key);
            self.tell(Said::Unspent { class, number });
            self.store.hurry(&self.name);
            return;
        };
        let waiting = inner.at_gate.remove(&key).map(who_is_still_there).unwrap_or_default();
        inner.others.told.remove(&key);
        inner.line.entered_elsewhere(key.class, key.number);
        let seat = waiting.first().map(|first| self.take_seat(first, now));
        drop(inner);
        if let Some(seat) = seat {
            self.grant(seat, waiting, slot);
        }
    }

    /// What this node knew of the line was out of date.
    fn begin_anew(&self, line: &store::Line, now: Now) {
        tracing::warn!(room = %self.name, "this node takes the line up anew from the store");
        let settings = self.settings();
        let mut inner = self.lock();
        let in_force = self.hours.now(&settings, now.wall);
        self.take_over_openings(&mut inner, line.openings.clone(), line.identity);
        inner.line = line_of(&in_force, line, &inner.openings.places.clone(), Sharing::Shared, now);
        inner.news.clear();
        // Should it lead next, it takes the lead like any other: nobody's seat is judged before the other nodes were heard.
        inner.others = Others { role: Some(Role::Follows), ..Others::default() };
        inner.others.drawn = line.lanes.iter().map(|(class, lane)| (*class, lane.mark)).collect();
        if self.identity.swap(line.identity, Ordering::Relaxed) != line.identity {
            inner.at_gate.clear();
        }
        inner.stand_by_place();
        let waiting: Vec<(Key, usize)> = inner.at_gate.iter().map(|(key, waiting)| (*key, waiting.len())).collect();
        for (key, requests) in waiting {
            for _ in 0..requests {
                inner.line.arrive(key.class, key.number, now.mono);
            }
        }
        self.tell_gate(&mut inner);
        drop(inner);
        line.orders.each().into_iter().for_each(|order| self.obey(order, now.mono));
        self.seats.keep_only(line.seats.iter().map(|(id, _)| VisitorId(*id)).collect());
        for (id, seat) in &line.seats {
            self.seats.note(VisitorId(*id), seat);
        }
        for (id, until) in &line.ended {
            self.seats.put_ended(VisitorId(*id), *until);
        }
    }

    /// The store may have lost what it knew: it hears it from here.
    async fn tell_again(&self) {
        let line = self.image();
        match self.store.tell_again(&self.name, &line).await {
            Ok(()) => tracing::warn!(room = %self.name, "the store may have lost its last writes and was told again"),
            Err(error) => tracing::error!(room = %self.name, %error, "the store may have lost its last writes"),
        }
    }

    /// The line as this node knows it.
    fn image(&self) -> store::Line {
        let inner = self.lock();
        let (places, decided) = (inner.openings.places.clone(), inner.others.decided());
        let lanes = inner.line.lanes().map(|(class, lane)| {
            let issued = inner.others.issued(class, lane.issued());
            let forgotten = places.done_through(class, lane.done_through()).min(issued);
            let mut pages: Vec<(u64, TicketPage)> = Vec::new();
            for number in forgotten + 1..=issued {
                let place = places.place(class, number);
                let is_under_way = inner.others.granted.contains_key(&Key { class, number: place });
                let record = record_of(as_heard(lane.state(place), is_under_way), lane.told(place));
                let Some(record) = record.map(|record| as_all_know(record, decided)) else { continue };
                let page = TicketPage::holding(number);
                if pages.last().is_none_or(|(last, _)| *last != page) {
                    pages.push((page, TicketPage::blank()));
                }
                if let Some((_, page)) = pages.last_mut() {
                    page.set(number, record);
                }
            }
            (class, Lane { mark: issued, issued, forgotten, doubt: Doubt::None, pages })
        });
        let lanes = lanes.collect();
        drop(inner);
        store::Line {
            identity: self.identity.load(Ordering::Relaxed),
            origin: Origin::Known,
            lanes,
            seats: self.seats.records(),
            ended: self.seats.ended(),
            frozen: self.frozen(),
            last_durable: None,
            openings: self.openings(),
            orders: self.orders(),
        }
    }

    /// How many nodes were heard of lately, this one included, and how many of them define the room in another way.
    pub fn nodes(&self, now: Mono) -> (u64, u64) {
        let ours = definition(&self.settings());
        let mut inner = self.lock();
        let here = inner.others.nodes.values().filter(|(heard, _)| now.since(*heard) <= NODE_GONE);
        let (nodes, disagree) = here.fold((1, 0), |(nodes, disagree), (_, theirs)| {
            (nodes + 1, disagree + u64::from(*theirs != ours && *theirs != 0))
        });
        if disagree > 0 && !inner.others.complained {
            tracing::error!(
                room = %self.name,
                nodes = disagree,
                "other nodes define this room in another way: give all nodes the same configuration"
            );
        }
        inner.others.complained = disagree > 0;
        (nodes, disagree)
    }
}

impl Inner {
    /// Places were given anew: where requests wait is told again with the next tick.
    pub(super) fn forget_where_others_wait(&mut self) {
        self.others.at.clear();
        self.others.told.clear();
    }

    /// What was granted elsewhere and not heard of since is undone here.
    fn takes_grants_back(&mut self) {
        let granted: Vec<Key> = self.others.granted.drain().map(|(key, _)| key).collect();
        granted.iter().for_each(|key| self.line.unspent(key.class, key.number));
    }

    /// Later numbers than these are this node's own from now on; the last of them. `None` when some are already: until the
    /// line is read anew they stay its own.
    pub(super) fn knows_so_far(&mut self) -> Option<u64> {
        if self.others.known.is_some() {
            return None;
        }
        let known: HashMap<ClassId, u64> = self.line.lanes().map(|(class, lane)| (class, lane.issued())).collect();
        let last = known.values().copied().max().unwrap_or(0);
        self.others.known = Some(known);
        Some(last)
    }

    /// Whatever this node decided before, it follows until it hears that it leads.
    pub(super) fn follows_from_now_on(&mut self) {
        self.others.role = Some(Role::Follows);
        self.takes_grants_back();
    }

    /// A ticket let in at another node that has not been heard of since has its turn still: that node may be gone.
    pub(super) fn is_under_way(&self, ticket: &Ticket) -> bool {
        self.others.granted.contains_key(&self.key(ticket))
    }
}

fn keys<T>(map: &HashMap<Key, T>, wanted: impl Fn(&T) -> bool) -> Vec<Key> {
    map.iter().filter(|(_, value)| wanted(value)).map(|(key, _)| *key).collect()
}

/// A digest of how a node defines the room. The state and what its pages say are not part of it: they change in operation.
fn definition(settings: &config::Room) -> u64 {
    let settings = config::Room {
        state: config::RoomState::Open,
        message: config::LocalText::default(),
        window_messages: Vec::new(),
        page: config::RoomPage::default(),
        by_hand: config::ByHandTerms { message: None, ..settings.by_hand.clone() },
        ..settings.clone()
    };
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(format!("{settings:?}")));
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// Where a ticket stands by what was heard of it: one that was let in at another node, which has not said so, holds its turn.
fn as_heard(state: State, is_under_way: bool) -> State {
    if state == State::Entered && is_under_way { State::Called } else { state }
}

/// What the others may be told of a ticket. Whom this node called alone waits for all others: told as called, nobody would call
/// the visitor, who comes to a node that knows of no call.
fn as_all_know(record: TicketRecord, decided: Decided) -> TicketRecord {
    match (decided, record.state) {
        (Decided::Alone, TicketState::Called | TicketState::Absent) => {
            TicketRecord { state: TicketState::Waiting, ..record }
        }
        _ => record,
    }
}

fn record_of(state: State, told: Told) -> Option<TicketRecord> {
    let state = match state {
        State::Waiting => TicketState::Waiting,
        State::Absent => TicketState::Absent,
        State::Called => TicketState::Called,
        State::Entered => TicketState::Entered,
        State::Left => TicketState::Left,
        State::Unissued | State::InDoubt | State::Forgotten => return None,
    };
    Some(TicketRecord { state, script: if told == Told::Plain { Script::Plain } else { Script::Runs } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_let_in_elsewhere_and_not_heard_of_is_told_again_as_called() {
        assert_eq!(as_heard(State::Entered, true), State::Called, "the word to that node may be lost");
        assert_eq!(as_heard(State::Entered, false), State::Entered);
        assert_eq!(as_heard(State::Left, true), State::Left);
    }

    #[test]
    fn whom_a_node_called_alone_is_told_again_as_waiting() {
        let told = |state, decided| {
            let record = record_of(state, Told::Plain).map(|record| as_all_know(record, decided));
            record.map(|record| (record.state, record.script))
        };
        for (state, alone) in [
            (State::Called, TicketState::Waiting),
            (State::Absent, TicketState::Waiting),
            (State::Waiting, TicketState::Waiting),
            (State::Entered, TicketState::Entered),
            (State::Left, TicketState::Left),
        ] {
            assert_eq!(told(state, Decided::Alone), Some((alone, Script::Plain)), "{state:?}");
        }
        assert_eq!(told(State::Called, Decided::WithAll), Some((TicketState::Called, Script::Plain)));
        let mut others = Others::default();
        assert_eq!(others.decided(), Decided::WithAll);
        others.known = Some(HashMap::new());
        assert_eq!(others.decided(), Decided::Alone);
    }
}
