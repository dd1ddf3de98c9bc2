//! Sends every visitor out when it is due, whatever has or has not been answered before: an open loop.
//!
//! One agenda holds the next moment of each visitor; a task lives only while a request is under way.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;

use crate::answer::{self, Answer};
use crate::clock::{Clock, Moment};
use crate::connection_pool::{ConnectionPool, Received};
use crate::measures::{Kind, Measures};
use crate::request::Target;
use crate::visitor::{Ask, Rules, Times, Visitor};

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
}

/// All visitors of a run.
#[derive(Debug)]
pub struct Crowd {
    clock: Clock,
    house: House,
    pool: Rc<ConnectionPool>,
    visitors: RefCell<Vec<Visitor>>,
    agenda: RefCell<BinaryHeap<Reverse<(Moment, u32)>>>,
    changed: Notify,
    under_way: Cell<usize>,
    measures: RefCell<Measures>,
    cut_until: Cell<Moment>,
    cut_begins: Notify,
    portal_ill_until: Cell<Moment>,
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
        let agenda = visitors.iter().map(|visitor| Reverse((visitor.due(), visitor.mark()))).collect();
        Rc::new(Crowd {
            clock,
            house,
            pool,
            visitors: RefCell::new(visitors),
            agenda: RefCell::new(agenda),
            changed: Notify::new(),
            under_way: Cell::new(0),
            measures: RefCell::default(),
            cut_until: Cell::new(Moment(0)),
            cut_begins: Notify::new(),
            portal_ill_until: Cell::new(Moment(0)),
        })
    }

    /// Lets the crowd act until everybody is done or `stop` says so. Must run within a `LocalSet`.
    pub async fn act(self: &Rc<Self>, stop: Stop) {
        loop {
            let now = self.clock.now();
            while let Some((due, mark)) = self.pop_due(now) {
                self.send_out(mark, due, now);
            }
            let next = self.next_due();
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

    fn pop_due(&self, now: Moment) -> Option<(Moment, u32)> {
        let mut agenda = self.agenda.borrow_mut();
        let Reverse((due, mark)) = *agenda.peek()?;
        if due > now {
            return None;
        }
        agenda.pop();
        Some((due, mark))
    }

    fn next_due(&self) -> Moment {
        self.agenda.borrow().peek().map_or(Moment::NEVER, |Reverse((due, _))| *due)
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
            crowd.under_way.set(crowd.under_way.get() - 1);
            crowd.enter_in_agenda(mark);
            crowd.changed.notify_one();
        });
    }

    fn step(&self, mark: u32, now: Moment) -> Option<Ask> {
        let mut visitor = self.visitor(mark)?;
        let before = visitor.seen;
        let ask = visitor.act(now);
        count(&mut self.measures.borrow_mut(), &before, &visitor.seen, now);
        ask
    }

    fn enter_in_agenda(&self, mark: u32) {
        let due = self.visitor(mark).map_or(Moment::NEVER, |visitor| visitor.due());
        if due != Moment::NEVER {
            self.agenda.borrow_mut().push(Reverse((due, mark)));
        }
    }

    async fn exchange(&self, mark: u32, ask: Ask, due: Moment) {
        let sent = self.clock.now();
        let Some((request, gives_up_at, ahead)) = self
            .visitor(mark)
            .map(|visitor| (self.house.target.request(ask, &visitor), visitor.gives_up_at(), visitor.shown_ahead()))
        else {
            return;
        };
        let outcome = if sent < self.cut_until.get() {
            Outcome::Cut
        } else {
            tokio::select! {
                received = self.pool.send(request) => Outcome::Answered(self.read(mark, received.ok())),
                () = self.cut_begins.notified() => Outcome::Cut,
                () = self.clock.sleep_until(gives_up_at) => Outcome::GaveUp,
                () = self.clock.sleep_until(sent + PATIENCE_WITH_SERVER) => Outcome::Answered(Answer::Unreachable),
            }
        };
        let times = Times { due, sent, answered: self.clock.now() };
        let kind = Kind::of(ask, ahead, self.house.near);
        self.conclude(mark, ask, kind, outcome, times);
    }

    fn read(&self, mark: u32, received: Option<Received>) -> Answer {
        let Some(received) = received else { return Answer::Unreachable };
        if let Some(mut visitor) = self.visitor(mark) {
            visitor.cookies_mut().take(&received.headers, &self.house.room);
        }
        answer::read(received.status, &received.headers, &received.body)
    }

    fn conclude(&self, mark: u32, ask: Ask, kind: Kind, outcome: Outcome, times: Times) {
        let Some(mut visitor) = self.visitor(mark) else { return };
        let mut measures = self.measures.borrow_mut();
        let before = visitor.seen;
        match outcome {
            Outcome::Answered(answer) => {
                self.measure(&mut measures, ask, kind, &answer, times);
                visitor.take(ask, &answer, times, &self.house.rules);
            }
            Outcome::Cut => {
                measures.troubles.cut += 1;
                visitor.take(ask, &Answer::Unreachable, times, &self.house.rules);
            }
            Outcome::GaveUp => visitor.give_up(times.answered),
        }
        count(&mut measures, &before, &visitor.seen, times.answered);
    }

    fn measure(&self, measures: &mut Measures, ask: Ask, kind: Kind, answer: &Answer, times: Times) {
        measures.counts.requests += 1;
        measures.lag.add(times.sent.since(times.due));
        if *answer != Answer::Unreachable
            && let Some(latencies) = measures.latency(kind)
        {
            latencies.add(times.latency());
        }
        if ask == Ask::Enter && matches!(answer, Answer::Page | Answer::Queue(..)) {
            measures.held_in_vain.add(times.answered.since(times.sent));
        }
        let ill = times.answered < self.portal_ill_until.get();
        let troubles = &mut measures.troubles;
        match answer {
            Answer::Unreachable => troubles.unreachable += 1,
            Answer::Strange(_) => troubles.strange += 1,
            Answer::GatewayError(_) if ill => troubles.gateway_errors_in_outage += 1,
            Answer::GatewayError(_) => troubles.gateway_errors += 1,
            Answer::Portal(status) if status.is_server_error() => troubles.portal_errors += 1,
            Answer::Queue(StatusCode::TOO_MANY_REQUESTS, _) => troubles.too_many_requests += 1,
            Answer::Portal(_) | Answer::Page | Answer::Queue(..) => {}
        }
    }
}

fn count(measures: &mut Measures, before: &crate::visitor::Seen, after: &crate::visitor::Seen, now: Moment) {
    let counts = &mut measures.counts;
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
