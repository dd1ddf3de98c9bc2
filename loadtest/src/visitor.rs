//! One visitor, as a state machine without clock or socket: what is due when, and what an answer changes.
//!
//! It acts as the waiting page's script does. Whenever the page is shown it joins by POST, which answers a visitor in
//! line with the place they have; it asks for its status when told to, and after a failure ever more slowly. Once
//! called it loads the wanted page after the visitor's claim delay, asking on in the meantime. If the gate does not
//! open in time the page comes back and joins: with nobody ahead at the gate it loads the wanted page again, else it
//! asks again when told. After five such attempts the page leaves it to the visitor, who takes ten seconds for each.
//! Where a join is answered with a challenge it joins again with the ending that was found for it ([`crate::work`]), or
//! without one as soon as the challenge is good without.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use crate::answer::{Answer, Queue, State};
use crate::behaviour::Behaviour;
use crate::clock::Moment;
use crate::cookies::Cookies;
use crate::journey::Journey;
use crate::ticket::{self, Place};
use crate::work::{Challenge, Done};

/// Polls answered later than this were held by the server; the answer then came at the moment of the call.
const HELD_FROM: Duration = Duration::from_secs(1);
/// From finding the place gone to joining again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
/// Loads of the wanted page that the script makes by itself ...
const AUTOMATIC_KNOCKS: u16 = 5;
/// ... within this time, counted from the latest.
const KNOCKS_FORGOTTEN: Duration = Duration::from_secs(120);
/// How long the visitor takes to press the button instead.
const BY_HAND: Duration = Duration::from_secs(10);
/// A script's retries are at most so many times further apart than the first.
const SLOWEST_RETRY: u32 = 15;
/// When the server names no interval.
const DEFAULT_REFRESH: Duration = Duration::from_secs(5);
/// However soon the server says.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);

/// What a visitor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The wanted page, not knowing of any line.
    Page,
    /// A ticket.
    Join,
    /// The status.
    Poll,
    /// The wanted page, under the turn.
    Enter,
    /// The n-th request of the journey, with the pass.
    Journey(u16),
}

/// Who a visitor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// A person with a browser, which asks when it is told to.
    #[default]
    Person,
    /// A program that joins as a browser does, and then asks as often as it likes.
    Bot {
        /// Between an answer and the next poll.
        every: Duration,
    },
    /// A program that shows tokens of its own making instead of joining.
    Forger {
        /// Between an answer and the next attempt.
        every: Duration,
    },
    /// A program that draws a ticket to keep it: its patience counts from then on.
    Hoarder,
    /// A program that joins again and again where it should work or wait first.
    Insistent {
        /// Between an answer and the next join.
        every: Duration,
    },
}

/// Where a visitor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The crowd, by its position in the scenario.
    pub crowd: u8,
    /// The address.
    pub address: Ipv4Addr,
}

/// What is the same for all visitors of a run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is done inside.
    pub journey: Rc<Journey>,
    /// From the waiting page's arrival to its script's first request.
    pub page_load: Duration,
    /// Between a first failed request and the next attempt: at least, at most. A script doubles it each time.
    pub retry: (Duration, Duration),
    /// How late the answer to a held poll may be without anybody having been overtaken.
    pub order_slack: Duration,
}

/// When an exchange was due, begun and answered.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the visitor wanted to send it.
    pub due: Moment,
    /// When sending began.
    pub sent: Moment,
    /// When the answer was complete.
    pub answered: Moment,
}

impl Times {
    /// From wanting to the complete answer: a slow tester or server cannot hide in it.
    pub fn latency(&self) -> Duration {
        self.answered.since(self.due)
    }

    fn was_held(&self) -> bool {
        self.answered.since(self.sent) > HELD_FROM
    }
}

/// Where a visitor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arriving { at: Moment },
    Joining { at: Moment },
    Waiting { poll_at: Moment },
    Called { poll_at: Moment, enter_at: Moment },
    Inside { step: u16, at: Moment },
    Away { back_at: Moment },
    Finished(End),
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Entered, journey done.
    Done,
    /// Closed the page while waiting.
    Left,
    /// Called, but never entered.
    NoShow,
}

