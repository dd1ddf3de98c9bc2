//! What those admitted get: a request that has been decided upon goes to the portal, the answer comes back through the
//! leak guard.
//!
//! In the order in which a request meets them: [`receive`] reads the body ahead, [`Portal`] gives a slot,
//! [`Worker::forward`] prepares the head, takes a connection from its thread's pool or opens one, sends, waits, guards
//! the answer's head and hands over its body.
//!
//! Nothing is ever sent twice, with two exceptions: a request of which no byte was written may go elsewhere, and a
//! `GET` or `HEAD` without a body goes once more if a connection that had stood unused died without a byte received.
//! Informational answers of the portal (1xx, other than 101) are swallowed: hyper's server cannot send them.

pub mod answer;
mod connect;
mod error;
mod health;
pub(crate) mod idle;
pub mod meter;
mod pool;
mod portal;
mod probe;
pub mod request_body;
mod scan;
mod slots;
pub mod tls;
mod upgrade;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

pub use self::error::{Fault, NoSlot, ProxyError};
pub use self::health::Health;
pub use self::portal::Portal;
pub(crate) use self::probe::probe_request;
pub use self::request_body::{LINGER, Pace, RequestBody, linger, receive};
pub use self::slots::Slot;

use self::answer::{Handling, InUse, Reading};
use self::pool::{History, Lease, Pool};
use self::portal::{Address, connect_error};
use self::request_body::Progress;
use self::scan::{Bench, Scanned};
use crate::body::Body;
use crate::clock::Clock;
use crate::config;
use crate::domain::cookie;
use crate::domain::forwarding::{self, PortalAddress, Upgrade, Visitor};
use crate::domain::kept::KeptHeaders;
use crate::domain::leak_guard::{self, Exchange, Guarded, Mode, Reason, Route, Scan, Verdict};
use crate::domain::time::Mono;
use crate::leaks;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Something of the caller's that lives as long as an answer is on its way: while it lives, the visitor is active.
pub type Keep = Arc<dyn Any + Send + Sync>;

/// One request thread's way to the portal, with its own pool of connections.
#[derive(Debug)]
pub struct Worker {
    portal: Arc<Portal>,
    pool: Arc<Pool>,
    bench: Bench,
    clock: Clock,
}

/// What is known of a request besides itself.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// What the visitor sent, from which it is sent once more if need be.
    pub received: Received<'a>,
    /// The portal's settings in the request's configuration.
    pub portal: &'a config::Portal,
    /// Who asks, for the forwarding headers.
    pub visitor: Visitor<'a>,
    /// A hash of the visitor's pass: the visitor stays with one address of the portal.
    pub sticky: Option<u64>,
    /// What the operator declared about the target.
    pub route: Route,
    /// How the leak guard works.
    pub guard: &'a leak_guard::Rules,
    /// A value that no request had before, sent in the query of personal requests so that no cache behind us knows it.
    pub bust: Option<&'a str>,
    /// Sent as `X-Request-Id`: the one that the visitor sent, if it is fit to be believed, or one of ours. It is the
    /// one in the log.
    pub request_id: &'a HeaderValue,
    /// What the leak guard remembers of the request, to judge the answer by.
    pub watch: Option<&'a leaks::Exchange<'a>>,
    /// Kept until the answer has been handed to the visitor's connection to its end, or the upgraded connection has
    /// ended.
    pub keep: Option<Keep>,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its version.
    pub version: Version,
    /// Its headers.
    pub headers: &'a KeptHeaders,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The answer for the visitor.
    pub response: Response<Body>,
    /// What the leak guard thought of it, and what the portal said to us alone.
    pub guarded: Guarded,
}

/// Why a request did not come back from one connection.
enum Unanswered {
    /// Nothing of it was written: here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// The connection had stood unused and died without a byte received.
    DiedUnused(ProxyError),
    /// Anything else.
    Failed(ProxyError),
}

impl Worker {
    /// A worker without connections.
    pub fn new(portal: Arc<Portal>, clock: Clock) -> Worker {
        Worker { portal, pool: Pool::new(clock.clone()), bench: Bench::default(), clock }
    }

