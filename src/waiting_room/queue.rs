//! The `queue` object: one visitor's standing as JSON, the same in every answer that has it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::words::Words;
use crate::config::LocalText;
use crate::domain::closing::{Closing, Reach, Rest, Stage};
use crate::domain::names::ClassName;
use crate::domain::time::Unix;
use crate::domain::wait_estimate::WaitRange;

/// Media type of the answers to `join` and `status`.
pub const QUEUE_TYPE: &str = "application/json";
/// Media type of problem documents (RFC 9457, section 3).
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Bytes that nearly every `queue` object is shorter than.
const USUAL_JSON: usize = 1 << 10;

/// What is true of one visitor.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Where the visitor is.
    pub state: QueueState,
    /// The lane's class, once there is a ticket or pass.
    pub class: Option<ClassName>,
    /// A short text to read out on the phone.
    pub reference: Option<String>,
    /// Present visitors before this one, as far as they may be shown.
    pub ahead: Option<u64>,
    /// Called visitors before this one at the gate.
    pub ahead_at_gate: Option<u64>,
    /// How long it will take from `updated_at` on.
    pub wait: Option<WaitRange>,
    /// From 0 (just joined) to 1 (called).
    pub progress: Option<f64>,
    /// Why the line stands still, if it does.
    pub reason: Option<Reason>,
    /// What the operator wants everybody to read.
    pub message: LocalText,
    /// The hours of this visitor's class.
    pub window: Window,
    /// When the turn lapses.
    pub enter_by: Option<Unix>,
    /// When to ask again.
    pub refresh: Duration,
    /// When all this was true, by the wall clock.
    pub updated_at: Unix,
    /// What gives the place back on another device.
    pub recovery_code: Option<String>,
    /// Before the opening: how places will be given.
    pub gathering: Option<Gathering>,
    /// When a stay inside ends.
    pub session: Option<Session>,
    /// When the room closes, if ever.
    pub closing: Option<ClosingTold>,
}

/// How a room's closing stands, for one visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingTold {
    /// What is planned.
    pub closing: Closing,
    /// How far it is.
    pub stage: Stage,
    /// Whether the visitor's turn comes before; while the line ended before, it is unlikely for ever.
    pub reach: Option<Reach>,
}

impl ClosingTold {
    /// Whether the line ended while the visitor still waited.
    pub fn ended_before_the_turn(&self) -> bool {
        self.stage == Stage::Ended && self.reach.is_some()
    }

    /// Whether the visitor's turn will most probably not come.
    pub fn comes_too_early(&self) -> bool {
        self.reach == Some(Reach::Unlikely)
    }
}

/// How those who come before the opening get their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathering {
    /// Nobody can join yet, only from this hour on.
    From(Unix),
    /// In the order in which they came.
    ByArrival,
    /// By lot.
    ByLot,
}

/// When a stay inside ends, if nothing more happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// For lack of activity, or because nobody may stay longer: whichever comes first.
    pub ends_at: Unix,
    /// Because nobody may stay longer, whatever is done.
    pub limited_at: Option<Unix>,
    /// How often the visitor may put that off still; `None` where there is no such end.
    pub extensions_left: Option<u32>,
    /// Whether that is soon enough for a warning.
    pub ends_soon: bool,
}

/// The first of these that applies is a visitor's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    /// The room is closed.
    Maintenance,
    /// Holds a good pass.
    Inside,
    /// Gave up the place.
    Left,
    /// The ticket or pass is only expired.
    Expired,
    /// The room has not opened yet.
    BeforeOpening,
    /// Has no ticket.
    None,
    /// Called, not yet inside.
    YourTurn,
    /// The operator holds the line.
    Held,
    /// The class has no share now.
    ClosedHours,
    /// Nobody can join any more, and who still waited is not called.
    Ended,
    /// Stands in the line; any other standstill is this with a reason.
    Waiting,
}

impl QueueState {
    /// Every state.
    pub const ALL: [QueueState; 11] = [
        QueueState::Maintenance,
        QueueState::Inside,
        QueueState::Left,
        QueueState::Expired,
        QueueState::BeforeOpening,
        QueueState::None,
        QueueState::YourTurn,
        QueueState::Held,
        QueueState::ClosedHours,
        QueueState::Ended,
        QueueState::Waiting,
    ];
}

