//! Sends every visitor out when it is due, whatever has or has not been answered before: an open loop.
//!
//! One [`Agenda`] holds the next moment of each visitor; a task lives only while a request is under way.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Notify, Semaphore};

use crate::agenda::Agenda;
use crate::answer::{self, Answer};
use crate::clock::{Clock, Moment};
use crate::connection_pool::{ConnectionPool, Received};
use crate::measures::{Attack, Kind, Measures};
use crate::portal::PORTAL_MARK;
use crate::request::Target;
use crate::visitor::{Ask, Rules, Seen, Times, Visitor};
use crate::work::{Work, Workshop};

/// A request unanswered for longer than this is given up. Held polls end after 20 s.
const PATIENCE_WITH_SERVER: Duration = Duration::from_secs(60);

/// What makes the crowd stop before everybody is done.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// At this time.
    pub at: Moment,
    /// When so many have entered.
    pub after_entries: Option<u64>,
}

/// What visitors need to know of where they go.
#[derive(Clone, Debug)]
pub struct House {
    /// Where requests go.
    pub target: Target,
    /// What is the same for all visitors.
    pub rules: Rules,
    /// The room's name, for its cookies.
    pub room: String,
    /// Polls of visitors with at most so many ahead may be held.
    pub near: u64,
    /// Of each crowd, whether it plays by the rules.
    pub honest: Vec<bool>,
    /// Of each crowd, what it does when work is asked of it.
    pub work: Vec<Work>,
}

/// All visitors of a run.
#[derive(Debug)]
pub struct Crowd {
    clock: Clock,
    house: House,
    workshops: Vec<Option<Workshop>>,
    pool: Rc<ConnectionPool>,
    visitors: RefCell<Vec<Visitor>>,
    agenda: RefCell<Agenda>,
    changed: Notify,
    under_way: Cell<usize>,
    measures: RefCell<Measures>,
    cut_until: Cell<Moment>,
    cut_begins: Notify,
    portal_ill_until: Cell<Moment>,
    login_closed_until: Cell<Moment>,
}

/// How an exchange came out.
enum Outcome {
    Answered(Answer),
    Cut,
    GaveUp,
}

impl Crowd {
    /// The crowd of `visitors`, whose marks are their positions.
    pub fn new(clock: Clock, house: House, pool: Rc<ConnectionPool>, visitors: Vec<Visitor>) -> Rc<Crowd> {
        let mut agenda = Agenda::default();
        visitors.iter().for_each(|visitor| agenda.add((visitor.due(), visitor.mark())));
        let bench = Rc::new(Semaphore::new(1));
        let workshops = house.work.iter().map(|work| Workshop::of(*work, &bench)).collect();
        Rc::new(Crowd {
            clock,
            house,
            workshops,
            pool,
            visitors: RefCell::new(visitors),
            agenda: RefCell::new(agenda),
            changed: Notify::new(),
            under_way: Cell::new(0),
            measures: RefCell::default(),
            cut_until: Cell::new(Moment(0)),
            cut_begins: Notify::new(),
            portal_ill_until: Cell::new(Moment(0)),
            login_closed_until: Cell::new(Moment(0)),
        })
    }

    /// Lets the crowd act until everybody is done or `stop` says so. Must run within a `LocalSet`.
    pub async fn act(self: &Rc<Self>, stop: Stop) {
        let mut due_now = Vec::new();
        loop {
            let now = self.clock.now();
            self.agenda.borrow_mut().take_due(now, &mut due_now);
            for (due, mark) in due_now.drain(..) {
                self.send_out(mark, due, now);
            }
            let next = self.agenda.borrow().next();
            let idle = next == Moment::NEVER && self.under_way.get() == 0;
            if idle || now >= stop.at || stop.after_entries.is_some_and(|n| self.measures().counts.entered >= n) {
                return;
            }
            tokio::select! {
                () = self.clock.sleep_until(next.min(stop.at)) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Cuts the line between visitors and proxy: open requests are dropped, none get through until `until`.
    pub fn cut(&self, until: Moment) {
        self.cut_until.set(until);
        self.cut_begins.notify_waiters();
        self.pool.close_idle();
    }

    /// Says that errors of the gateway are to be expected until `until`.
    pub fn expect_gateway_errors(&self, until: Moment) {
        self.portal_ill_until.set(until);
    }

    /// Says that nobody comes back from the login provider until `until`.
    pub fn close_login(&self, until: Moment) {
        self.login_closed_until.set(until);
    }

    /// Whether a visitor plays by the rules.
    pub fn is_honest(&self, visitor: &Visitor) -> bool {
        self.house.honest.get(visitor.crowd()).copied().unwrap_or(true)
    }

    /// What was counted and timed so far, to be changed.
    pub fn measures_mut(&self) -> RefMut<'_, Measures> {
        self.measures.borrow_mut()
    }

    /// The visitors.
    pub fn visitors(&self) -> Ref<'_, [Visitor]> {
        Ref::map(self.visitors.borrow(), Vec::as_slice)
    }

    /// What was counted and timed so far.
    pub fn measures(&self) -> Ref<'_, Measures> {
        self.measures.borrow()
    }

