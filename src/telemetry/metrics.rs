//! Every number the program publishes, under the names of the documentation.
//!
//! Labels come from the enums below and from the configuration's names of rooms and classes, never from a request, so
//! that nobody outside can grow the output. Handles are resolved once; counting is then one atomic addition.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::process::ProcessMetrics;
use crate::config::RoomState;
use crate::domain::leak_detectors::Detector;
use crate::domain::leak_guard::Reason;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::proof::{Failure, Kind};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A metric could not be registered or written.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Defines an enum whose variants are the only values a label can have.
macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The value as it stands in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl Label for $name {
            const ALL: &[$name] = $name::ALL;
            fn text(self) -> &'static str { self.as_str() }
            fn index(self) -> usize { self as usize }
        }
    };
}

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// Every value; `Self::ALL[value.index()]` is `value`.
    const ALL: &'static [Self];
    /// The value as it stands in the output.
    fn text(self) -> &'static str;
    /// The value's position in [`Label::ALL`].
    fn index(self) -> usize;
}

label! {
    /// What became of a request.
    Decision {
        /// Forwarded: the visitor held a pass.
        AdmittedPass = "admitted_pass",
        /// Forwarded: nobody waited, the visitor went straight through.
        AdmittedStraight = "admitted_straight",
        /// Forwarded: the visitor was called and entered with this request.
        AdmittedTurn = "admitted_turn",
        /// Forwarded: staff or monitoring, with a pass of their own.
        AdmittedStaff = "admitted_staff",
        /// Forwarded: the room only observes.
        AdmittedObserve = "admitted_observe",
        /// Forwarded: no room protects the path.
        ForwardedUnprotected = "forwarded_unprotected",
        /// Forwarded without cookies: declared public.
        ForwardedPublic = "forwarded_public",
        /// Forwarded: never gated (bypass, login callback, preflight).
        ForwardedBypass = "forwarded_bypass",
        /// Answered with the waiting page.
        WaitingPage = "waiting_page",
        /// Answered with the queue object.
        WaitingJson = "waiting_json",
        /// Answered empty: a sub-resource of a page whose visitor waits.
        WaitingEmpty = "waiting_empty",
        /// Answered with the maintenance page.
        Maintenance = "maintenance",
        /// One of our own paths.
        Own = "own",
        /// Refused with a clear answer.
        Refused = "refused",
        /// Broken off or malformed before a decision could be made.
        Undecided = "undecided",
    }
}

