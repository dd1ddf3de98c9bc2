//! The life of a request, from its head to its answer. [`Gateway::handle`] reads as that.

mod admit;
mod answers;
mod call;
mod class;
pub mod connection;
mod errors;
mod own;
mod redirect;
pub mod snapshot;
mod view;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::header::{EXPECT, HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use tokio::sync::watch;

use self::call::Call;
use self::class::prove;
use self::connection::{Connection, Peer};
use self::errors::Refusal;
use self::snapshot::{RoomInForce, Snapshot};
use self::visitor::Credentials;
use crate::body::Body;
use crate::classes::HeldTickets;
use crate::clock::Clock;
use crate::config;
use crate::config::ClientAddressHeader;
use crate::domain::admission::{Admit, Decision, Facts, Mode, Pass, Place, Route, Wait, decide};
use crate::domain::canary;
use crate::domain::challenge::{JoinLimits, Over};
use crate::domain::client::{ClientPrefix, is_trusted};
use crate::domain::cookie;
use crate::domain::forwarding;
use crate::domain::leak_guard::{self, Armour, BackRule, EtagRule, Personal, RangeRule, may_be_public};
use crate::domain::limiter::Limit;
use crate::domain::line::StraightThrough;
use crate::domain::names::ClassId;
use crate::domain::paths::{NormalPath, Owner, PathPattern};
use crate::domain::staff::Worth;
use crate::domain::time::Unix;
use crate::leaks::Leaks;
use crate::proxy::{Portal, Worker, linger};
use crate::staff::{Bearer, Shown, StaffPasses};
use crate::telemetry::log::{Access, Log};
use crate::telemetry::metrics::{self, Metrics, TokenRejection};

pub use crate::proxy::LINGER;

/// What all request threads share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration and rooms in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The portal.
    pub portal: Arc<Portal>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// What the leak guard remembers.
    pub leaks: Arc<Leaks>,
    /// Access lines.
    pub log: Log,
    /// Whether the process is about to stop.
    pub draining: AtomicBool,
    /// The tickets of those whom proofs name.
    pub held: HeldTickets,
    /// The passes of staff.
    pub staff: Arc<StaffPasses>,
    /// What fresh request ids and random addresses are made of.
    pub ids: Ids,
}

/// Fresh ids: unique in this process, unlike those of another.
#[derive(Debug)]
pub struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Ids {
    /// Ids that begin at a random place.
    pub fn starting_at(random: u64) -> Ids {
        Ids { start: random, next: AtomicU64::new(0) }
    }

    /// A fresh id of 16 hexadecimal digits.
    pub fn fresh(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        // An odd multiplier visits every number once before it repeats one.
        let id = self.start.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // By hand: `format!` costs ten times as much, and every request gets one.
        let mut digits = String::with_capacity(16);
        for place in (0..16).rev() {
            digits.push(char::from_digit((id >> (4 * place)) as u32 & 15, 16).unwrap_or('0'));
        }
        digits
    }
}

/// One request thread's gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    worker: Worker,
}

/// An answer and what led to it.
#[derive(Debug)]
struct Outcome {
    response: Response<Body>,
    decision: metrics::Decision,
    room: Option<Arc<RoomInForce>>,
    /// The class of whoever asked a room.
    class: Option<ClassId>,
    upstream: Option<Duration>,
}

/// Where a request goes that is not ours.
enum Destination {
    /// No room protects it.
    Unprotected,
    /// The operator declared it public.
    Public,
    /// A room protects it.
    Room(Arc<RoomInForce>, Route),
}

impl Gateway {
    /// A gateway with connections of its own to the portal.
    pub fn new(shared: Arc<Shared>) -> Gateway {
        let worker = Worker::new(shared.portal.clone(), shared.clock.clone());
        Gateway { shared, worker }
    }

    /// Whether the program is about to stop: whoever comes is served, and told not to come back here.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Closes connections to the portal that have not been used for long.
    pub fn close_unused(&self) {
        let keep_alive = self.shared.snapshot.borrow().config.portal.keep_alive;
        self.worker.close_unused(keep_alive);
    }

    /// The wall's time.
    pub fn wall(&self) -> Unix {
        self.shared.clock.now().wall
    }

    /// Who is at the other end of a connection.
    pub fn peer(&self, address: IpAddr) -> Peer {
        let snapshot = self.shared.snapshot.borrow();
        let server = &snapshot.config.server;
        match server.client_address {
            _ if !is_trusted(address, &server.trusted_proxies) => Peer::Client,
            ClientAddressHeader::ProxyProtocol => Peer::Announcing,
            ClientAddressHeader::XForwardedFor | ClientAddressHeader::Forwarded => Peer::Proxy,
        }
    }