/// What the verdict wants to know about a visitor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Came, and began to ask for the page.
    pub arrived: bool,
    /// Ticket number and class.
    pub place: Option<Place>,
    /// When the first answer to a join came.
    pub joined: Option<Moment>,
    /// Certainly not called yet at this time: a later poll than this was answered without a turn.
    pub uncalled_at: Moment,
    /// Very probably not called yet at this time: counts a held poll's answer as given when it was given.
    pub uncalled_by_held_answer: Moment,
    /// Certainly called at this time.
    pub called_by: Option<Moment>,
    /// Closed the page at some time.
    pub left: bool,
    /// First request for the page under the turn.
    pub knocked: Option<Moment>,
    /// First answer of the portal.
    pub entered: Option<Moment>,
    /// Held a pass before the portal answered: the admission was spent on a forwarding that failed.
    pub pass_before_portal: bool,
    /// How often the shown `ahead` grew.
    pub ahead_grew: u16,
    /// How often the ticket's number changed.
    pub place_changed: u16,
    /// How often a ticket or pass was not known any more.
    pub forgotten: u16,
    /// How often the waiting page came although the visitor was inside.
    pub thrown_out: u16,
    /// How often an answer of the portal came that had been given to somebody else.
    pub leaks: u16,
    /// The first wait that was shown.
    pub shown_wait: Option<ShownWait>,
    /// When the journey was done.
    pub done: Option<Moment>,
    /// Was told to wait, at this time for the first time since coming back.
    pub waits_again: Option<Moment>,
    /// How often work was asked for before a place was given.
    pub challenged: u16,
    /// Did the work for the place.
    pub worked: bool,
}

/// What is asked of a visitor before a place is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toll {
    /// The challenge.
    pub challenge: Challenge,
    /// The ending that was found for it.
    pub ending: Option<String>,
}

/// A wait that was shown to a visitor: a range, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownWait {
    /// When.
    pub at: Moment,
    /// Its lower end.
    pub low: f32,
    /// Its upper end.
    pub high: f32,
}

/// Polls of several tabs of one browser are at least so far apart: the server allows one a second for a ticket.
const TABS_APART: Duration = Duration::from_secs(1);
/// From one tab to the next being opened.
const NEXT_TAB: Duration = Duration::from_secs(2);

/// One visitor.
#[derive(Clone, Debug)]
pub struct Visitor {
    mark: u32,
    origin: Origin,
    manner: Manner,
    tabs: u8,
    clients: u16,
    stage: Stage,
    behaviour: Behaviour,
    leave_at: Moment,
    joins: u16,
    failures: u16,
    knocks: u16,
    last_knock: Moment,
    shown_ahead: Option<u64>,
    told: Duration,
    is_back: bool,
    toll: Option<Box<Toll>>,
    cookies: Cookies,
    /// What happened so far.
    pub seen: Seen,
}

impl Visitor {
    /// The visitor `mark`, who comes at `at`, from an address of their own out of 10.0.0.0/8.
    pub fn new(mark: u32, at: Moment, behaviour: Behaviour) -> Visitor {
        let [_, a, b, c] = mark.to_be_bytes();
        Visitor {
            mark,
            origin: Origin { crowd: 0, address: Ipv4Addr::new(10, a, b, c) },
            manner: Manner::Person,
            tabs: 1,
            clients: 0,
            stage: Stage::Arriving { at },
            behaviour,
            leave_at: behaviour.patience.map_or(Moment::NEVER, |patience| at + patience),
            joins: 0,
            failures: 0,
            knocks: 0,
            last_knock: Moment(0),
            shown_ahead: None,
            told: Duration::ZERO,
            is_back: false,
            toll: None,
            cookies: Cookies::default(),
            seen: Seen::default(),
        }
    }

    /// The same, coming from somewhere and being somebody.
    pub fn who(mut self, origin: Origin, manner: Manner) -> Visitor {
        self.origin = origin;
        self.manner = manner;
        if manner == Manner::Hoarder {
            self.leave_at = Moment::NEVER;
        }
        self
    }

    /// The same, coming with cookies it made up.
    pub fn with_forged_cookies(mut self, room: &str) -> Visitor {
        self.cookies = Cookies::forged(room, scattered(u64::from(self.mark)));
        self
    }

    /// The crowd the visitor is one of, by its position in the scenario.
    pub fn crowd(&self) -> usize {
        usize::from(self.origin.crowd)
    }

    /// Where the visitor comes from.
    pub fn address(&self) -> Ipv4Addr {
        self.origin.address
    }

    /// Whether this is somebody who makes tokens up.
    pub fn is_forger(&self) -> bool {
        matches!(self.manner, Manner::Forger { .. })
    }

    /// Whether the next thing to do is sending the login provider's answer.
    pub fn awaits_login(&self, rules: &Rules) -> bool {
        matches!(self.stage, Stage::Inside { step, .. } if rules.journey.is_callback(step))
    }

    /// Goes on with the journey only within some seconds after `until`.
    pub fn put_off(&mut self, until: Moment) {
        if let Stage::Inside { at, .. } = &mut self.stage {
            *at = until + Duration::from_millis(scattered(u64::from(self.mark)) % 5_000);
        }
    }

    /// By which the portal knows the visitor again.
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// The cookies kept so far.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// The cookies, to be changed by an answer.
    pub fn cookies_mut(&mut self) -> &mut Cookies {
        &mut self.cookies
    }

    /// The `ahead` shown last.
    pub fn shown_ahead(&self) -> Option<u64> {
        self.shown_ahead
    }