label! {
    /// The first digit of a status.
    StatusClass {
        /// 1xx
        Informational = "1xx",
        /// 2xx
        Success = "2xx",
        /// 3xx
        Redirection = "3xx",
        /// 4xx
        ClientError = "4xx",
        /// 5xx and everything beyond
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of a status code.
    pub fn of(status: http::StatusCode) -> StatusClass {
        match status.as_u16() {
            ..200 => StatusClass::Informational,
            200..300 => StatusClass::Success,
            300..400 => StatusClass::Redirection,
            400..500 => StatusClass::ClientError,
            500.. => StatusClass::ServerError,
        }
    }
}

label! {
    /// Why a token was treated as no token.
    TokenRejection {
        /// Wrong length or not canonical base64url.
        Malformed = "malformed",
        /// A version this program does not know.
        Version = "version",
        /// A key id that is not in the keyring.
        UnknownKey = "unknown_key",
        /// The signature does not fit: altered or made up.
        BadSignature = "bad_signature",
        /// A token of another kind.
        OtherKind = "other_kind",
        /// A token of another room.
        OtherRoom = "other_room",
        /// A token of a line that has ended.
        OtherLine = "other_line",
        /// Genuine, but past its end.
        Expired = "expired",
        /// Genuine, but its visitor has left or its seat has ended.
        Ended = "ended",
    }
}

label! {
    /// Why a lane stands still.
    StandstillReason {
        /// The operator holds the room.
        OperatorHold = "operator_hold",
        /// No share for this class now.
        OutsideHours = "outside_hours",
        /// The room has not opened yet.
        BeforeOpening = "before_opening",
        /// No seat is free.
        RoomFull = "room_full",
        /// The portal does not answer.
        PortalUnhealthy = "portal_unhealthy",
        /// The leak guard stopped new admissions.
        LeakGuard = "leak_guard",
        /// The store does not answer.
        StoreUnreachable = "store_unreachable",
        /// The store cannot write.
        StoreFull = "store_full",
        /// The rate is rising again after an outage.
        RampingUp = "ramping_up",
        /// The line has ended.
        Closed = "closed",
    }
}

label! {
    /// Why the leak guard did not let an answer pass as the portal meant it.
    LeakGuardRule {
        /// A 304 to a request without condition.
        UnaskedNotModified = "unasked_not_modified",
        /// A 206 to a request without range.
        UnaskedPartial = "unasked_partial",
        /// A status that no public answer has.
        Status = "status",
        /// A cache policy that cannot be read in one way only.
        UnclearPolicy = "unclear_policy",
        /// The portal says that the answer is private.
        Private = "private",
        /// The answer varies with something that names the visitor.
        Vary = "vary",
        /// The content does not fit the path's extension.
        ContentType = "content_type",
        /// The portal names a person.
        Identity = "identity",
        /// A cache behind us answered.
        Hit = "hit",
        /// A personal request carried another answer's validator.
        Condition = "condition",
        /// A personal request asked for a part.
        Range = "range",
        /// The portal would have let shared caches keep a personal answer.
        CachePolicy = "cache_policy",
        /// A cookie rode on the answer to an anonymous request.
        SetCookie = "set_cookie",
        /// Public text names a person.
        FiscalCode = "fiscal_code",
        /// Public text that was to be searched could not be read whole.
        Unsearched = "unsearched",
        /// One session cookie's value was issued to two visitors.
        SessionReissued = "session_reissued",
        /// A cache behind us answered a personal request.
        CacheHit = "cache_hit",
        /// The answer names another person than the session's.
        IdentityMismatch = "identity_mismatch",
        /// A session has two identities.
        SessionIdentities = "session_identities",
        /// An identity has many sessions.
        IdentitySessions = "identity_sessions",
        /// A session was presented by another visitor than the one it was issued to.
        SessionPresented = "session_presented",
        /// The edge keeps personal pages.
        EdgeCanary = "edge_canary",
    }
}

impl From<Reason> for LeakGuardRule {
    fn from(reason: Reason) -> LeakGuardRule {
        match reason {
            Reason::UnaskedNotModified => LeakGuardRule::UnaskedNotModified,
            Reason::UnaskedPartial => LeakGuardRule::UnaskedPartial,
            Reason::Status => LeakGuardRule::Status,
            Reason::UnclearPolicy => LeakGuardRule::UnclearPolicy,
            Reason::Private => LeakGuardRule::Private,
            Reason::Vary => LeakGuardRule::Vary,
            Reason::ContentType => LeakGuardRule::ContentType,
            Reason::Identity => LeakGuardRule::Identity,
            Reason::Hit => LeakGuardRule::Hit,
            Reason::Condition => LeakGuardRule::Condition,
            Reason::Range => LeakGuardRule::Range,
            Reason::CachePolicy => LeakGuardRule::CachePolicy,
            Reason::SetCookie => LeakGuardRule::SetCookie,
            Reason::FiscalCode => LeakGuardRule::FiscalCode,
            Reason::Unsearched => LeakGuardRule::Unsearched,
        }
    }
}

impl From<Detector> for LeakGuardRule {
    fn from(detector: Detector) -> LeakGuardRule {
        match detector {
            Detector::SessionReissued => LeakGuardRule::SessionReissued,
            Detector::CacheHit => LeakGuardRule::CacheHit,
            Detector::IdentityMismatch => LeakGuardRule::IdentityMismatch,
            Detector::SessionIdentities => LeakGuardRule::SessionIdentities,
            Detector::IdentitySessions => LeakGuardRule::IdentitySessions,
            Detector::SessionPresented => LeakGuardRule::SessionPresented,
        }
    }
}

label! {
    /// What was done about a finding of the leak guard.
    LeakGuardAction {
        /// Answered with 502 instead.
        Blocked = "blocked",
        /// Treated as personal.
        Downgraded = "downgraded",
        /// Taken out of the exchange.
        Removed = "removed",
        /// Reported; the answer went out.
        Alarmed = "alarmed",
        /// Only counted.
        Observed = "observed",
    }
}

label! {
    /// How a detector of the leak guard works.
    DetectorMode {
        /// It stops answers.
        Block = "block",
        /// It reports.
        Alarm = "alarm",
        /// It does not look.
        Off = "off",
    }
}

label! {
    /// What the edge canary found.
    CanaryResult {
        /// Every answer was made for who asked.
        Clean = "clean",
        /// The edge keeps personal pages.
        Caching = "caching",
        /// The edge could not be asked.
        Unknown = "unknown",
    }
}

label! {
    /// How a request to the portal ended.
    UpstreamOutcome {
        /// The portal answered.
        Answered = "answered",
        /// No connection could be made.
        ConnectFailed = "connect_failed",
        /// The portal took too long to answer.
        TimedOut = "timed_out",
        /// The connection broke, or what came was no HTTP.
        Broken = "broken",
        /// No slot towards the portal became free in time.
        Saturated = "saturated",
        /// The visitor left first.
        Abandoned = "abandoned",
    }
}

label! {
    /// An operation of the store.
    StoreOperation {
        /// Opening it, or opening it again after a fault.
        Open = "open",
        /// Making one batch of facts durable.
        Commit = "commit",
        /// Drawing a number that had to wait until the counter's mark was durable.
        Number = "number",
    }
}

label! {
    /// How a reload ended.
    ReloadResult {
        /// The new configuration is in force.
        Applied = "applied",
        /// Nothing had changed.
        Unchanged = "unchanged",
        /// The file has faults; the old configuration stays.
        Refused = "refused",
        /// The change needs a restart; the old configuration stays.
        NeedsRestart = "needs_restart",
    }
}

/// One value per label, resolved once.
#[derive(Debug)]
pub struct Family<T, L> {
    of: Box<[T]>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<T, L: Label> Family<T, L> {
    fn resolve(one: impl Fn(L) -> T) -> Family<T, L> {
        Family { of: L::ALL.iter().map(|label| one(*label)).collect(), label: std::marker::PhantomData }
    }

    /// The value that belongs to `label`.
    pub fn of(&self, label: L) -> &T {
        // There is one entry for each member of `L::ALL`, and labels can only be members.
        &self.of[label.index()]
    }
}

/// The numbers of one class's lane in one room.
#[derive(Debug)]
pub struct LaneMetrics {
    /// Tickets drawn, straight-through included.
    pub arrivals: IntCounter,
    /// Visitors called.
    pub calls: IntCounter,
    /// Visitors who entered the portal.
    pub admissions: IntCounter,
    /// Turns that lapsed unused.
    pub no_shows: IntCounter,
    /// Visitors who came back after they had been passed over.
    pub returns: IntCounter,
    /// Visitors who left or stayed away while waiting.
    pub abandoned: IntCounter,
    /// Visitors who stand at the gate.
    pub gate_waiting: IntGauge,
    /// Visitors present in the line.
    pub waiting: IntGauge,
    /// Seats taken.
    pub active_sessions: IntGauge,
    /// The highest number called.
    pub now_serving: IntGauge,
    /// From the ticket to the entry, in seconds.
    pub wait_seconds: Histogram,
    standstill: Family<Gauge, StandstillReason>,
}

impl LaneMetrics {
    /// Says for how long the lane has stood still and why, or that it moves.
    pub fn set_standstill(&self, standstill: Option<(StandstillReason, Duration)>) {
        for reason in StandstillReason::ALL {
            let seconds = standstill.filter(|(now, _)| now == reason).map_or(0.0, |(_, span)| span.as_secs_f64());
            self.standstill.of(*reason).set(seconds);
        }
    }
}

/// The numbers of one room.
#[derive(Debug)]
pub struct RoomMetrics {
    /// Entries per second in force.
    pub admission_rate: Gauge,
    /// 1 while the leak guard lets nobody enter.
    pub leak_guard_breaker_open: IntGauge,
    /// 1 while an operator has frozen the room.
    pub frozen: IntGauge,
    /// When nobody new can join any more, in seconds since 1970; 0 when the room does not close.
    pub closing_timestamp_seconds: IntGauge,
    /// 1 while the login provider answers, or nobody asks it.
    pub login_healthy: IntGauge,
    /// The wait that was shown at first, divided by the wait it became.
    pub wait_estimate_error_ratio: Histogram,
    /// Nodes that serve the line, this one included.
    pub nodes: IntGauge,
    /// Of these, the nodes that define the room in another way.
    pub nodes_disagreeing: IntGauge,
    /// 1 when this node calls and lets in for all.
    pub leads: IntGauge,
    /// Requests refused because their pass had too many under way.
    pub pass_limited_at_once: IntCounter,
    /// Requests refused because their pass brought too many.
    pub pass_limited_pace: IntCounter,
    /// Older passes from elsewhere than the newer one that were let in.
    pub forks_kept: IntCounter,
    /// Those that were worth nothing any more.
    pub forks_sent_to_line: IntCounter,
    states: [(RoomState, IntGauge); 4],
}

impl RoomMetrics {
    /// Says which state is in force.
    pub fn set_state(&self, state: RoomState) {
        for (one, gauge) in &self.states {
            gauge.set(i64::from(*one == state));
        }
    }
}

/// Every metric of the program, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessMetrics,
    lanes: Mutex<HashMap<(RoomName, ClassName), Arc<LaneMetrics>>>,
    rooms: Mutex<HashMap<RoomName, Arc<RoomMetrics>>>,
    lane_series: LaneSeries,
    room_series: RoomSeries,
    requests: Family<Family<IntCounter, StatusClass>, Decision>,
    /// Tokens treated as no token, by reason.
    pub token_rejections: Family<IntCounter, TokenRejection>,
    class_proofs: IntCounterVec,
    staff_requests: IntCounterVec,
    leak_guard: Family<Family<IntCounter, LeakGuardAction>, LeakGuardRule>,
    leak_guard_detector: IntGaugeVec,
    edge_canary: Family<IntGauge, CanaryResult>,
    certificate_expiry: IntGaugeVec,
    /// 1 when the portal answers, 0 when admission is held because it does not.
    pub portal_healthy: IntGauge,
    /// Requests under way at the portal.
    pub portal_in_flight: IntGauge,
    /// From taking a slot to the head of the portal's answer, in seconds.
    pub upstream_request_seconds: Family<Histogram, UpstreamOutcome>,
    /// Time the store took, in seconds.
    pub store_operation_seconds: Family<Histogram, StoreOperation>,
    config_last_reload_success: IntGauge,
    config_reloads: Family<IntCounter, ReloadResult>,
    log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// [`MetricsError`] when two metrics have one name; that is a fault of this file, which its tests would show.
    pub fn new() -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let r = &registry;
        let build_info = gauges(r, "build_info", "Version of the running program.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let config_last_reload_success =
            gauge(r, "config_last_reload_success", "Whether the configuration file was valid when last read.")?;
        config_last_reload_success.set(1);
        Ok(Metrics {
            process: ProcessMetrics::new(r)?,
            lanes: Mutex::default(),
            rooms: Mutex::default(),
            lane_series: LaneSeries::new(r)?,
            room_series: RoomSeries::new(r)?,
            requests: requests(r)?,
            token_rejections: token_rejections(r)?,
            class_proofs: counters(
                r,
                "class_proofs_total",
                "Proofs of a class that were shown, and what they came to.",
                &["class", "kind", "result"],
            )?,
            staff_requests: counters(
                r,
                "staff_requests_total",
                "Requests forwarded with a pass of staff, by the name of the pass.",
                &["room", "name"],
            )?,
            leak_guard: leak_guard(r)?,
            leak_guard_detector: gauges(
                r,
                "leak_guard_detector",
                "1 for the mode in which a detector of the leak guard works, 0 for the others.",
                &["detector", "mode"],
            )?,
            edge_canary: edge_canary(r)?,
            certificate_expiry: gauges(
                r,
                "certificate_expiry_timestamp_seconds",
                "When the certificate for a name expires, in seconds since 1970.",
                &["name"],
            )?,
            portal_healthy: gauge(r, "portal_healthy", "Whether the portal answers.")?,
            portal_in_flight: gauge(r, "portal_in_flight", "Requests under way at the portal.")?,
            upstream_request_seconds: upstream_request_seconds(r)?,
            store_operation_seconds: store_operation_seconds(r)?,
            config_last_reload_success,
            config_reloads: config_reloads(r)?,
            log_lines_dropped: counter(
                r,
                "log_lines_dropped_total",
                "Log lines dropped because the log's reader was too slow.",
            )?,
            registry,
        })
    }

    /// Counts an answered request.
    pub fn count_request(&self, decision: Decision, status: http::StatusCode) {
        self.requests.of(decision).of(StatusClass::of(status)).inc();
    }

    /// Counts a finding of the leak guard.
    pub fn count_leak_guard(&self, rule: LeakGuardRule, action: LeakGuardAction) {
        self.leak_guard.of(rule).of(action).inc();
    }

    /// Says when the certificate for each name expires, in seconds since 1970; other names are forgotten.
    pub fn set_certificate_expiries(&self, expiries: &[(String, i64)]) {
        self.certificate_expiry.reset();
        for (name, expires) in expiries {
            self.certificate_expiry.with_label_values(&[name.as_str()]).set(*expires);
        }
    }

    /// Says what was found at the edge, if it was asked.
    pub fn set_edge_canary(&self, result: Option<CanaryResult>) {
        for one in CanaryResult::ALL {
            self.edge_canary.of(*one).set(i64::from(Some(*one) == result));
        }
    }

    /// Says in which mode a detector works.
    pub fn set_leak_guard_detector(&self, detector: Detector, mode: DetectorMode) {
        for one in DetectorMode::ALL {
            let gauge = self.leak_guard_detector.with_label_values(&[detector.as_str(), one.as_str()]);
            gauge.set(i64::from(*one == mode));
        }
    }

    /// Counts a proof of a class that was shown: accepted, or why not. Classes come from the configuration.
    pub fn count_class_proof(&self, class: &ClassName, kind: Kind, failure: Option<Failure>) {
        let result = failure.map_or("accepted", Failure::as_str);
        self.class_proofs.with_label_values(&[class.as_str(), kind.as_str(), result]).inc();
    }

    /// Counts a request with a pass of staff. Names are the operator's, not visitors'.
    pub fn count_staff(&self, room: &RoomName, name: &str) {
        self.staff_requests.with_label_values(&[room.as_str(), name]).inc();
    }

    /// Counts a reload and remembers whether the file was good.
    pub fn count_reload(&self, result: ReloadResult) {
        self.config_reloads.of(result).inc();
        let good = matches!(result, ReloadResult::Applied | ReloadResult::Unchanged);
        self.config_last_reload_success.set(i64::from(good));
    }

    /// The counter of log lines dropped, for the log's writer.
    pub fn log_lines_dropped(&self) -> IntCounter {
        self.log_lines_dropped.clone()
    }

    /// The numbers of one lane; made at the first call. Keep the handle: looking it up takes a lock.
    pub fn lane(&self, room: &RoomName, class: &ClassName) -> Arc<LaneMetrics> {
        let mut lanes = unpoisoned(&self.lanes);
        let resolve = || Arc::new(self.lane_series.resolve(room, class));
        lanes.entry((room.clone(), class.clone())).or_insert_with(resolve).clone()
    }

    /// The numbers of one room; made at the first call. Keep the handle: looking it up takes a lock.
    pub fn room(&self, room: &RoomName) -> Arc<RoomMetrics> {
        let mut rooms = unpoisoned(&self.rooms);
        rooms.entry(room.clone()).or_insert_with(|| Arc::new(self.room_series.resolve(room))).clone()
    }

    /// Forgets every room and lane of which `keep` says no. Handles still held go on counting, unseen.
    pub fn retain(&self, keep_room: impl Fn(&RoomName) -> bool, keep_lane: impl Fn(&RoomName, &ClassName) -> bool) {
        unpoisoned(&self.rooms).retain(|room, _| {
            let keep = keep_room(room);
            if !keep {
                self.room_series.remove(room);
            }
            keep
        });
        unpoisoned(&self.lanes).retain(|(room, class), _| {
            let keep = keep_room(room) && keep_lane(room, class);
            if !keep {
                self.lane_series.remove(room, class);
            }
            keep
        });
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// [`MetricsError`] when a metric cannot be written.
    pub fn encode(&self) -> Result<String, MetricsError> {
        self.process.refresh();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The series of all lanes, labelled by room and class.
struct LaneSeries {
    arrivals: IntCounterVec,
    calls: IntCounterVec,
    admissions: IntCounterVec,
    no_shows: IntCounterVec,
    returns: IntCounterVec,
    abandoned: IntCounterVec,
    gate_waiting: IntGaugeVec,
    waiting: IntGaugeVec,
    active_sessions: IntGaugeVec,
    now_serving: IntGaugeVec,
    wait_seconds: HistogramVec,
    standstill: GaugeVec,
}

impl LaneSeries {
    fn new(r: &Registry) -> Result<LaneSeries, MetricsError> {
        let labels = &["room", "class"];
        Ok(LaneSeries {
            arrivals: counters(r, "arrivals_total", "Tickets drawn, straight-through included.", labels)?,
            calls: counters(r, "calls_total", "Visitors called.", labels)?,
            admissions: counters(r, "admissions_total", "Visitors who entered the portal.", labels)?,
            no_shows: counters(r, "no_shows_total", "Turns that lapsed unused.", labels)?,
            returns: counters(r, "returns_total", "Visitors who came back after they had been passed over.", labels)?,
            abandoned: counters(r, "abandoned_total", "Visitors who left or stayed away while waiting.", labels)?,
            gate_waiting: gauges(r, "gate_waiting", "Visitors who stand at the gate.", labels)?,
            waiting: gauges(r, "waiting", "Visitors present in the line.", labels)?,
            active_sessions: gauges(r, "active_sessions", "Seats taken.", labels)?,
            now_serving: gauges(r, "now_serving", "The highest number called.", labels)?,
            wait_seconds: histograms(
                r,
                "wait_seconds",
                "From the ticket to the entry.",
                labels,
                // 1 s to 6 h.
                &[
                    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0,
                    10800.0, 14400.0, 21600.0,
                ],
            )?,
            standstill: register(
                r,
                GaugeVec::new(
                    opts("standstill", "Seconds for which the lane has stood still so far, 0 when it moves."),
                    &["room", "class", "reason"],
                )?,
            )?,
        })
    }

    fn resolve(&self, room: &RoomName, class: &ClassName) -> LaneMetrics {
        let labels = &[room.as_str(), class.as_str()];
        LaneMetrics {
            arrivals: self.arrivals.with_label_values(labels),
            calls: self.calls.with_label_values(labels),
            admissions: self.admissions.with_label_values(labels),
            no_shows: self.no_shows.with_label_values(labels),
            returns: self.returns.with_label_values(labels),
            abandoned: self.abandoned.with_label_values(labels),
            gate_waiting: self.gate_waiting.with_label_values(labels),
            waiting: self.waiting.with_label_values(labels),
            active_sessions: self.active_sessions.with_label_values(labels),
            now_serving: self.now_serving.with_label_values(labels),
            wait_seconds: self.wait_seconds.with_label_values(labels),
            standstill: Family::resolve(|reason: StandstillReason| {
                self.standstill.with_label_values(&[room.as_str(), class.as_str(), reason.as_str()])
            }),
        }
    }

    /// Removes the lane's series. One that is already gone is as good as removed.
    fn remove(&self, room: &RoomName, class: &ClassName) {
        let labels = &[room.as_str(), class.as_str()];
        for series in [&self.arrivals, &self.calls, &self.admissions, &self.no_shows, &self.returns, &self.abandoned] {
            let _ = series.remove_label_values(labels);
        }
        for series in [&self.gate_waiting, &self.waiting, &self.active_sessions, &self.now_serving] {
            let _ = series.remove_label_values(labels);
        }
        let _ = self.wait_seconds.remove_label_values(labels);
        for reason in StandstillReason::ALL {
            let _ = self.standstill.remove_label_values(&[room.as_str(), class.as_str(), reason.as_str()]);
        }
    }
}

impl fmt::Debug for LaneSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneSeries").finish_non_exhaustive()
    }
}

/// The series of all rooms.
struct RoomSeries {
    admission_rate: GaugeVec,
    leak_guard_breaker_open: IntGaugeVec,
    frozen: IntGaugeVec,
    closing: IntGaugeVec,
    login_healthy: IntGaugeVec,
    room_state: IntGaugeVec,
    nodes: IntGaugeVec,
    nodes_disagreeing: IntGaugeVec,
    leads: IntGaugeVec,
    wait_estimate_error_ratio: HistogramVec,
    pass_limited: IntCounterVec,
    forked_passes: IntCounterVec,
}

impl RoomSeries {
    fn new(r: &Registry) -> Result<RoomSeries, MetricsError> {
        let rate = GaugeVec::new(opts("admission_rate", "Entries per second in force."), &["room"])?;
        Ok(RoomSeries {
            admission_rate: register(r, rate)?,
            leak_guard_breaker_open: gauges(
                r,
                "leak_guard_breaker_open",
                "1 while the leak guard lets nobody enter.",
                &["room"],
            )?,
            frozen: gauges(r, "room_frozen", "1 while an operator has frozen the room.", &["room"])?,
            closing: gauges(
                r,
                "closing_timestamp_seconds",
                "When nobody new can join any more, in seconds since 1970; 0 when the room does not close.",
                &["room"],
            )?,
            login_healthy: gauges(
                r,
                "login_healthy",
                "1 while the room's login provider answers, or nobody asks it.",
                &["room"],
            )?,
            room_state: gauges(r, "room_state", "1 for the state in force, 0 for the others.", &["room", "state"])?,
            nodes: gauges(r, "nodes", "Nodes that serve the room's line, this one included.", &["room"])?,
            nodes_disagreeing: gauges(
                r,
                "nodes_disagreeing",
                "Nodes that serve the room's line and define the room in another way.",
                &["room"],
            )?,
            leads: gauges(r, "leads", "1 when this node calls and lets in for all nodes.", &["room"])?,
            wait_estimate_error_ratio: histograms(
                r,
                "wait_estimate_error_ratio",
                "The wait shown at first divided by the wait it became: 1 is right, 2 is twice too long.",
                &["room"],
                &[0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0],
            )?,
            pass_limited: counters(
                r,
                "pass_limited_total",
                "Requests answered with 429 because their pass asked for more than one person's traffic.",
                &["room", "reason"],
            )?,
            forked_passes: counters(
                r,
                "forked_passes_total",
                "Requests with an older pass from another network than the newer one.",
                &["room", "action"],
            )?,
        })
    }

    fn resolve(&self, room: &RoomName) -> RoomMetrics {
        let state = |state| (state, self.room_state.with_label_values(&[room.as_str(), room_state_text(state)]));
        RoomMetrics {
            admission_rate: self.admission_rate.with_label_values(&[room.as_str()]),
            leak_guard_breaker_open: self.leak_guard_breaker_open.with_label_values(&[room.as_str()]),
            frozen: self.frozen.with_label_values(&[room.as_str()]),
            closing_timestamp_seconds: self.closing.with_label_values(&[room.as_str()]),
            login_healthy: self.login_healthy.with_label_values(&[room.as_str()]),
            wait_estimate_error_ratio: self.wait_estimate_error_ratio.with_label_values(&[room.as_str()]),
            nodes: self.nodes.with_label_values(&[room.as_str()]),
            nodes_disagreeing: self.nodes_disagreeing.with_label_values(&[room.as_str()]),
            leads: self.leads.with_label_values(&[room.as_str()]),
            pass_limited_at_once: self.pass_limited.with_label_values(&[room.as_str(), AT_ONCE]),
            pass_limited_pace: self.pass_limited.with_label_values(&[room.as_str(), PACE]),
            forks_kept: self.forked_passes.with_label_values(&[room.as_str(), KEPT]),
            forks_sent_to_line: self.forked_passes.with_label_values(&[room.as_str(), SENT_TO_LINE]),
            states: ROOM_STATES.map(state),
        }
    }

    /// Removes the room's series. One that is already gone is as good as removed.
    fn remove(&self, room: &RoomName) {
        let _ = self.admission_rate.remove_label_values(&[room.as_str()]);
        let _ = self.leak_guard_breaker_open.remove_label_values(&[room.as_str()]);
        let _ = self.wait_estimate_error_ratio.remove_label_values(&[room.as_str()]);
        for gauge in
            [&self.nodes, &self.nodes_disagreeing, &self.leads, &self.frozen, &self.closing, &self.login_healthy]
        {
            let _ = gauge.remove_label_values(&[room.as_str()]);
        }
        for reason in [AT_ONCE, PACE] {
            let _ = self.pass_limited.remove_label_values(&[room.as_str(), reason]);
        }
        for action in [KEPT, SENT_TO_LINE] {
            let _ = self.forked_passes.remove_label_values(&[room.as_str(), action]);
        }
        for state in ROOM_STATES {
            let _ = self.room_state.remove_label_values(&[room.as_str(), room_state_text(state)]);
        }
    }
}

impl fmt::Debug for RoomSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomSeries").finish_non_exhaustive()
    }
}