    /// Answers a request.
    pub async fn handle(&self, mut request: Request<Incoming>, connection: &Arc<Connection>) -> Response<Body> {
        let snapshot = self.shared.snapshot.borrow().clone();
        let now = self.shared.clock.now();
        if request.version() == Version::HTTP_2 {
            forwarding::join_cookies(request.headers_mut());
        }
        let call = match Call::of(&request, snapshot, connection, now, || self.fresh_id()) {
            Ok(call) => call,
            Err((call, refusal)) => {
                let response = refusal.answer(&call, request.headers());
                return self.account(&call, Outcome::of(response, metrics::Decision::Refused));
            }
        };
        let outcome = match self.own_path(&call) {
            // Boxed, so that the state of the rare does not make that of every request larger; it is moved about.
            Some(path) => Box::pin(own::answer(self, &call, path, request)).await,
            None if canary::asked_for(call.path()).is_some() => self.canary(&call, request),
            None => match self.destination(&call, &request) {
                Ok(Destination::Unprotected) => {
                    self.forward_ungated(&call, request, metrics::Decision::ForwardedUnprotected).await
                }
                Ok(Destination::Public) => self.forward_public(&call, request).await,
                Ok(Destination::Room(room, route)) => self.to_room(&call, room, route, request).await,
                Err(refusal) => Outcome::refused(&refusal, &call, request),
            },
        };
        self.account(&call, outcome)
    }

    /// Answers the edge canary: a personal answer with a number that is never given twice.
    fn canary(&self, call: &Call, request: Request<Incoming>) -> Outcome {
        let kind = canary::asked_for(call.path()).unwrap_or(canary::Kind::NotFound);
        let number = self.shared.ids.fresh();
        let mut response = answers::canary(kind, &number);
        let (parts, body) = request.into_parts();
        leave_unread(&parts, body);
        if let Ok(number) = HeaderValue::try_from(number) {
            response.headers_mut().insert(&crate::leaks::canary::NUMBER, number);
        }
        Outcome::of(response, metrics::Decision::Own)
    }

    /// The part of the path below our own prefix.
    fn own_path(&self, call: &Call) -> Option<String> {
        let own = &call.snapshot.config.server.own_path;
        let rest = call.path().strip_prefix(own.as_str())?;
        rest.strip_prefix('/').map(str::to_owned).or_else(|| rest.is_empty().then(String::new))
    }

    fn destination(&self, call: &Call, request: &Request<Incoming>) -> Result<Destination, Refusal> {
        let guard = &call.snapshot.config.leak_guard;
        let is_listed = guard.public.iter().any(|pattern| pattern.matches_public(call.path()));
        if is_listed && may_be_public(&call.method, call.path(), request.headers()) {
            return Ok(Destination::Public);
        }
        let path = NormalPath::of(call.path());
        let own = &call.snapshot.config.server.own_path;
        if path.readings().any(|reading| is_at_or_below(own, reading)) {
            return Err(Refusal::NotFound);
        }
        let here = call.snapshot.rooms.iter().enumerate();
        let here = here.filter(|(_, room)| {
            room.settings.hosts.iter().any(|host| host.matches(&call.host_name)) && room.protects()
        });
        let room = match path.owner(here.clone().map(|(index, room)| (index, room.settings.paths.as_slice()))) {
            Owner::Nobody => return Ok(Destination::Unprotected),
            Owner::Disputed => return Err(Refusal::BadRequest("path")),
            Owner::One(index) => call.snapshot.rooms.get(index).cloned().ok_or(Refusal::NotFound)?,
        };
        let listed = |list: fn(&config::Room) -> &[PathPattern]| {
            here.clone().any(|(_, room)| list(&room.settings).iter().any(|pattern| pattern.matches_raw(call.path())))
        };
        let route = if listed(|room| &room.bypass) {
            Route::Bypass
        } else if listed(|room| &room.login_callbacks) {
            Route::LoginCallback
        } else {
            Route::Gated
        };
        Ok(Destination::Room(room, route))
    }