    /// After which time the visitor was told to ask again.
    pub fn interval(&self) -> Duration {
        self.told
    }

    /// What was asked for before a place is given, if anything was.
    pub fn toll(&self) -> Option<&Toll> {
        self.toll.as_deref()
    }

    /// The challenge that can be worked on before it is due to join without.
    pub fn to_work_on(&self) -> Option<Challenge> {
        let toll = self.toll().filter(|toll| toll.ending.is_none());
        toll.filter(|_| matches!(self.stage, Stage::Joining { .. })).map(|toll| toll.challenge.clone())
    }

    /// The work was done at `now`: with it the visitor joins again at once.
    pub fn has_worked(&mut self, done: Done, now: Moment) {
        if let (Some(toll), Stage::Joining { at }) = (&mut self.toll, &mut self.stage) {
            toll.ending = Some(done.ending);
            *at = now;
        }
    }

    /// Names one wish to join: the same when asking again after a lost answer.
    pub fn join_id(&self) -> String {
        format!("{:016x}{:08x}{:04x}", scattered(u64::from(self.mark)), self.mark, self.joins)
    }

    /// How the visit ended, if it has.
    pub fn end(&self) -> Option<End> {
        match self.stage {
            Stage::Finished(end) => Some(end),
            _ => None,
        }
    }