    /// Closes connections that have stood unused for `keep_alive` or died. To be called now and then; they are not
    /// used in any case.
    pub fn close_unused(&self, keep_alive: Duration) {
        self.pool.sweep(keep_alive);
    }

    /// Sends a request to the portal and brings its answer, guarded. The slot is given back when the portal's answer
    /// has been read to its end (at the 101 of an upgrade).
    ///
    /// The request loses our own tokens here, and the authority of its target.
    ///
    /// # Errors
    /// [`ProxyError`] when there is no answer to deliver; it knows its status and whose fault it is.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        context: &Context<'_>,
        slot: Slot,
    ) -> Result<Answer, ProxyError> {
        let upgrade = Leaving::of(&mut request, context.route);
        let exchange = prepare(&mut request, context, upgrade.asked)?;
        let (response, lease) = self.exchange(request, context, upgrade.asked).await?;
        let answer = deliver(response, InUse { lease, slot }, &exchange, context, upgrade).await?;
        if answer.guarded.verdict == Verdict::Public && context.guard.scan == Scan::FiscalCodes {
            return Box::pin(self.search(answer, &exchange, context)).await;
        }
        Ok(answer)
    }

    /// Looks for people in public text; where there are any the answer is personal after all.
    async fn search(&self, answer: Answer, exchange: &Exchange, context: &Context<'_>) -> Result<Answer, ProxyError> {
        let Answer { response, mut guarded } = answer;
        let (mut parts, body) = response.into_parts();
        if !scan::is_text(&parts.headers).unwrap_or_else(|| exchange.may_ask_for_text()) {
            return Ok(Answer { response: Response::from_parts(parts, body), guarded });
        }
        let has_body = context.received.method != Method::HEAD && parts.status != StatusCode::NOT_MODIFIED;
        let (scanned, body) = if has_body {
            self.bench.search(&parts.headers, body).await.map_err(ProxyError::Unreadable)?
        } else {
            // What it speaks of is shared only if it was found to name nobody.
            let is_clean = context.watch.is_some_and(|watch| watch.was_found_clean());
            (if is_clean { Scanned::Clean } else { Scanned::Unreadable }, body)
        };
        let reason = match scanned {
            Scanned::Clean => None,
            Scanned::NamesAPerson => Some(Reason::FiscalCode),
            Scanned::Unreadable => Some(Reason::Unsearched),
        };
        if let Some(watch) = context.watch {
            watch.note_search(reason, parts.status);
        }
        if let Some(reason) = reason {
            leak_guard::downgrade(&mut parts.headers, &mut guarded, reason, context.guard.mode);
        }
        Ok(Answer { response: Response::from_parts(parts, body), guarded })
    }

    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        context: &Context<'_>,
        upgrade: Upgrade,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let addresses = self.portal.addresses();
        let address = self.portal.choose(&addresses, context.sticky, &[]).ok_or(ProxyError::ClosedAtOnce)?;
        if let Some(lease) = self.pool.take(&address, context.portal.keep_alive) {
            let repeatable = is_repeatable(&request);
            request = match self.send(request, lease, context).await {
                Ok(answered) => return Ok(answered),
                Err(Unanswered::Unsent(unsent)) => *unsent,
                Err(Unanswered::DiedUnused(_)) if repeatable => once_more(context, upgrade)?,
                Err(Unanswered::DiedUnused(error) | Unanswered::Failed(error)) => return Err(error),
            };
        }
        let lease = Box::pin(self.open(address, &addresses, context)).await?;
        match self.send(request, lease, context).await {
            Ok(answered) => Ok(answered),
            Err(Unanswered::DiedUnused(error) | Unanswered::Failed(error)) => Err(error),
            Err(Unanswered::Unsent(_)) => Err(ProxyError::ClosedAtOnce),
        }
    }

    /// A new connection, to the address chosen or, since nothing has been written yet, to another.
    async fn open(
        &self,
        chosen: Arc<Address>,
        addresses: &[Arc<Address>],
        context: &Context<'_>,
    ) -> Result<Lease, ProxyError> {
        let mut address = chosen;
        let mut tried = Vec::new();
        loop {
            let error = match self.portal.open(&address, context.portal.connect_timeout, self.now()).await {
                Ok(connection) => return Ok(self.pool.lease(connection, History::Fresh, &address)),
                Err(error) => error,
            };
            self.portal.failed(&address, self.now());
            tried.push(address.id);
            match self.portal.choose(addresses, context.sticky, &tried) {
                Some(other) => address = other,
                None => return Err(connect_error(&address, error)),
            }
        }
    }

    async fn send(
        &self,
        mut request: Request<RequestBody>,
        mut lease: Lease,
        context: &Context<'_>,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        if !context.portal.preserve_host || context.visitor.host.is_empty() {
            request.headers_mut().insert(HOST, lease.address.host.clone());
        }
        let progress = request.body().progress();
        let received = lease.connection.received();
        let answer = lease.connection.sender.try_send_request(request);
        let mut failure = match in_time(answer, progress.as_deref(), context.portal).await {
            Some(Ok(response)) => {
                self.portal.succeeded(&lease.address, self.now());
                return Ok((response, lease));
            }
            Some(Err(failure)) => failure,
            None => {
                self.portal.failed(&lease.address, self.now());
                return Err(Unanswered::Failed(ProxyError::Silent));
            }
        };
        if let Some(unsent) = failure.take_message() {
            return Err(Unanswered::Unsent(Box::new(unsent)));
        }
        let visitors_fault = progress.and_then(|progress| progress.take_fault());
        Err(self.unanswered(failure.into_error(), visitors_fault, &lease, received))
    }

    /// Says whose fault it was, and counts it if the portal's.
    fn unanswered(
        &self,
        error: hyper::Error,
        visitors_fault: Option<ProxyError>,
        lease: &Lease,
        received_before: u64,
    ) -> Unanswered {
        if let Some(fault) = visitors_fault {
            return Unanswered::Failed(fault);
        }
        if error.is_parse() {
            return Unanswered::Failed(ProxyError::Garbled(error));
        }
        if lease.history == History::Reused && lease.connection.received() == received_before {
            return Unanswered::DiedUnused(ProxyError::Closed(error));
        }
        self.portal.failed(&lease.address, self.now());
        Unanswered::Failed(ProxyError::Closed(error))
    }

    fn now(&self) -> Mono {
        self.clock.mono()
    }
}