/// `pass_limited_total{reason}`
const AT_ONCE: &str = "at_once";
const PACE: &str = "pace";
/// `forked_passes_total{action}`
const KEPT: &str = "kept";
const SENT_TO_LINE: &str = "sent_to_line";

const ROOM_STATES: [RoomState; 4] = [RoomState::Open, RoomState::Hold, RoomState::Observe, RoomState::Closed];

/// A room's state as it stands in metrics and on the private listener.
pub(crate) fn room_state_text(state: RoomState) -> &'static str {
    match state {
        RoomState::Open => "open",
        RoomState::Hold => "hold",
        RoomState::Observe => "observe",
        RoomState::Closed => "closed",
    }
}

fn requests(r: &Registry) -> Result<Family<Family<IntCounter, StatusClass>, Decision>, MetricsError> {
    let all = counters(r, "requests_total", "Requests answered.", &["decision", "status_class"])?;
    Ok(Family::resolve(|decision: Decision| {
        Family::resolve(|class: StatusClass| all.with_label_values(&[decision.as_str(), class.as_str()]))
    }))
}

fn token_rejections(r: &Registry) -> Result<Family<IntCounter, TokenRejection>, MetricsError> {
    let all = counters(r, "token_rejections_total", "Tokens treated as no token.", &["reason"])?;
    Ok(Family::resolve(|reason: TokenRejection| all.with_label_values(&[reason.as_str()])))
}