/// Why a line stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// The operator holds the line.
    OperatorHold,
    /// The class has no share now.
    OutsideHours,
    /// The room has not opened yet.
    BeforeOpening,
    /// Every seat is taken.
    RoomFull,
    /// The portal, or the login provider, does not answer properly.
    PortalUnhealthy,
    /// The leak guard stopped new admissions.
    LeakGuard,
    /// The store does not answer.
    StoreUnreachable,
    /// The store takes nothing more.
    StoreFull,
    /// The rate is lower than usual: raised slowly after a standstill, or lowered because the portal is slow.
    RampingUp,
}

impl ReasonCode {
    /// Every code.
    pub const ALL: [ReasonCode; 9] = [
        ReasonCode::OperatorHold,
        ReasonCode::OutsideHours,
        ReasonCode::BeforeOpening,
        ReasonCode::RoomFull,
        ReasonCode::PortalUnhealthy,
        ReasonCode::LeakGuard,
        ReasonCode::StoreUnreachable,
        ReasonCode::StoreFull,
        ReasonCode::RampingUp,
    ];
}

/// Why, and since when, a line stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Why.
    pub code: ReasonCode,
    /// Since when.
    pub since: Unix,
}

/// The hours in which a class can enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether it can now.
    pub open: bool,
    /// When it next can, if not now.
    pub opens_at: Option<Unix>,
    /// When it can no longer, if now.
    pub closes_at: Option<Unix>,
}

impl Window {
    /// A room without hours.
    pub const ALWAYS: Window = Window { open: true, opens_at: None, closes_at: None };
}

impl Standing {
    /// A visitor of whom only the state is known: everything else is unknown, the next question in `refresh`.
    pub fn only(state: QueueState, refresh: Duration, updated_at: Unix) -> Standing {
        Standing {
            state,
            class: None,
            reference: None,
            ahead: None,
            ahead_at_gate: None,
            wait: None,
            progress: None,
            reason: None,
            message: LocalText::default(),
            window: Window::ALWAYS,
            enter_by: None,
            refresh,
            updated_at,
            recovery_code: None,
            gathering: None,
            session: None,
            closing: None,
        }
    }

    /// Whether nobody enters now, turn or not. While the service starts again, or is full, people do enter, slowly.
    pub fn nobody_enters(&self) -> bool {
        self.reason.is_some_and(|reason| !matches!(reason.code, ReasonCode::RampingUp | ReasonCode::RoomFull))
    }

    /// The middle of the estimated range, on the clock; `None` when the line ends before.
    pub fn expected_at(&self) -> Option<Unix> {
        let ends = self.closing.map(|told| told.closing).filter(|closing| closing.then == Rest::End);
        let expected = self.wait.map(|wait| self.updated_at + (wait.low + wait.high) / 2);
        expected.filter(|at| ends.is_none_or(|closing| *at <= closing.at))
    }

    /// The state that the page speaks of: whoever has a turn is not told to enter while nobody can, or outside their hours.
    pub fn state_to_tell(&self) -> QueueState {
        let outside_hours = self.reason.is_some_and(|reason| reason.code == ReasonCode::OutsideHours);
        match self.state {
            QueueState::YourTurn if outside_hours => QueueState::ClosedHours,
            QueueState::YourTurn if self.nobody_enters() => QueueState::Held,
            state => state,
        }
    }

    /// `{"queue": {...}}`, for `join` and `status`.
    pub fn to_json(&self, words: &Words<'_>) -> Bytes {
        json(&QueueDocument { queue: self.queue(words) })
    }

    /// The problem document with the `queue` object as a member (RFC 9457, section 3.2), for 503 and 429.
    pub fn to_problem(&self, status: StatusCode, challenge: Option<Asked<'_>>, words: &Words<'_>) -> Bytes {
        let detail = words.catalogue.state(self.state).map_or("", |state| &state.heading);
        json(&Problem { queue: Some(self.queue(words)), challenge, ..Problem::new(status, detail) })
    }