/// Waits for an answer's head as long as the portal may take; `None` when it took too long.
async fn in_time<A: Future>(answer: A, progress: Option<&Progress>, limits: &config::Portal) -> Option<A::Output> {
    match progress {
        None => tokio::time::timeout(limits.first_byte_timeout, answer).await.ok(),
        Some(progress) => tokio::select! {
            answer = answer => Some(answer),
            () = progress.portal_stalled(limits.first_byte_timeout, limits.idle_timeout) => None,
        },
    }
}

/// A request's wish to leave HTTP, and the visitor's side of it.
struct Leaving {
    asked: Upgrade,
    visitor: Option<OnUpgrade>,
}

impl Leaving {
    fn of(request: &mut Request<RequestBody>, route: Route) -> Leaving {
        let asked = match route {
            Route::Public => Upgrade::None,
            Route::Personal(_) => forwarding::wanted_upgrade(request.method(), request.version(), request.headers()),
        };
        let visitor = (asked != Upgrade::None).then(|| hyper::upgrade::on(request));
        Leaving { asked, visitor }
    }
}

/// Makes a visitor's request one of ours to the portal.
fn prepare(
    request: &mut Request<RequestBody>,
    context: &Context<'_>,
    upgrade: Upgrade,
) -> Result<Exchange, ProxyError> {
    let method = request.method().clone();
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(ProxyError::MethodNotForwarded(method));
    }
    let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
    origin_form(request.uri_mut());
    let mut headers = std::mem::take(request.headers_mut());
    forwarding::strip_request(&mut headers, context.visitor.trust);
    cookie::strip_own(&mut headers);
    let path = request.uri().path();
    let exchange = leak_guard::clean_request(&mut headers, &method, path, context.route, context.guard);
    let reads = matches!(method, Method::GET | Method::HEAD);
    if let (Some(bust), Route::Personal(_), true) = (context.bust, context.route, reads) {
        make_unknown_to_caches(request.uri_mut(), bust);
    }
    forwarding::describe_visitor(&mut headers, &context.visitor);
    forwarding::append_via(&mut headers, received);
    headers.insert(HOST, context.visitor.host.clone());
    headers.insert(&X_REQUEST_ID, context.request_id.clone());
    if upgrade == Upgrade::WebSocket {
        forwarding::ask_upgrade(&mut headers);
    }
    request.body().write_framing(&mut headers);
    *request.headers_mut() = headers;
    Ok(exchange)
}