    /// Whether the visitor is neither done nor away.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Finished(_) | Stage::Away { .. })
    }

    /// Whether the visitor stands in the line.
    pub fn is_waiting(&self) -> bool {
        let in_line = matches!(self.stage, Stage::Joining { .. } | Stage::Waiting { .. });
        in_line && self.seen.joined.is_some() && self.seen.called_by.is_none()
    }

    /// When the visitor does something next.
    pub fn due(&self) -> Moment {
        let at = match self.stage {
            Stage::Arriving { at } | Stage::Joining { at } | Stage::Inside { at, .. } => at,
            Stage::Waiting { poll_at } => poll_at,
            Stage::Called { poll_at, enter_at } => poll_at.min(enter_at),
            Stage::Away { back_at } => back_at,
            Stage::Finished(_) => Moment::NEVER,
        };
        at.min(self.gives_up_at())
    }

    /// When the visitor closes the page, even with a request under way.
    pub fn gives_up_at(&self) -> Moment {
        match self.stage {
            Stage::Arriving { .. } | Stage::Joining { .. } | Stage::Waiting { .. } => self.leave_at,
            _ => Moment::NEVER,
        }
    }

    /// Does what is due at `now`; the request to send, if that is one.
    pub fn act(&mut self, now: Moment) -> Option<Ask> {
        if now >= self.gives_up_at() {
            self.give_up(now);
            return None;
        }
        match self.stage {
            Stage::Away { .. } => {
                self.is_back = true;
                self.stage = Stage::Arriving { at: now };
                None
            }
            Stage::Arriving { .. } => {
                self.seen.arrived = true;
                Some(Ask::Page)
            }
            Stage::Joining { .. } => Some(Ask::Join),
            Stage::Waiting { .. } => Some(Ask::Poll),
            Stage::Called { enter_at, .. } if enter_at <= now => {
                self.knock(now);
                Some(Ask::Enter)
            }
            Stage::Called { .. } => Some(Ask::Poll),
            Stage::Inside { step, .. } => Some(Ask::Journey(step)),
            Stage::Finished(_) => None,
        }
    }

    fn knock(&mut self, now: Moment) {
        let recent = now.since(self.last_knock) < KNOCKS_FORGOTTEN;
        self.knocks = if recent { self.knocks.saturating_add(1) } else { 1 };
        self.last_knock = now;
        self.seen.knocked.get_or_insert(now);
    }

    /// Closes the page.
    pub fn give_up(&mut self, now: Moment) {
        self.seen.left = true;
        self.leave_at = Moment::NEVER;
        self.stage = match self.behaviour.returns_after.take() {
            Some(after) => Stage::Away { back_at: now + after },
            None => Stage::Finished(End::Left),
        };
    }

    /// Moves on by an answer. Its cookies have been taken before.
    pub fn take(&mut self, ask: Ask, answer: &Answer, times: Times, rules: &Rules) {
        self.look_at_tokens(answer);
        match answer {
            Answer::Portal(status) => self.reached_portal(ask, *status, times.answered, rules),
            Answer::Page => self.shown_page(ask, times.answered, rules),
            Answer::Queue(status, queue) => self.told(ask, *status, queue, times, rules),
            Answer::Challenge(challenge, queue) => self.challenged(challenge, queue, times.answered),
            Answer::GatewayError(_) | Answer::Strange(_) | Answer::Unreachable => {
                self.later(ask, times.answered, rules);
                return;
            }
        }
        self.failures = 0;
    }

    fn look_at_tokens(&mut self, answer: &Answer) {
        let token = self.cookies.ticket().or(self.cookies.pass());
        let Some(place) = token.and_then(ticket::place) else { return };
        let before = self.seen.place.replace(place);
        self.seen.place_changed += u16::from(before.is_some_and(|before| before != place));
        let without_portal = self.cookies.pass().is_some() && self.seen.entered.is_none();
        self.seen.pass_before_portal |= without_portal && matches!(answer, Answer::GatewayError(_));
    }

    fn reached_portal(&mut self, ask: Ask, status: StatusCode, now: Moment, rules: &Rules) {
        self.seen.entered.get_or_insert(now);
        self.seen.called_by.get_or_insert(now);
        if status.is_server_error() {
            return self.later(ask, now, rules);
        }
        let next = match ask {
            Ask::Journey(step) => step + 1,
            _ => 0,
        };
        self.stage = self.inside(next, now, rules).unwrap_or_else(|| self.next_client(now, rules));
    }

    fn inside(&self, step: u16, now: Moment, rules: &Rules) -> Option<Stage> {
        let number = u64::from(self.mark) << 32 | u64::from(self.clients) << 16 | u64::from(step);
        let pause = rules.journey.pause_before(step, scattered(number))?;
        Some(Stage::Inside { step, at: now + pause })
    }

    /// Begins with the next client's form, or is done.
    fn next_client(&mut self, now: Moment, rules: &Rules) -> Stage {
        if self.clients < self.behaviour.more_clients {
            self.clients += 1;
            if let Some(stage) = self.inside(rules.journey.next_client_from, now, rules) {
                return stage;
            }
        }
        self.seen.done = Some(now);
        Stage::Finished(End::Done)
    }

    fn shown_page(&mut self, ask: Ask, now: Moment, rules: &Rules) {
        self.seen.thrown_out += u16::from(matches!(ask, Ask::Journey(_)));
        self.stage = match self.manner {
            Manner::Forger { every } => Stage::Arriving { at: now + every },
            Manner::Person | Manner::Bot { .. } | Manner::Hoarder | Manner::Insistent { .. } => {
                Stage::Joining { at: now + rules.page_load }
            }
        };
    }

    fn told(&mut self, ask: Ask, status: StatusCode, queue: &Queue, times: Times, rules: &Rules) {
        if ask == Ask::Join {
            if self.manner == Manner::Hoarder && self.seen.joined.is_none() {
                self.leave_at = self.behaviour.patience.map_or(Moment::NEVER, |patience| times.answered + patience);
            }
            self.seen.joined.get_or_insert(times.answered);
            self.seen.worked |= self.toll.take().is_some_and(|toll| toll.ending.is_some());
        }
        self.told = refresh(queue, status);
        self.show(ask, queue, times.answered);
        let poll_at = times.answered + self.pause(queue, status);
        match queue.state {
            State::YourTurn => self.called(queue, poll_at, times, rules),
            State::Inside => self.stage = Stage::Called { poll_at: Moment::NEVER, enter_at: times.answered },
            State::None | State::Expired | State::Left => self.join_again(times.answered),
            State::Waiting | State::Held | State::ClosedHours | State::BeforeOpening => {
                self.note_uncalled(times, rules);
                if self.is_back {
                    self.seen.waits_again.get_or_insert(times.answered);
                }
                self.stage = self.opens_tab(times.answered).unwrap_or(Stage::Waiting { poll_at });
            }
            State::Maintenance | State::Unknown => self.stage = Stage::Waiting { poll_at },
        }
    }

    /// Too many join from the visitor's network. Unless work is done before, the challenge is good when the time is over.
    fn challenged(&mut self, challenge: &Challenge, queue: &Queue, now: Moment) {
        self.seen.challenged = self.seen.challenged.saturating_add(1);
        if let Manner::Insistent { every } = self.manner {
            self.stage = Stage::Joining { at: now + every };
            return;
        }
        self.toll = Some(Box::new(Toll { challenge: challenge.clone(), ending: None }));
        self.stage = Stage::Joining { at: now + refresh(queue, StatusCode::TOO_MANY_REQUESTS) };
    }

    fn show(&mut self, ask: Ask, queue: &Queue, now: Moment) {
        if let (None, Some(low), Some(high)) = (self.seen.shown_wait, queue.wait_seconds_low, queue.wait_seconds_high) {
            self.seen.shown_wait = Some(ShownWait { at: now, low, high });
        }
        let Some(ahead) = queue.ahead else { return };
        let before = self.shown_ahead.replace(ahead);
        // A new tab, or the page opened again, does not know what was shown before and cannot say it.
        let anew = ask == Ask::Join && (self.behaviour.more_tabs > 0 || self.seen.left);
        self.seen.ahead_grew += u16::from(!anew && before.is_some_and(|before| ahead > before));
    }

    /// Opens the page in another tab, which joins with the same cookies.
    fn opens_tab(&mut self, now: Moment) -> Option<Stage> {
        if self.tabs > self.behaviour.more_tabs {
            return None;
        }
        self.tabs += 1;
        self.joins = self.joins.wrapping_add(1);
        Some(Stage::Joining { at: now + NEXT_TAB })
    }

    /// How long until the next poll: when told, sooner with several tabs, or as a program likes.
    fn pause(&self, queue: &Queue, status: StatusCode) -> Duration {
        let told = refresh(queue, status);
        match self.manner {
            Manner::Bot { every } | Manner::Forger { every } => every,
            Manner::Person if self.tabs > 1 => told.min((told / u32::from(self.tabs)).max(TABS_APART)),
            Manner::Person | Manner::Hoarder | Manner::Insistent { .. } => told,
        }
    }

    fn called(&mut self, queue: &Queue, poll_at: Moment, times: Times, rules: &Rules) {
        let now = times.answered;
        if self.seen.called_by.is_none() {
            self.seen.called_by = Some(now);
            if times.was_held() {
                self.note_uncalled_by_held_answer(times, rules);
            }
        }
        self.stage = match (self.stage, self.behaviour.claims_after) {
            (_, None) => Stage::Finished(End::NoShow),
            (_, Some(_)) if self.seen.knocked.is_some() => {
                Stage::Called { poll_at, enter_at: self.next_knock(queue, now) }
            }
            (Stage::Called { enter_at, .. }, Some(_)) => Stage::Called { poll_at, enter_at },
            (_, Some(after)) => Stage::Called { poll_at, enter_at: now + after },
        };
    }

    /// When somebody who has stood at the gate loads the wanted page again.
    fn next_knock(&self, queue: &Queue, now: Moment) -> Moment {
        if queue.ahead_at_gate.is_some_and(|ahead| ahead > 0) {
            Moment::NEVER
        } else if self.knocks < AUTOMATIC_KNOCKS {
            now
        } else {
            now.max(self.last_knock + BY_HAND)
        }
    }

    fn note_uncalled(&mut self, times: Times, rules: &Rules) {
        self.seen.uncalled_at = self.seen.uncalled_at.max(times.sent);
        self.seen.uncalled_by_held_answer = self.seen.uncalled_by_held_answer.max(times.sent);
        if times.was_held() {
            self.note_uncalled_by_held_answer(times, rules);
        }
    }

    fn note_uncalled_by_held_answer(&mut self, times: Times, rules: &Rules) {
        let until = times.answered - rules.order_slack;
        self.seen.uncalled_by_held_answer = self.seen.uncalled_by_held_answer.max(until);
    }

    fn join_again(&mut self, now: Moment) {
        self.seen.forgotten += u16::from(self.seen.place.is_some());
        self.joins = self.joins.wrapping_add(1);
        self.shown_ahead = None;
        self.seen.shown_wait = None;
        self.stage = Stage::Joining { at: now + REJOIN_PAUSE };
    }

    /// Asks for the same again later: a script ever more slowly, a person who reloads a page does not learn.
    fn later(&mut self, ask: Ask, now: Moment, rules: &Rules) {
        self.failures = self.failures.saturating_add(1);
        let (least, most) = rules.retry;
        let even = scattered(u64::from(self.mark) << 16 | u64::from(self.failures)) as f64 / u64::MAX as f64;
        let first = least + most.saturating_sub(least).mul_f64(even);
        let slower = match ask {
            Ask::Join | Ask::Poll => 2_u32.saturating_pow(u32::from(self.failures) - 1).min(SLOWEST_RETRY),
            Ask::Page | Ask::Enter | Ask::Journey(_) => 1,
        };
        let at = now + first * slower;
        self.stage = match (ask, self.stage) {
            (Ask::Page, _) => Stage::Arriving { at },
            (Ask::Join, _) => Stage::Joining { at },
            (Ask::Enter, _) => Stage::Called { poll_at: Moment::NEVER, enter_at: at },
            (Ask::Poll, Stage::Called { enter_at, .. }) => Stage::Called { poll_at: at, enter_at },
            (Ask::Poll, _) => Stage::Waiting { poll_at: at },
            (Ask::Journey(step), _) => Stage::Inside { step, at },
        };
    }
}