    fn queue<'a>(&'a self, words: &Words<'a>) -> Queue<'a> {
        Queue {
            state: self.state,
            class: self.class.as_ref().map(ClassName::as_str),
            reference: self.reference.as_deref(),
            ahead: self.ahead,
            ahead_at_gate: self.ahead_at_gate,
            wait_seconds_low: self.wait.map(|wait| wait.low.as_secs()),
            wait_seconds_high: self.wait.map(|wait| whole_seconds(wait.high)),
            expected_at: self.expected_at().map(|at| words.rfc_3339(at)),
            progress: self.progress.map(|progress| progress.clamp(0.0, 1.0)),
            reason: self.reason.map(|reason| ReasonInWords::of(reason, words)),
            message: self.message.in_language(&words.catalogue.code).map(|(text, _)| text),
            window: WindowInWords::of(self.window, words),
            enter_by: self.enter_by.map(|at| words.rfc_3339(at)),
            refresh_seconds: whole_seconds(self.refresh).max(1),
            updated_at: words.rfc_3339(self.updated_at),
            text: Text::of(self, words),
            recovery_code: self.recovery_code.as_deref(),
            session: self.session.map(|session| SessionInWords {
                ends_at: words.rfc_3339(session.ends_at),
                limited_at: session.limited_at.map(|at| words.rfc_3339(at)),
                extensions_left: session.extensions_left,
                ends_soon: session.ends_soon,
            }),
            closing: self.closing.map(|told| OwnClosing {
                closing: ClosingInWords::of(told.closing, told.stage, words),
                reach: told.reach,
            }),
        }
    }
}

/// A problem document without a `queue` member, for scripts that met one of our own errors (RFC 9457).
pub fn problem(status: StatusCode, detail: &str) -> Bytes {
    json(&Problem::new(status, detail))
}

/// A standing in words, for the `text` member and for pages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text<'a> {
    /// "You are in the line": what the page has at its top.
    pub heading: &'a str,
    /// The sentence below it.
    pub lead: Cow<'a, str>,
    /// "1,234 people are ahead of you"; with a turn, those at the gate.
    pub ahead: Option<String>,
    /// "about 25 to 35 minutes"
    pub wait: Option<String>,
    /// "about 11:45"
    pub expected_at: Option<String>,
    /// "tomorrow, 08:00": when the service, or this visitor's hours, begin.
    pub opens_at: Option<String>,
    /// "16:00": when this visitor's hours end.
    pub closes_at: Option<String>,
    /// Why the line stands still, and since when.
    pub reason: Option<String>,
    /// What the room's closing means for this visitor.
    pub closing: Option<String>,
    /// "11:42:10"
    pub updated_at: String,
}

impl<'a> Text<'a> {
    /// Puts the figures of `standing` into words.
    pub fn of(standing: &Standing, words: &Words<'a>) -> Text<'a> {
        let (state, ahead) = (standing.state_to_tell(), ahead_in_words(standing, words));
        let (heading, lead) = words.catalogue.state(state).map_or(("", ""), |text| (&text.heading, &text.lead));
        // Whoever has a turn but must let others enter first is not told to enter now.
        let lets_others_enter = ahead.as_ref().filter(|_| state == QueueState::YourTurn).cloned();
        Text {
            heading,
            lead: lets_others_enter.map_or(Cow::Borrowed(lead), Cow::Owned),
            ahead,
            wait: standing.wait.map(|wait| words.wait(wait)),
            expected_at: standing.expected_at().map(|at| words.expected_at(at, standing.updated_at)),
            opens_at: standing.window.opens_at.map(|at| words.at(at, standing.updated_at)),
            closes_at: standing.window.closes_at.map(|at| words.at(at, standing.updated_at)),
            reason: standing.reason.map(|reason| words.reason(reason, standing.updated_at)),
            closing: standing.closing.and_then(|told| words.closing(&told, standing.state, standing.updated_at)),
            updated_at: words.clock_with_seconds(standing.updated_at),
        }
    }
}

fn ahead_in_words(standing: &Standing, words: &Words<'_>) -> Option<String> {
    match (standing.state, standing.ahead_at_gate) {
        (QueueState::YourTurn, Some(ahead)) if ahead > 0 => Some(words.ahead_at_gate(ahead)),
        (QueueState::YourTurn, _) => None,
        (QueueState::BeforeOpening, _) => {
            standing.gathering.map(|gathering| words.gathering(gathering, standing.updated_at))
        }
        _ => standing.ahead.map(|ahead| words.ahead(ahead)),
    }
}

/// Rounded up, so that nobody is told to come too early.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Serialises what has only text keys and cannot fail to write itself.
pub(super) fn json(document: &impl Serialize) -> Bytes {
    let mut written = Vec::with_capacity(USUAL_JSON);
    serde_json::to_writer(&mut written, document).map(|()| Bytes::from(written)).unwrap_or_default()
}

#[derive(Serialize)]
struct QueueDocument<'a> {
    queue: Queue<'a>,
}