/// A gateway's request names no authority in its target (RFC 9112 section 3.2.1); `Host` has it.
fn origin_form(uri: &mut Uri) {
    if uri.authority().is_some() {
        *uri = match uri.path_and_query() {
            Some(target) => Uri::from(target.clone()),
            None => Uri::from_static("/"),
        };
    }
}

/// Adds a value to the query that no cache can have seen.
fn make_unknown_to_caches(uri: &mut Uri, bust: &str) {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    // What was a target is one with more of a query, unless it was as long as can be; then it goes as it is.
    if let Ok(target) = format!("{target}{separator}anticamera-fresh={bust}").parse() {
        *uri = target;
    }
}

/// Whether a request may be sent once more.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty) && matches!(*request.method(), Method::GET | Method::HEAD)
}

/// A request without a body, made anew from what was received.
fn once_more(context: &Context<'_>, upgrade: Upgrade) -> Result<Request<RequestBody>, ProxyError> {
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = context.received.method.clone();
    *request.uri_mut() = context.received.uri.clone();
    *request.version_mut() = context.received.version;
    *request.headers_mut() = context.received.headers.unfold();
    prepare(&mut request, context, upgrade)?;
    Ok(request)
}

/// Makes the portal's answer one of ours to the visitor.
async fn deliver(
    mut response: Response<Incoming>,
    in_use: InUse,
    exchange: &Exchange,
    context: &Context<'_>,
    leaving: Leaving,
) -> Result<Answer, ProxyError> {
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && !forwarding::upgrade_agreed(leaving.asked, response.headers()) {
        return Err(ProxyError::UnaskedUpgrade);
    }
    let portal_side = switched.then(|| hyper::upgrade::on(&mut response));
    let (mut parts, body) = response.into_parts();
    let guarded = guard_head(&mut parts, exchange, context);
    if let (Verdict::Fault(reason), Mode::Enforce) = (guarded.verdict, context.guard.mode) {
        if let Some(watch) = context.watch {
            watch.note_fault(reason, parts.status);
        }
        return Err(ProxyError::LeakGuard(reason));
    }
    if let Some(watch) = context.watch {
        let judged = watch.judge(&guarded, parts.status, &parts.headers, exchange.route());
        // The connection goes with the answer: whatever comes on it next is not to be trusted either.
        judged.map_err(ProxyError::LeakFound)?;
    }
    let body = match (leaving.visitor, portal_side) {
        (Some(visitor), Some(portal)) => {
            forwarding::ask_upgrade(&mut parts.headers);
            let InUse { lease, slot } = in_use;
            drop(slot);
            upgrade::join(visitor, portal, lease, context.portal.idle_timeout, context.keep.clone());
            Body::Empty
        }
        _ => answer::receive(body, in_use, handling(&parts, context)).await?,
    };
    Ok(Answer { response: Response::from_parts(parts, body), guarded })
}

fn guard_head(parts: &mut response::Parts, exchange: &Exchange, context: &Context<'_>) -> Guarded {
    forwarding::strip_response(&mut parts.headers);
    forwarding::append_via(&mut parts.headers, parts.version);
    parts.version = Version::HTTP_11;
    let own = context.portal.urls.iter().map(|url| PortalAddress { host: &url.host, port: url.port });
    forwarding::rewrite_addresses(&mut parts.headers, own, &context.visitor);
    leak_guard::guard_response(parts, exchange, context.guard)
}

fn handling(parts: &response::Parts, context: &Context<'_>) -> Handling {
    let is_event_stream = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|media_type| media_type.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM));
    Handling {
        reading: if is_event_stream { Reading::AsTaken } else { Reading::Ahead(context.portal.response_buffer) },
        idle_limit: context.portal.idle_timeout,
        guard: context.guard.mode,
        keep: context.keep.clone(),
    }
}