    /// The connections.
    pub fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    fn visitor(&self, mark: u32) -> Option<RefMut<'_, Visitor>> {
        RefMut::filter_map(self.visitors.borrow_mut(), |all| all.get_mut(mark as usize)).ok()
    }

    fn send_out(self: &Rc<Self>, mark: u32, due: Moment, now: Moment) {
        let Some(ask) = self.step(mark, now) else { return self.enter_in_agenda(mark) };
        self.under_way.set(self.under_way.get() + 1);
        let crowd = Rc::clone(self);
        tokio::task::spawn_local(async move {
            crowd.exchange(mark, ask, due).await;
            crowd.work(mark).await;
            crowd.under_way.set(crowd.under_way.get() - 1);
            crowd.enter_in_agenda(mark);
            crowd.changed.notify_one();
        });
    }

    fn step(&self, mark: u32, now: Moment) -> Option<Ask> {
        let mut visitor = self.visitor(mark)?;
        if now < self.login_closed_until.get() && visitor.awaits_login(&self.house.rules) {
            visitor.put_off(self.login_closed_until.get());
            return None;
        }
        let before = Before::of(&visitor);
        let ask = visitor.act(now);
        count(&mut self.measures.borrow_mut(), &before, &visitor, now);
        ask
    }

    fn enter_in_agenda(&self, mark: u32) {
        let due = self.visitor(mark).map_or(Moment::NEVER, |visitor| visitor.due());
        if due != Moment::NEVER {
            self.agenda.borrow_mut().add((due, mark));
        }
    }

    async fn exchange(&self, mark: u32, ask: Ask, due: Moment) {
        let sent = self.clock.now();
        let Some((request, gives_up_at, kind)) = self.visitor(mark).map(|visitor| {
            let kind = Kind::of(ask, visitor.shown_ahead(), visitor.interval(), self.house.near);
            (self.house.target.request(ask, &visitor), visitor.gives_up_at(), kind)
        }) else {
            return;
        };
        let outcome = if sent < self.cut_until.get() {
            Outcome::Cut
        } else {
            tokio::select! {
                received = self.pool.send(&request) => Outcome::Answered(self.read(mark, received.ok())),
                () = self.cut_begins.notified() => Outcome::Cut,
                () = self.clock.sleep_until(gives_up_at) => Outcome::GaveUp,
                () = self.clock.sleep_until(sent + PATIENCE_WITH_SERVER) => Outcome::Answered(Answer::Unreachable),
            }
        };
        let times = Times { due, sent, answered: self.clock.now() };
        self.conclude(mark, ask, kind, outcome, times);
    }

    /// A visitor of whom work is asked does it, unless the place can be had sooner without.
    async fn work(&self, mark: u32) {
        let asked = self.visitor(mark).and_then(|visitor| {
            let workshop = self.workshops.get(visitor.crowd())?.as_ref()?;
            Some((workshop, visitor.to_work_on()?, visitor.due()))
        });
        let Some((workshop, challenge, until)) = asked else { return };
        tokio::select! {
            done = workshop.meet(challenge, &self.clock) => {
                if let (Some(done), Some(mut visitor)) = (done, self.visitor(mark)) {
                    self.measures.borrow_mut().hashes += done.hashes;
                    visitor.has_worked(done, self.clock.now());
                }
            }
            () = self.clock.sleep_until(until) => {}
        }
    }

    fn read(&self, mark: u32, received: Option<Received>) -> Answer {
        let Some(received) = received else { return Answer::Unreachable };
        if let Some(mut visitor) = self.visitor(mark) {
            visitor.cookies_mut().take(&received.headers, &self.house.room);
            visitor.seen.leaks += u16::from(somebody_elses(&received, mark));
        }
        answer::read(received.status, &received.headers, &received.body)
    }

    fn conclude(&self, mark: u32, ask: Ask, kind: Kind, outcome: Outcome, times: Times) {
        let Some(mut visitor) = self.visitor(mark) else { return };
        let mut measures = self.measures.borrow_mut();
        let before = Before::of(&visitor);
        match outcome {
            Outcome::Answered(answer) => {
                let role = if self.is_honest(&visitor) { Role::Honest } else { Role::Hostile(visitor.crowd()) };
                self.measure(&mut measures, (ask, kind), &answer, times, role);
                visitor.take(ask, &answer, times, &self.house.rules);
            }
            Outcome::Cut => {
                measures.troubles.cut += 1;
                visitor.take(ask, &Answer::Unreachable, times, &self.house.rules);
            }
            Outcome::GaveUp => visitor.give_up(times.answered),
        }
        count(&mut measures, &before, &visitor, times.answered);
    }

    fn measure(&self, measures: &mut Measures, exchange: (Ask, Kind), answer: &Answer, times: Times, role: Role) {
        let (ask, kind) = exchange;
        measures.counts.requests += 1;
        measures.counts.polls += u64::from(ask == Ask::Poll);
        measures.lag.add(times.sent.since(times.due));
        match role {
            Role::Honest => time_honest(measures, (ask, kind), answer, times),
            Role::Hostile(crowd) => note_hostile(measures.attacks.entry(crowd).or_default(), answer, times.sent),
        }
        let ill = times.answered < self.portal_ill_until.get();
        let troubles = match role {
            Role::Honest => &mut measures.troubles,
            Role::Hostile(_) => &mut measures.hostile,
        };
        match answer {
            Answer::Unreachable => troubles.unreachable += 1,
            Answer::Strange(_) => troubles.strange += 1,
            Answer::GatewayError(_) if ill => troubles.gateway_errors_in_outage += 1,
            Answer::GatewayError(_) => troubles.gateway_errors += 1,
            Answer::Portal(status) if status.is_server_error() => troubles.portal_errors += 1,
            Answer::Queue(StatusCode::TOO_MANY_REQUESTS, _) => troubles.too_many_requests += 1,
            Answer::Challenge(..) => troubles.challenged += 1,
            Answer::Portal(_) | Answer::Page | Answer::Queue(..) => {}
        }
    }
}