fn leak_guard(r: &Registry) -> Result<Family<Family<IntCounter, LeakGuardAction>, LeakGuardRule>, MetricsError> {
    let all = counters(r, "leak_guard_total", "Findings of the leak guard.", &["rule", "action"])?;
    Ok(Family::resolve(|rule: LeakGuardRule| {
        Family::resolve(|action: LeakGuardAction| all.with_label_values(&[rule.as_str(), action.as_str()]))
    }))
}

fn edge_canary(r: &Registry) -> Result<Family<IntGauge, CanaryResult>, MetricsError> {
    let about = "1 for what was found when last asking through the edge, 0 for the others.";
    let all = gauges(r, "edge_canary", about, &["result"])?;
    Ok(Family::resolve(|result: CanaryResult| all.with_label_values(&[result.as_str()])))
}

fn upstream_request_seconds(r: &Registry) -> Result<Family<Histogram, UpstreamOutcome>, MetricsError> {
    let all = histograms(
        r,
        "upstream_request_seconds",
        "From the request's departure to the head of the portal's answer.",
        &["outcome"],
        &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0],
    )?;
    Ok(Family::resolve(|outcome: UpstreamOutcome| all.with_label_values(&[outcome.as_str()])))
}

fn store_operation_seconds(r: &Registry) -> Result<Family<Histogram, StoreOperation>, MetricsError> {
    let all = histograms(
        r,
        "store_operation_seconds",
        "Time the store took.",
        &["operation"],
        &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
    )?;
    Ok(Family::resolve(|operation: StoreOperation| all.with_label_values(&[operation.as_str()])))
}