    async fn to_room(&self, call: &Call, room: Arc<RoomInForce>, route: Route, request: Request<Incoming>) -> Outcome {
        let metrics = &self.shared.metrics;
        let headers = request.headers();
        let staff = self.staff(call, &room, headers);
        let mut credentials = Credentials::pass(&room, call, headers, metrics);
        let asking = match &credentials.inside {
            Some(_) => call.asking_inside(headers),
            None => call.asking(headers),
        };
        if credentials.inside.is_none() && route == Route::Gated {
            credentials = credentials.with_place(&room, call, headers, metrics).await;
        }
        let mut pass = credentials.pass_fact();
        if route == Route::LoginCallback && pass == Pass::None {
            pass = self.pass_elsewhere(call, headers);
        }
        if let Some(bearer) = &staff {
            pass = Pass::Staff;
            metrics.count_staff(&room.settings.name, &bearer.name);
        }
        credentials.staff = staff;
        let place = credentials.place_fact(&room);
        let newcomer = matches!((pass, place), (Pass::None | Pass::JustExpired, Place::None));
        let proven = (newcomer && route == Route::Gated).then(|| prove(call, headers, None));
        let class = proven.as_ref().map_or(ClassId::CITIZEN, |verdict| verdict.proven.class);
        credentials.proven = proven;
        let class_shown = if newcomer { class } else { view::class_of(&credentials) };
        let facts = Facts {
            mode: mode(&room.settings),
            route,
            pass,
            place,
            asking,
            straight_through: if newcomer { room.live.straight_through(class) } else { StraightThrough::No },
        };
        let outcome = match decide(&facts) {
            Decision::Admit(admit) => self.admit(call, &room, admit, credentials, request).await,
            Decision::Wait(wait) => Ok(self.wait(call, &room, wait, &credentials, request)),
        };
        match outcome {
            Ok(outcome) => Outcome { room: Some(room), class: outcome.class.or(Some(class_shown)), ..outcome },
            Err((refusal, headers)) => {
                let response = refusal.answer(call, &headers);
                let outcome = Outcome::of(response, metrics::Decision::Refused);
                Outcome { room: Some(room), class: Some(class_shown), ..outcome }
            }
        }
    }

    /// Whose good pass of staff came along, if one did.
    fn staff(&self, call: &Call, room: &RoomInForce, headers: &HeaderMap) -> Option<Bearer> {
        let staff = &self.shared.staff;
        if staff.is_empty() {
            return None;
        }
        let secrets = cookie::staff_secrets(headers, &room.settings.name, call.channel);
        match staff.of(&room.settings.name, secrets.iter(), call.now.unix)? {
            Shown::Good(bearer) => Some(bearer),
            Shown::Worthless(worth) => {
                let reason = if worth == Worth::Expired { TokenRejection::Expired } else { TokenRejection::Ended };
                self.shared.metrics.token_rejections.of(reason).inc();
                None
            }
        }
    }

    /// What the visitor's passes for other rooms of the host are worth on a login callback: the provider sends the
    /// visitor of any of them back to the same address.
    fn pass_elsewhere(&self, call: &Call, headers: &HeaderMap) -> Pass {
        let rooms = call.snapshot.rooms.iter();
        let listing = rooms.filter(|room| {
            room.settings.login_callbacks.iter().any(|pattern| pattern.matches_raw(call.path()))
                && room.settings.hosts.iter().any(|host| host.matches(&call.host_name))
        });
        let passes = listing.map(|room| Credentials::pass(room, call, headers, &self.shared.metrics).pass_fact());
        let worth = passes.filter(|pass| *pass != Pass::None).last();
        worth.map_or(Pass::None, |_| Pass::JustExpired)
    }

    /// The answer to a visitor who has to wait. What the request still sends is read and thrown away, so that the
    /// visitor sees the answer and not a broken connection (RFC 9112 section 9.6).
    fn wait(
        &self,
        call: &Call,
        room: &RoomInForce,
        wait: Wait,
        credentials: &Credentials,
        request: Request<Incoming>,
    ) -> Outcome {
        let standing = view::standing(room, call, credentials);
        let (parts, body) = request.into_parts();
        let response = answers::waiting(wait, room, call, &parts.headers, &standing);
        leave_unread(&parts, body);
        Outcome::of(response, waiting_decision(wait))
    }

    /// Counts and logs, and says what browsers are to keep in mind of our TLS (RFC 6797 section 7.2).
    fn account(&self, call: &Call, mut outcome: Outcome) -> Response<Body> {
        if outcome.decision == metrics::Decision::AdmittedPass {
            call.connection.note_insider();
        }
        if let (Some(hsts), true) = (&call.snapshot.config.server.hsts, call.connection.tls.is_some())
            && let Ok(hsts) = HeaderValue::try_from(hsts.as_str())
        {
            outcome.response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts);
        }
        let status = outcome.response.status();
        self.shared.metrics.count_request(outcome.decision, status);
        let log = call.snapshot.config.log;
        if log.access {
            let now = self.shared.clock.now();
            let class = outcome.room.as_ref().zip(outcome.class).map(|(room, class)| room.live.class_name(class));
            self.shared.log.access(
                log,
                &Access {
                    at: now.wall,
                    request_id: call.request_id.to_str().unwrap_or_default(),
                    client: call.client.address,
                    method: &call.method,
                    host: &call.host_name,
                    path: call.path(),
                    status,
                    decision: outcome.decision,
                    room: outcome.room.as_ref().map(|room| &room.settings.name),
                    class: class.as_ref(),
                    bytes: http_body::Body::size_hint(outcome.response.body()).exact(),
                    duration: now.mono.since(call.now.mono),
                    upstream: outcome.upstream,
                },
            );
        }
        outcome.response
    }

    fn fresh_id(&self) -> HeaderValue {
        HeaderValue::try_from(self.shared.ids.fresh()).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }

    /// Counts a draw against the limits, or says how far over them it would be.
    fn count_join(&self, call: &Call, room: &RoomInForce) -> Result<(), Over> {
        room.live.joins.count(ClientPrefix::of(call.client.address), join_limits(room), call.now.mono)
    }
}