fn time_honest(measures: &mut Measures, (ask, kind): (Ask, Kind), answer: &Answer, times: Times) {
    if ask == Ask::Enter && matches!(answer, Answer::Page | Answer::Queue(..)) {
        measures.held_in_vain.add(times.answered.since(times.sent));
    }
    if *answer == Answer::Unreachable {
        return;
    }
    let latency = times.latency();
    if let Some(latencies) = measures.latency(kind) {
        latencies.add(latency);
    }
    if kind.is_never_held() {
        measures.recent.add(latency);
    }
    measures.attacks.values_mut().for_each(|attack| attack.note_honest(kind, times.sent, latency));
}

fn note_hostile(attack: &mut Attack, answer: &Answer, sent: Moment) {
    attack.note(sent);
    attack.refused += u64::from(matches!(answer, Answer::Queue(StatusCode::TOO_MANY_REQUESTS, _)));
    attack.challenged += u64::from(matches!(answer, Answer::Challenge(..)));
}

/// Whether the portal gave this answer to somebody else than `mark`.
fn somebody_elses(received: &Received, mark: u32) -> bool {
    let whose = received.headers.get(PORTAL_MARK).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    whose.is_some_and(|whose| whose != mark)
}

/// Whether whoever asked plays by the rules.
#[derive(Clone, Copy)]
enum Role {
    Honest,
    /// One of this crowd, by its position in the scenario.
    Hostile(usize),
}

/// A visitor before something happened.
struct Before {
    seen: Seen,
    waiting: bool,
}

impl Before {
    fn of(visitor: &Visitor) -> Before {
        Before { seen: visitor.seen, waiting: visitor.is_waiting() }
    }
}

fn count(measures: &mut Measures, before: &Before, visitor: &Visitor, now: Moment) {
    let (counts, after) = (&mut measures.counts, &visitor.seen);
    counts.waiting = counts.waiting + u64::from(visitor.is_waiting()) - u64::from(before.waiting);
    let before = &before.seen;
    counts.arrived += u64::from(!before.arrived && after.arrived);
    counts.joined += u64::from(before.joined.is_none() && after.joined.is_some());
    counts.entered += u64::from(before.entered.is_none() && after.entered.is_some());
    counts.left += u64::from(!before.left && after.left);
    if before.called_by.is_none() && after.called_by.is_some() {
        counts.called += 1;
        if after.entered.is_none() {
            measures.first_call.get_or_insert(now);
            measures.last_call = Some(now);
        }
    }
}