fn config_reloads(r: &Registry) -> Result<Family<IntCounter, ReloadResult>, MetricsError> {
    let all = counters(r, "config_reloads_total", "Reloads of the configuration file.", &["result"])?;
    Ok(Family::resolve(|result: ReloadResult| all.with_label_values(&[result.as_str()])))
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("anticamera")
}

fn register<C: Collector + Clone + 'static>(r: &Registry, collector: C) -> Result<C, MetricsError> {
    r.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
    register(r, IntCounter::with_opts(opts(name, help))?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
    register(r, IntGauge::with_opts(opts(name, help))?)
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
    register(r, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
    register(r, IntGaugeVec::new(opts(name, help), labels)?)
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, MetricsError> {
    let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
    register(r, HistogramVec::new(opts, labels)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::StatusCode;

    use super::*;

    fn name(text: &str) -> RoomName {
        RoomName::new(text).unwrap()
    }

    fn assert_indexed<L: Label + PartialEq + fmt::Debug>() {
        for (position, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), position, "{label:?}");
        }
        let texts: HashSet<_> = L::ALL.iter().map(|label| label.text()).collect();
        assert_eq!(texts.len(), L::ALL.len(), "two labels of one text");
    }

    #[test]
    fn labels_are_distinct_and_in_order() {
        assert_indexed::<Decision>();
        assert_indexed::<StatusClass>();
        assert_indexed::<TokenRejection>();
        assert_indexed::<StandstillReason>();
        assert_indexed::<LeakGuardRule>();
        assert_indexed::<LeakGuardAction>();
        assert_indexed::<DetectorMode>();
        assert_indexed::<CanaryResult>();
        assert_indexed::<UpstreamOutcome>();
        assert_indexed::<StoreOperation>();
        assert_indexed::<ReloadResult>();
    }

    #[test]
    fn every_documented_metric_is_there() {
        let metrics = Metrics::new().unwrap();
        let room = name("bonus-600");
        let _lane = metrics.lane(&room, &ClassName::citizen());
        let _room = metrics.room(&room);
        let text = metrics.encode().unwrap();
        for expected in [
            "arrivals_total{class=\"citizen\",room=\"bonus-600\"} 0",
            "calls_total{",
            "admissions_total{",
            "no_shows_total{",
            "returns_total{",
            "abandoned_total{",
            "gate_waiting{",
            "waiting{",
            "active_sessions{",
            "now_serving{",
            "admission_rate{room=\"bonus-600\"} 0",
            "room_state{room=\"bonus-600\",state=\"hold\"} 0",
            "standstill{class=\"citizen\",reason=\"room_full\",room=\"bonus-600\"} 0",
            "wait_seconds_bucket{class=\"citizen\",room=\"bonus-600\",le=\"21600\"} 0",
            "wait_estimate_error_ratio_count{",
            "token_rejections_total{reason=\"bad_signature\"} 0",
            "pass_limited_total{reason=\"at_once\",room=\"bonus-600\"} 0",
            "forked_passes_total{action=\"kept\",room=\"bonus-600\"} 0",
            "leak_guard_total{action=\"blocked\",rule=\"unasked_partial\"} 0",
            "portal_healthy 0",
            "portal_in_flight 0",
            "upstream_request_seconds_count{outcome=\"timed_out\"} 0",
            "requests_total{decision=\"waiting_page\",status_class=\"5xx\"} 0",
            "config_last_reload_success 1",
            "config_reloads_total{result=\"refused\"} 0",
            "store_operation_seconds_count{operation=\"commit\"} 0",
            "log_lines_dropped_total 0",
            "build_info{version=\"",
        ] {
            let expected = format!("\nanticamera_{expected}");
            assert!(text.contains(&expected), "{expected} is missing in\n{text}");
        }
    }

    #[test]
    fn counts_requests_by_decision_and_status_class() {
        let metrics = Metrics::new().unwrap();
        metrics.count_request(Decision::WaitingPage, StatusCode::SERVICE_UNAVAILABLE);
        metrics.count_request(Decision::WaitingPage, StatusCode::GATEWAY_TIMEOUT);
        metrics.count_request(Decision::AdmittedPass, StatusCode::NOT_FOUND);
        let text = metrics.encode().unwrap();
        assert!(text.contains("requests_total{decision=\"waiting_page\",status_class=\"5xx\"} 2"));
        assert!(text.contains("requests_total{decision=\"admitted_pass\",status_class=\"4xx\"} 1"));
    }

    #[test]
    fn status_classes() {
        for (status, class) in [(100, "1xx"), (199, "1xx"), (200, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx")] {
            assert_eq!(StatusClass::of(StatusCode::from_u16(status).unwrap()).as_str(), class);
        }
    }

    #[test]
    fn one_lane_has_one_set_of_numbers() {
        let metrics = Metrics::new().unwrap();
        metrics.lane(&name("a"), &ClassName::citizen()).calls.inc();
        metrics.lane(&name("a"), &ClassName::citizen()).calls.inc_by(2);
        metrics.lane(&name("b"), &ClassName::citizen()).calls.inc();
        let text = metrics.encode().unwrap();
        assert!(text.contains("calls_total{class=\"citizen\",room=\"a\"} 3"));
        assert!(text.contains("calls_total{class=\"citizen\",room=\"b\"} 1"));
    }

    #[test]
    fn a_removed_room_disappears_and_starts_afresh_when_it_comes_back() {
        let metrics = Metrics::new().unwrap();
        let (gone, stays) = (name("gone"), name("stays"));
        let old = metrics.lane(&gone, &ClassName::citizen());
        old.calls.inc();
        metrics.room(&gone).set_state(RoomState::Hold);
        metrics.lane(&stays, &ClassName::citizen());
        metrics.lane(&stays, &ClassName::new("intermediary").unwrap());
        metrics.room(&stays).set_state(RoomState::Open);

        metrics.retain(|room| *room == stays, |_, class| *class == ClassName::citizen());
        old.calls.inc();
        let text = metrics.encode().unwrap();
        assert!(!text.contains("gone"), "{text}");
        assert!(!text.contains("intermediary"), "{text}");
        assert!(text.contains("waiting{class=\"citizen\",room=\"stays\"} 0"));
        assert!(text.contains("room_state{room=\"stays\",state=\"open\"} 1"));

        metrics.lane(&gone, &ClassName::citizen()).calls.inc();
        assert!(metrics.encode().unwrap().contains("calls_total{class=\"citizen\",room=\"gone\"} 1"));
    }

    #[test]
    fn a_lane_stands_still_for_one_reason_at_a_time() {
        let metrics = Metrics::new().unwrap();
        let lane = metrics.lane(&name("a"), &ClassName::citizen());
        lane.set_standstill(Some((StandstillReason::RoomFull, Duration::from_millis(2500))));
        assert!(metrics.encode().unwrap().contains("reason=\"room_full\",room=\"a\"} 2.5"));
        lane.set_standstill(Some((StandstillReason::PortalUnhealthy, Duration::from_secs(1))));
        let text = metrics.encode().unwrap();
        assert!(text.contains("reason=\"room_full\",room=\"a\"} 0"));
        assert!(text.contains("reason=\"portal_unhealthy\",room=\"a\"} 1"));
        lane.set_standstill(None);
        assert!(metrics.encode().unwrap().contains("reason=\"portal_unhealthy\",room=\"a\"} 0"));
    }

    #[test]
    fn one_state_is_in_force() {
        let metrics = Metrics::new().unwrap();
        let room = metrics.room(&name("a"));
        room.set_state(RoomState::Open);
        room.set_state(RoomState::Closed);
        let text = metrics.encode().unwrap();
        assert!(text.contains("state=\"closed\"} 1"));
        assert!(text.contains("state=\"open\"} 0"));
    }

    #[test]
    fn a_refused_reload_is_remembered_until_a_good_one() {
        let metrics = Metrics::new().unwrap();
        metrics.count_reload(ReloadResult::NeedsRestart);
        assert!(metrics.encode().unwrap().contains("config_last_reload_success 0"));
        metrics.count_reload(ReloadResult::Unchanged);
        let text = metrics.encode().unwrap();
        assert!(text.contains("config_last_reload_success 1"));
        assert!(text.contains("config_reloads_total{result=\"needs_restart\"} 1"));
    }
}