/// When to ask again; whoever was told to slow down waits a second at least.
fn refresh(queue: &Queue, status: StatusCode) -> Duration {
    let told = queue.refresh_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let floor = if status == StatusCode::TOO_MANY_REQUESTS { Duration::from_secs(1) } else { SHORTEST_REFRESH };
    told.unwrap_or(DEFAULT_REFRESH).max(floor)
}

/// Scatters a number over all 64 bits (the finaliser of SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let journey = toml::from_str("requests = 1\npause = '1s'").unwrap();
        Rules {
            journey: Rc::new(Journey::of(&journey)),
            page_load: Duration::ZERO,
            retry: (Duration::from_secs(2), Duration::from_secs(3)),
            order_slack: Duration::from_millis(500),
        }
    }

    fn at(seconds: f64) -> Moment {
        Moment((seconds * 1e6) as u64)
    }

    fn quick(sent: f64) -> Times {
        Times { due: at(sent), sent: at(sent), answered: at(sent) + Duration::from_millis(1) }
    }

    fn queue(state: State, ahead: Option<u64>) -> Queue {
        Queue {
            state,
            ahead,
            ahead_at_gate: None,
            wait_seconds_low: None,
            wait_seconds_high: None,
            refresh_seconds: Some(10.0),
            reason: None,
        }
    }

    fn says(state: State, ahead: Option<u64>) -> Answer {
        Answer::Queue(StatusCode::OK, queue(state, ahead))
    }

    fn claims_after(seconds: u64) -> Behaviour {
        Behaviour { claims_after: Some(Duration::from_secs(seconds)), ..Behaviour::default() }
    }

    fn waiting(behaviour: Behaviour) -> Visitor {
        let mut visitor = Visitor::new(7, at(1.0), behaviour);
        assert_eq!(visitor.act(at(1.0)), Some(Ask::Page));
        visitor.take(Ask::Page, &Answer::Page, quick(1.0), &rules());
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Join));
        visitor.take(Ask::Join, &says(State::Waiting, Some(50)), quick(1.1), &rules());
        visitor
    }

    #[test]
    fn walks_from_the_page_to_the_end_of_the_journey() {
        let mut visitor = waiting(claims_after(0));
        assert_eq!(visitor.due(), at(11.101));
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Poll));
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(11.2), &rules());
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Enter));
        visitor.take(Ask::Enter, &Answer::Portal(StatusCode::OK), quick(11.3), &rules());
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Journey(0)));
        visitor.take(Ask::Journey(0), &Answer::Portal(StatusCode::OK), quick(12.4), &rules());
        assert_eq!(visitor.end(), Some(End::Done));
        assert_eq!(visitor.due(), Moment::NEVER);
    }

    #[test]
    fn goes_straight_through_when_the_portal_answers() {
        let mut visitor = Visitor::new(7, at(1.0), claims_after(0));
        visitor.take(Ask::Page, &Answer::Portal(StatusCode::OK), quick(1.0), &rules());
        assert!(visitor.seen.entered.is_some() && visitor.seen.knocked.is_none());
    }

    #[test]
    fn polls_on_while_the_visitor_takes_time_to_enter() {
        let mut visitor = waiting(claims_after(15));
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(20.0), &rules());
        assert_eq!(visitor.act(at(30.001)), Some(Ask::Poll));
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(30.001), &rules());
        assert_eq!(visitor.due(), at(35.001));
        assert_eq!(visitor.act(at(35.001)), Some(Ask::Enter));
    }

    fn at_the_gate(ahead_at_gate: Option<u64>) -> Answer {
        Answer::Queue(StatusCode::OK, Queue { ahead_at_gate, ..queue(State::YourTurn, None) })
    }

    /// Called, and sent back from the gate to the page once.
    fn sent_back() -> Visitor {
        let mut visitor = waiting(claims_after(0));
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(20.0), &rules());
        assert_eq!(visitor.act(at(20.1)), Some(Ask::Enter));
        visitor.take(Ask::Enter, &Answer::Page, quick(25.1), &rules());
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Join));
        visitor
    }

    #[test]
    fn sent_back_from_the_gate_it_asks_on_while_others_are_ahead_there() {
        let mut visitor = sent_back();
        visitor.take(Ask::Join, &at_the_gate(Some(2)), quick(25.2), &rules());
        assert_eq!((visitor.due(), visitor.act(at(35.201))), (at(35.201), Some(Ask::Poll)));
        visitor.take(Ask::Poll, &at_the_gate(Some(0)), quick(35.3), &rules());
        assert_eq!((visitor.due(), visitor.act(at(35.301))), (at(35.301), Some(Ask::Enter)));
        assert_eq!(visitor.seen.knocked, Some(at(20.1)));
    }

    #[test]
    fn after_five_knocks_the_visitor_takes_ten_seconds_for_each() {
        let mut visitor = sent_back();
        for second in 26..30 {
            visitor.take(Ask::Join, &at_the_gate(None), quick(f64::from(second)), &rules());
            assert_eq!(visitor.act(visitor.due()), Some(Ask::Enter));
            visitor.take(Ask::Enter, &Answer::Page, quick(f64::from(second) + 0.1), &rules());
        }
        visitor.take(Ask::Join, &at_the_gate(None), quick(30.0), &rules());
        assert_eq!(visitor.act(at(39.0)), Some(Ask::Poll));
        assert!((at(39.0)..at(39.1)).contains(&visitor.due()), "{:?}", visitor.due());
    }

    #[test]
    fn leaves_when_patience_ends_and_comes_back_with_its_ticket() {
        let behaviour = Behaviour {
            patience: Some(Duration::from_secs(5)),
            returns_after: Some(Duration::from_secs(60)),
            claims_after: Some(Duration::ZERO),
            ..Behaviour::default()
        };
        let mut visitor = waiting(behaviour);
        assert_eq!((visitor.due(), visitor.act(at(6.0))), (at(6.0), None));
        assert_eq!((visitor.due(), visitor.act(at(66.0))), (at(66.0), None));
        assert_eq!(visitor.act(at(66.0)), Some(Ask::Page));
        assert!(visitor.seen.left && visitor.end().is_none());
        assert_eq!(visitor.gives_up_at(), Moment::NEVER);
    }

    #[test]
    fn whoever_is_called_first_does_not_leave() {
        let mut visitor = waiting(Behaviour { patience: Some(Duration::from_secs(30)), ..claims_after(60) });
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(20.0), &rules());
        assert_eq!(visitor.gives_up_at(), Moment::NEVER);
    }

    #[test]
    fn a_no_show_is_finished_once_called() {
        let mut visitor = waiting(Behaviour::default());
        visitor.take(Ask::Poll, &says(State::YourTurn, None), quick(20.0), &rules());
        assert_eq!(visitor.end(), Some(End::NoShow));
    }

    #[test]
    fn notes_when_ahead_grows() {
        let mut visitor = waiting(claims_after(0));
        visitor.take(Ask::Poll, &says(State::Waiting, Some(50)), quick(11.0), &rules());
        assert_eq!(visitor.seen.ahead_grew, 0);
        visitor.take(Ask::Poll, &says(State::Waiting, Some(51)), quick(21.0), &rules());
        assert_eq!(visitor.seen.ahead_grew, 1);
    }

    #[test]
    fn evidence_of_not_being_called_is_the_sending_or_a_held_answer() {
        let mut visitor = waiting(claims_after(0));
        visitor.take(Ask::Poll, &says(State::Waiting, Some(5)), quick(11.0), &rules());
        assert_eq!((visitor.seen.uncalled_at, visitor.seen.uncalled_by_held_answer), (at(11.0), at(11.0)));
        let held = Times { due: at(20.0), sent: at(20.0), answered: at(35.0) };
        visitor.take(Ask::Poll, &says(State::YourTurn, None), held, &rules());
        assert_eq!((visitor.seen.uncalled_at, visitor.seen.uncalled_by_held_answer), (at(11.0), at(34.5)));
        assert_eq!(visitor.seen.called_by, Some(at(35.0)));
    }

    #[test]
    fn a_failed_poll_is_made_again_ever_more_slowly() {
        let mut visitor = waiting(claims_after(0));
        for (least, most) in [(2.0, 3.0), (4.0, 6.0), (8.0, 12.0), (16.0, 24.0), (30.0, 45.0), (30.0, 45.0)] {
            visitor.take(Ask::Poll, &Answer::Unreachable, quick(11.0), &rules());
            assert!((at(11.0 + least)..at(11.1 + most)).contains(&visitor.due()), "{least}: {:?}", visitor.due());
        }
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Poll));
    }

    #[test]
    fn several_tabs_join_once_each_and_ask_more_often() {
        let mut visitor = waiting(Behaviour { more_tabs: 2, ..claims_after(0) });
        for _ in 0..2 {
            assert_eq!(visitor.act(visitor.due()), Some(Ask::Join));
            visitor.take(Ask::Join, &says(State::Waiting, Some(50)), quick(5.0), &rules());
            assert!(visitor.seen.joined.is_some() && visitor.seen.place_changed == 0);
        }
        assert_eq!(visitor.act(visitor.due()), Some(Ask::Poll));
        assert!((at(8.0)..at(9.0)).contains(&visitor.due()), "{:?}", visitor.due());
    }

    #[test]
    fn a_bot_asks_as_often_as_it_likes_and_a_forger_never_joins() {
        let origin = Origin { crowd: 1, address: Ipv4Addr::LOCALHOST };
        let every = Duration::from_millis(20);
        let mut bot = waiting(claims_after(0)).who(origin, Manner::Bot { every });
        bot.take(Ask::Poll, &says(State::Waiting, Some(50)), quick(11.0), &rules());
        assert_eq!(bot.due(), at(11.021));
        let mut forger = Visitor::new(7, at(1.0), claims_after(0)).who(origin, Manner::Forger { every });
        forger.take(Ask::Page, &Answer::Page, quick(11.0), &rules());
        assert_eq!(forger.act(forger.due()), Some(Ask::Page));
    }

    fn asked(text: &str, seconds: f64) -> Answer {
        let challenge = Challenge { text: text.to_owned(), bits: 14 };
        Answer::Challenge(challenge, Queue { refresh_seconds: Some(seconds), ..queue(State::None, None) })
    }

    /// Has been shown the page and asked for work, with its place to be had in five seconds without.
    fn challenged(manner: Manner) -> Visitor {
        let origin = Origin { crowd: 0, address: Ipv4Addr::LOCALHOST };
        let mut visitor = Visitor::new(7, at(1.0), claims_after(0)).who(origin, manner);
        visitor.take(Ask::Page, &Answer::Page, quick(1.0), &rules());
        visitor.take(Ask::Join, &asked("abc", 5.0), quick(2.0), &rules());
        visitor
    }

    #[test]
    fn whoever_is_asked_for_work_joins_again_with_it_or_when_the_time_is_over() {
        let mut visitor = challenged(Manner::Person);
        let (before, toll) = (visitor.join_id(), visitor.toll().unwrap().clone());
        assert_eq!((toll.challenge.text.as_str(), toll.ending, visitor.due()), ("abc", None, at(7.001)));
        assert_eq!(visitor.to_work_on(), Some(toll.challenge));
        visitor.has_worked(Done { ending: "z".to_owned(), hashes: 36 }, at(3.0));
        assert_eq!((visitor.due(), visitor.act(at(3.0)), visitor.to_work_on()), (at(3.0), Some(Ask::Join), None));
        assert_eq!((visitor.toll().unwrap().ending.as_deref(), visitor.join_id()), (Some("z"), before));
        visitor.take(Ask::Join, &asked("def", 5.0), quick(3.0), &rules());
        assert_eq!((visitor.to_work_on().unwrap().text.as_str(), visitor.seen.challenged), ("def", 2));
        visitor.take(Ask::Join, &says(State::Waiting, Some(50)), quick(8.1), &rules());
        assert!(visitor.toll().is_none() && visitor.seen.joined.is_some() && !visitor.seen.worked);
    }

    #[test]
    fn a_hoarder_closes_the_page_when_it_has_a_ticket_and_is_known_to_wait_again() {
        let patience = Some(Duration::from_secs(1));
        let behaviour = Behaviour { patience, returns_after: Some(Duration::from_secs(60)), ..claims_after(0) };
        let origin = Origin { crowd: 0, address: Ipv4Addr::LOCALHOST };
        let mut visitor = Visitor::new(7, at(1.0), behaviour).who(origin, Manner::Hoarder);
        visitor.take(Ask::Page, &Answer::Page, quick(1.0), &rules());
        visitor.take(Ask::Join, &asked("abc", 120.0), quick(2.0), &rules());
        assert_eq!(visitor.due(), at(122.001));
        visitor.take(Ask::Join, &says(State::Waiting, Some(50)), quick(50.0), &rules());
        assert_eq!((visitor.due(), visitor.act(at(51.001)), visitor.due()), (at(51.001), None, at(111.001)));
        assert_eq!((visitor.act(at(112.0)), visitor.act(at(112.0))), (None, Some(Ask::Page)));
        assert_eq!(visitor.seen.waits_again, None);
        visitor.take(Ask::Page, &Answer::Page, quick(112.0), &rules());
        visitor.take(Ask::Join, &says(State::Waiting, Some(50)), quick(113.0), &rules());
        assert_eq!((visitor.seen.waits_again, visitor.seen.joined), (Some(at(113.001)), Some(at(50.001))));
    }

    #[test]
    fn whoever_insists_joins_again_without_anything() {
        let visitor = challenged(Manner::Insistent { every: Duration::from_millis(200) });
        assert_eq!((visitor.due(), visitor.toll(), visitor.to_work_on()), (at(2.201), None, None));
    }

    #[test]
    fn several_clients_are_served_one_after_the_other() {
        let mut visitor = waiting(Behaviour { more_clients: 1, ..claims_after(0) });
        visitor.take(Ask::Enter, &Answer::Portal(StatusCode::OK), quick(11.0), &rules());
        for _ in 0..2 {
            assert_eq!(visitor.act(visitor.due()), Some(Ask::Journey(0)));
            visitor.take(Ask::Journey(0), &Answer::Portal(StatusCode::OK), quick(12.5), &rules());
        }
        assert_eq!((visitor.end(), visitor.seen.done), (Some(End::Done), Some(at(12.501))));
    }

    #[test]
    fn a_forgotten_ticket_is_counted_and_drawn_anew() {
        let mut visitor = waiting(claims_after(0));
        visitor.seen.place = Some(Place { class: 0, number: 3 });
        let before = visitor.join_id();
        visitor.take(Ask::Poll, &says(State::None, None), quick(11.0), &rules());
        assert_eq!((visitor.seen.forgotten, visitor.act(visitor.due())), (1, Some(Ask::Join)));
        assert_ne!(visitor.join_id(), before);
    }
}