/// The work that is asked of whoever joins over the limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Asked<'a> {
    /// The challenge.
    pub text: &'a str,
    /// Zero bits with which SHA-256 of text and ending has to begin.
    pub bits: u8,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<Asked<'a>>,
}

impl<'a> Problem<'a> {
    /// `about:blank` says that the status code tells all there is (RFC 9457, section 4.2.1).
    fn new(status: StatusCode, detail: &'a str) -> Problem<'a> {
        let title = status.canonical_reason().unwrap_or("Error");
        Problem { r#type: "about:blank", title, status: status.as_u16(), detail, queue: None, challenge: None }
    }
}

#[derive(Serialize)]
struct Queue<'a> {
    state: QueueState,
    class: Option<&'a str>,
    reference: Option<&'a str>,
    ahead: Option<u64>,
    ahead_at_gate: Option<u64>,
    wait_seconds_low: Option<u64>,
    wait_seconds_high: Option<u64>,
    expected_at: Option<String>,
    progress: Option<f64>,
    reason: Option<ReasonInWords>,
    message: Option<&'a str>,
    window: WindowInWords,
    enter_by: Option<String>,
    refresh_seconds: u64,
    updated_at: String,
    text: Text<'a>,
    recovery_code: Option<&'a str>,
    session: Option<SessionInWords>,
    closing: Option<OwnClosing>,
}

/// A closing as JSON, for one visitor.
#[derive(Serialize)]
struct OwnClosing {
    #[serde(flatten)]
    closing: ClosingInWords,
    reach: Option<Reach>,
}

/// The end of a stay as JSON.
#[derive(Serialize)]
struct SessionInWords {
    ends_at: String,
    limited_at: Option<String>,
    extensions_left: Option<u32>,
    ends_soon: bool,
}

/// A reason as JSON.
#[derive(Serialize)]
pub(super) struct ReasonInWords {
    code: ReasonCode,
    since: String,
    text: String,
}

impl ReasonInWords {
    pub(super) fn of(reason: Reason, words: &Words<'_>) -> ReasonInWords {
        let text = words.catalogue.reason(reason.code).to_owned();
        ReasonInWords { code: reason.code, since: words.rfc_3339(reason.since), text }
    }
}

/// A closing as JSON.
#[derive(Serialize)]
pub(super) struct ClosingInWords {
    at: String,
    then: Rest,
    closed: bool,
}

impl ClosingInWords {
    pub(super) fn of(closing: Closing, stage: Stage, words: &Words<'_>) -> ClosingInWords {
        ClosingInWords { at: words.rfc_3339(closing.at), then: closing.then, closed: stage != Stage::Open }
    }
}

/// A window as JSON.
#[derive(Serialize)]
pub(super) struct WindowInWords {
    open: bool,
    opens_at: Option<String>,
    closes_at: Option<String>,
}

impl WindowInWords {
    pub(super) fn of(window: Window, words: &Words<'_>) -> WindowInWords {
        WindowInWords {
            open: window.open,
            opens_at: window.opens_at.map(|at| words.rfc_3339(at)),
            closes_at: window.closes_at.map(|at| words.rfc_3339(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;
    use crate::waiting_room::catalogue::Catalogue;

    const ENGLISH: &str = include_str!("../../waiting-room-assets/en.toml");

    fn read(render: impl FnOnce(&Words<'_>) -> Bytes) -> Value {
        let time_zone = TimeZone::get("Europe/Rome").expect("a bundled time zone");
        let catalogue = Catalogue::parse(ENGLISH).expect("a whole catalogue");
        let bytes = render(&Words { catalogue: &catalogue, time_zone: &time_zone });
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn waiting() -> Standing {
        Standing {
            class: Some(ClassName::citizen()),
            reference: Some("K7-44M".to_owned()),
            ahead: Some(1234),
            wait: Some(WaitRange { low: Duration::from_millis(1_500_900), high: Duration::from_millis(2_000_100) }),
            progress: Some(1.5),
            reason: Some(Reason { code: ReasonCode::RoomFull, since: Unix(1_793_701_200_000) }),
            message: LocalText::for_all("<b>ciao</b>"),
            ..Standing::only(QueueState::Waiting, Duration::from_millis(12_300), Unix(1_793_701_330_000))
        }
    }

    #[test]
    fn the_queue_object_is_as_agreed() {
        let document = read(|words| waiting().to_json(words));
        let expected = json!({"queue": {
            "state": "waiting", "class": "citizen", "reference": "K7-44M", "ahead": 1234, "ahead_at_gate": null,
            "wait_seconds_low": 1500, "wait_seconds_high": 2001, "expected_at": "2026-11-03T11:51:20+01:00",
            "progress": 1.0,
            "reason": {
                "code": "room_full", "since": "2026-11-03T11:20:00+01:00",
                "text": "the service is full; the next person enters when somebody leaves",
            },
            "message": "<b>ciao</b>",
            "window": {"open": true, "opens_at": null, "closes_at": null},
            "enter_by": null, "refresh_seconds": 13, "updated_at": "2026-11-03T11:22:10+01:00",
            "text": {
                "heading": "You are in the line",
                "lead": "Everybody enters in the order of arrival. This page updates by itself and tells you when it is your turn.",
                "ahead": "1,234 people are ahead of you", "wait": "about 25 to 35 minutes",
                "expected_at": "about 11:55", "opens_at": null, "closes_at": null,
                "reason": "the service is full; the next person enters when somebody leaves (since 11:20)",
                "closing": null, "updated_at": "11:22:10",
            },
            "recovery_code": null, "session": null, "closing": null,
        }});
        assert_eq!(document, expected);
    }

    #[test]
    fn what_is_unknown_is_null_and_never_missing() {
        let bare = Standing::only(QueueState::None, Duration::from_secs(5), Unix(0));
        let known = read(|words| waiting().to_json(words));
        let unknown = read(|words| bare.to_json(words));
        let members = |document: &Value| -> Vec<String> {
            document["queue"].as_object().expect("an object").keys().cloned().collect()
        };
        assert_eq!(members(&known), members(&unknown));
        assert_eq!(unknown["queue"]["ahead"], Value::Null);
        assert_eq!(unknown["queue"]["text"]["wait"], Value::Null);
    }

    #[test]
    fn every_state_and_reason_has_its_agreed_name() {
        let states = json!([
            "maintenance",
            "inside",
            "left",
            "expired",
            "before_opening",
            "none",
            "your_turn",
            "held",
            "closed_hours",
            "ended",
            "waiting"
        ]);
        let reasons = json!([
            "operator_hold",
            "outside_hours",
            "before_opening",
            "room_full",
            "portal_unhealthy",
            "leak_guard",
            "store_unreachable",
            "store_full",
            "ramping_up"
        ]);
        assert_eq!(serde_json::to_value(QueueState::ALL).expect("JSON"), states);
        assert_eq!(serde_json::to_value(ReasonCode::ALL).expect("JSON"), reasons);
    }

    #[test]
    fn a_turn_tells_who_enters_before() {
        let turn = Standing { state: QueueState::YourTurn, ahead_at_gate: Some(1), ..waiting() };
        let document = read(|words| turn.to_json(words));
        assert_eq!(document["queue"]["text"]["ahead"], "1 person is entering before you");
    }

    #[test]
    fn a_problem_document_carries_the_queue() {
        let problem = read(|words| waiting().to_problem(StatusCode::SERVICE_UNAVAILABLE, None, words));
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], "Service Unavailable");
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["detail"], "You are in the line");
        assert_eq!(problem["queue"]["ahead"], 1234);
    }

    #[test]
    fn a_problem_document_without_a_queue_has_no_such_member() {
        let bytes = super::problem(StatusCode::NOT_FOUND, "no such room");
        let problem: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(
            problem,
            json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no such room"})
        );
    }
}