/// How many joins are free.
fn join_limits(room: &RoomInForce) -> JoinLimits {
    let settings = &room.settings;
    JoinLimits { per_client: settings.joins_per_client.map(Limit::of), in_all: settings.joins_in_all.map(Limit::of) }
}

impl Outcome {
    fn of(response: Response<Body>, decision: metrics::Decision) -> Outcome {
        Outcome { response, decision, room: None, class: None, upstream: None }
    }

    fn refused(refusal: &Refusal, call: &Call, request: Request<Incoming>) -> Outcome {
        let (parts, body) = request.into_parts();
        leave_unread(&parts, body);
        Outcome::of(refusal.answer(call, &parts.headers), metrics::Decision::Refused)
    }
}

/// Reads on for a while after an early answer, off the request's path. Whoever first asks whether to send the body is
/// not asked for it: reading would say `100 Continue` (RFC 9110 section 10.1.1). Over HTTP/2 the stream is ended with
/// NO_ERROR instead (RFC 9113 section 8.1), which dropping the body does.
fn leave_unread(parts: &Parts, body: Incoming) {
    let is_awaited = parts.version != Version::HTTP_2 && !parts.headers.contains_key(EXPECT);
    if is_awaited && !http_body::Body::is_end_stream(&body) {
        tokio::spawn(linger(body));
    }
}

fn mode(room: &config::Room) -> Mode {
    match room.state {
        config::RoomState::Open | config::RoomState::Hold => Mode::Working,
        config::RoomState::Observe => Mode::Observing,
        config::RoomState::Closed => Mode::Closed,
    }
}

/// Whether a reading of a path, which is in lower case, is the prefix or below it.
fn is_at_or_below(prefix: &str, reading: &str) -> bool {
    let (path, prefix) = (reading.as_bytes(), prefix.as_bytes());
    path.split_at_checked(prefix.len())
        .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(prefix) && matches!(rest.first(), None | Some(b'/')))
}

fn waiting_decision(wait: Wait) -> metrics::Decision {
    match wait {
        Wait::Page | Wait::FormNotSent => metrics::Decision::WaitingPage,
        Wait::Json => metrics::Decision::WaitingJson,
        Wait::Empty => metrics::Decision::WaitingEmpty,
        Wait::Maintenance => metrics::Decision::Maintenance,
    }
}

fn admit_decision(admit: Admit) -> metrics::Decision {
    match admit {
        Admit::Pass | Admit::SamePass | Admit::Grace => metrics::Decision::AdmittedPass,
        Admit::Staff => metrics::Decision::AdmittedStaff,
        Admit::Bypass | Admit::Preflight => metrics::Decision::ForwardedBypass,
        Admit::Observing => metrics::Decision::AdmittedObserve,
        Admit::Turn => metrics::Decision::AdmittedTurn,
        Admit::Straight => metrics::Decision::AdmittedStraight,
    }
}

/// What the operator declared about a personal target.
fn personal_route(call: &Call) -> leak_guard::Route {
    let guard = &call.snapshot.config.leak_guard;
    let is_in = |list: &[PathPattern]| list.iter().any(|pattern| pattern.matches_raw(call.path()));
    let wears = |rule: &config::ArmourRule| rule.worn == config::Wears::Worn && !is_in(&rule.except);
    let [x_accel_buffering, vary, age] = &guard.armour;
    leak_guard::Route::Personal(Personal {
        range: if is_in(&guard.downloads) { RangeRule::Allowed } else { RangeRule::Removed },
        etag: if is_in(&guard.etag_paths) { EtagRule::Kept } else { EtagRule::Removed },
        back: if is_in(&guard.back_paths) { BackRule::Kept } else { BackRule::NotKept },
        armour: Armour { x_accel_buffering: wears(x_accel_buffering), vary: wears(vary), age: wears(age) },
    })
}
