//! What the private listener answers: one table of routes, from which the API's description is made too.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER, WWW_AUTHENTICATE};
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::audit::Line;
use super::books::NotWritten;
use super::command::{ChangeOrder, ChangeStatus, DiffAnswer, Mode, NotChanged, WantedChange};
use super::console;
use super::desk::RefusedFor;
use super::events::{self, AdminBody};
use super::handouts::{self, Asking, HandoutFault, Revision};
use super::inputs::{self, Wished};
use super::operators::{NotGood, Operator};
use super::status::OverrideStatus;
use super::{Admin, Command, LeakReports, ReloadAnswer, guard, openapi, view};
use crate::domain::names::RoomName;
use crate::domain::operator::Role;
use crate::domain::overrides::{Refused as Rules, Subject};
use crate::telemetry::metrics;
use crate::waiting_room::assets::BrokenAssets;

/// Bytes of a request's body at most; a message in every language fits.
const MAX_BODY: usize = 512 << 10;
/// Bytes of a configuration file at most.
const MAX_FILE: usize = 1 << 20;
/// Time for the whole of a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the control plane may take for a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of the audit log that are shown at most.
const MOST_AUDIT_LINES: usize = 1000;

type Answer = Response<AdminBody>;

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Metrics,
    Alive,
    Ready,
    Status,
    Events,
    History,
    Configuration,
    Overrides,
    AuditLog,
    Me,
    Openapi,
    Console(console::File),
    Reload,
    Diff,
    LeakGuard,
    LeakGuardReset,
    Drain,
    Preview,
    Change(Subject),
    Thaw,
    Undo,
    Codes,
    CodeCreate,
    CodeRevoke,
    Passes,
    PassCreate,
    PassRevoke,
}

/// Who may ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever reaches the listener.
    Open,
    /// The same, unless `admin.view_needs_token`.
    Look,
    /// Whoever has this role.
    Needs(Role),
}

/// A path, a method, and what is answered there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    pub(super) about: &'static str,
}

const fn get(path: &'static str, endpoint: Endpoint, access: Access, about: &'static str) -> Route {
    Route { method: "GET", path, endpoint, access, about }
}

const fn post(path: &'static str, endpoint: Endpoint, access: Access, about: &'static str) -> Route {
    Route { method: "POST", path, endpoint, access, about }
}

const VIEW: Access = Access::Needs(Role::View);
const OPERATE: Access = Access::Needs(Role::Operate);
const ADMINISTER: Access = Access::Needs(Role::Administer);

/// Everything there is.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    get("/metrics", Endpoint::Metrics, Access::Open, "Figures for Prometheus"),
    get("/healthz", Endpoint::Alive, Access::Open, "Whether the program lives"),
    get("/readyz", Endpoint::Ready, Access::Open, "Whether visitors should be sent here, and why not"),
    get("/admin/v1/status", Endpoint::Status, Access::Look, "Everything on one screen; its ETag is the revision for If-Match"),
    get("/admin/v1/events", Endpoint::Events, Access::Look, "The same as server-sent events, once a second"),
    get("/admin/v1/history", Endpoint::History, Access::Look, "Samples of the last hours for charts"),
    get("/admin/v1/openapi.json", Endpoint::Openapi, Access::Open, "This description"),
    get("/console", Endpoint::Console(console::File::Page), Access::Open, "The operators' console"),
    get("/console/console.js", Endpoint::Console(console::File::Script), Access::Open, "The console's script"),
    get("/console/console.css", Endpoint::Console(console::File::Style), Access::Open, "The console's style"),
    get("/admin/v1/me", Endpoint::Me, VIEW, "Whose token this is, and its role"),
    get("/admin/v1/config", Endpoint::Configuration, VIEW, "The file in force, and each room with what operators changed of it"),
    get("/admin/v1/overrides", Endpoint::Overrides, Access::Look, "What operators changed at run time, and the last changes"),
    get("/admin/v1/audit", Endpoint::AuditLog, VIEW, "The last lines of the audit log"),
    post("/admin/v1/reload", Endpoint::Reload, Access::Open, "Reads the configuration file again"),
    post("/admin/v1/diff", Endpoint::Diff, VIEW, "What another configuration file would change, and for whom"),
    get("/admin/v1/leak-guard", Endpoint::LeakGuard, Access::Look, "What the leak guard found"),
    post("/admin/v1/leak-guard/reset", Endpoint::LeakGuardReset, ADMINISTER, "Lets visitors in again after the leak guard stopped them"),
    post("/admin/v1/drain", Endpoint::Drain, ADMINISTER, "Stops the program as SIGTERM does: what is under way ends, places and passes are kept"),
    get("/admin/v1/rooms/{room}/preview", Endpoint::Preview, Access::Look, "Every page of a room with made-up figures"),
    post("/admin/v1/rooms/{room}/rate", Endpoint::Change(Subject::Rate), OPERATE, "Another rate, in every window; null: what the file says"),
    post("/admin/v1/rooms/{room}/state", Endpoint::Change(Subject::State), OPERATE, "Hold or open; null: what the file says"),
    post("/admin/v1/rooms/{room}/message", Endpoint::Change(Subject::Message), OPERATE, "Another message, in every window; null: what the file says"),
    post("/admin/v1/rooms/{room}/freeze", Endpoint::Change(Subject::Freeze), OPERATE, "Nobody new enters, and the clocks of those inside stand still"),
    post("/admin/v1/rooms/{room}/thaw", Endpoint::Thaw, OPERATE, "Ends that"),
    post("/admin/v1/rooms/{room}/undo", Endpoint::Undo, OPERATE, "Takes the last change of a room back, or that of one subject"),
    get("/admin/v1/codes", Endpoint::Codes, ADMINISTER, "Invitation codes, never their secrets"),
    post("/admin/v1/codes", Endpoint::CodeCreate, ADMINISTER, "Makes an invitation code, shown only now"),
    post("/admin/v1/codes/{id}/revoke", Endpoint::CodeRevoke, ADMINISTER, "Takes an invitation code back"),
    get("/admin/v1/passes", Endpoint::Passes, ADMINISTER, "Staff passes, never their secrets"),
    post("/admin/v1/passes", Endpoint::PassCreate, ADMINISTER, "Makes a staff pass, shown only now"),
    post("/admin/v1/passes/{id}/revoke", Endpoint::PassRevoke, ADMINISTER, "Takes a staff pass back"),
];

/// What a path names besides its route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    room: Option<RoomName>,
    id: Option<String>,
}

impl Named {
    fn room(&self) -> Result<RoomName, Refused> {
        self.room.clone().ok_or(Refused::NotFound)
    }

    fn id(&self) -> Result<String, Refused> {
        self.id.clone().ok_or(Refused::NotFound)
    }
}

impl Route {
    /// What the path names, when it is of this route.
    fn matches(&self, path: &str) -> Option<Named> {
        let mut named = Named::default();
        let mut segments = path.split('/');
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            match expected {
                "{room}" => named.room = Some(RoomName::new(segment).ok()?),
                "{id}" => {
                    let is_id =
                        (1..=64).contains(&segment.len()) && segment.bytes().all(|byte| byte.is_ascii_alphanumeric());
                    named.id = is_id.then(|| segment.to_owned());
                    named.id.as_ref()?;
                }
                fixed if fixed == segment => {}
                _ => return None,
            }
        }
        segments.next().is_none().then_some(named)
    }

    fn answers(&self, method: &Method) -> bool {
        *method == self.method || (*method == Method::HEAD && self.method == "GET")
    }
}

/// Why a request is not answered as asked. The text is the answer's detail.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Guard(#[from] guard::Refusal),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path answers {0}")]
    Method(String),
    #[error("this needs 'Authorization: Bearer TOKEN' with the token in admin.token_file, or one of [[admin.token]]")]
    Token,
    #[error("the token of {0:?} has expired: give it a later day in the configuration, and reload")]
    Expired(String),
    #[error("the role of {name:?} is {has}; this needs {needed}")]
    Role { name: String, has: Role, needed: Role },
    #[error("too many wrong tokens: wait before the next attempt")]
    TooManyFailures(Duration),
    #[error("there are {} listeners already", events::MOST)]
    TooManyListeners,
    #[error("the body is too large or broke off")]
    Body,
    #[error("the body took too long")]
    BodyTimeout,
    #[error("the body is not what this path takes (see /admin/v1/openapi.json): {0}")]
    Wish(#[from] serde_json::Error),
    #[error("the body is not UTF-8")]
    Text,
    #[error(
        "If-Match takes one revision, as the ETag of the status, or of the list of codes or passes, has it: \"17\""
    )]
    IfMatch,
    #[error("dry_run is true or false")]
    DryRun,
    #[error(transparent)]
    NotChanged(#[from] NotChanged),
    #[error(transparent)]
    Handout(#[from] HandoutFault),
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    #[error("the files could not be worked on: see the program's log")]
    BrokeOff,
    #[error("the audit log cannot be read: {0}")]
    Audit(std::io::Error),
    #[error("the program is shutting down")]
    ShuttingDown,
    #[error("the program did not answer in time: see its log")]
    NoAnswer,
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    #[error(transparent)]
    Assets(#[from] BrokenAssets),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::Guard(_) | Refused::Role { .. } => StatusCode::FORBIDDEN,
            Refused::NotFound
            | Refused::NotChanged(NotChanged::UnknownRoom)
            | Refused::Handout(HandoutFault::Unknown(_)) => StatusCode::NOT_FOUND,
            Refused::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Token | Refused::Expired(_) => StatusCode::UNAUTHORIZED,
            Refused::TooManyFailures(_) => StatusCode::TOO_MANY_REQUESTS,
            Refused::NotChanged(NotChanged::Refused(Rules::Outdated { .. }))
            | Refused::Handout(HandoutFault::Outdated { .. }) => StatusCode::PRECONDITION_FAILED,
            Refused::NotChanged(
                NotChanged::NoEnd
                | NotChanged::FileSays(_)
                | NotChanged::Refused(Rules::NothingToUndo | Rules::ToldToAll),
            ) => StatusCode::CONFLICT,
            Refused::Body | Refused::Text | Refused::IfMatch | Refused::DryRun => StatusCode::BAD_REQUEST,
            Refused::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Refused::Wish(_)
            | Refused::NotChanged(NotChanged::Refused(_))
            | Refused::Handout(HandoutFault::Wanted(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::NotWritten(_)
            | Refused::NotChanged(NotChanged::NotWritten(_))
            | Refused::Handout(HandoutFault::NotWritten(_)) => StatusCode::INSUFFICIENT_STORAGE,
            Refused::ShuttingDown | Refused::NoAnswer | Refused::TooManyListeners => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Metrics(_)
            | Refused::Assets(_)
            | Refused::Audit(_)
            | Refused::BrokeOff
            | Refused::NotChanged(NotChanged::NotApplied(_))
            | Refused::Handout(HandoutFault::Files(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Refused::Method(allowed) => Some((ALLOW, HeaderValue::from_str(allowed).ok()?)),
            Refused::Token | Refused::Expired(_) => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Refused::TooManyFailures(wait) => Some((RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))),
            Refused::TooManyListeners => Some((RETRY_AFTER, HeaderValue::from_static("5"))),
            _ => None,
        }
    }

    /// RFC 9457. What two operators have to know of each other stands in members of its own.
    fn into_answer(self) -> Answer {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or_default();
        let mut body = json!({"title": title, "status": status.as_u16(), "detail": self.to_string()});
        if let (Some((revision, changes)), Some(members)) = (self.changed_since(), body.as_object_mut()) {
            members.insert("revision".to_owned(), revision);
            members.insert("changes".to_owned(), changes);
        }
        let mut answer = plain(status, "application/problem+json", body.to_string());
        answer.headers_mut().extend(self.header());
        answer
    }

    /// The revision now, and what was changed since the one that was seen.
    fn changed_since(&self) -> Option<(Value, Value)> {
        match self {
            Refused::NotChanged(NotChanged::Refused(Rules::Outdated { revision, changes, .. })) => {
                let changes: Vec<ChangeStatus> = changes.iter().map(ChangeStatus::from).collect();
                Some((Value::from(*revision), serde_json::to_value(changes).unwrap_or_default()))
            }
            Refused::Handout(HandoutFault::Outdated { revision, changes }) => {
                Some((Value::from(revision.to_string()), Value::from(changes.clone())))
            }
            _ => None,
        }
    }

    /// What is counted of it for the audit log.
    fn counts_as(&self) -> Option<RefusedFor> {
        match self {
            Refused::Guard(_) => Some(RefusedFor::ForeignPage),
            Refused::Token | Refused::TooManyFailures(_) => Some(RefusedFor::WrongToken),
            Refused::Expired(_) => Some(RefusedFor::ExpiredToken),
            Refused::Role { .. } => Some(RefusedFor::Role),
            Refused::NotChanged(NotChanged::UnknownRoom) | Refused::Handout(HandoutFault::Unknown(_)) => {
                Some(RefusedFor::UnknownName)
            }
            other => match other.status() {
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Some(RefusedFor::WrongValue),
                StatusCode::CONFLICT => Some(RefusedFor::Rules),
                StatusCode::PRECONDITION_FAILED => Some(RefusedFor::Outdated),
                StatusCode::INSUFFICIENT_STORAGE => Some(RefusedFor::NotWritten),
                _ => None,
            },
        }
    }
}

/// Answers one request: guard, route, method, token, and then what was asked for.
pub(super) async fn answer<B>(admin: &Admin, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    answer_or_refuse(admin, &head, body).await.unwrap_or_else(|refused| {
        if let Some(why) = refused.counts_as() {
            admin.desk.note_refused(why);
        }
        refused.into_answer()
    })
}

/// A request that may be answered.
struct Asked<'a> {
    admin: &'a Admin,
    head: &'a http::request::Parts,
    named: Named,
    by: Option<Operator>,
    body: Bytes,
}

async fn answer_or_refuse<B>(admin: &Admin, head: &http::request::Parts, body: B) -> Result<Answer, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let settings = admin.settings.borrow().clone();
    guard::check(head, &settings.hosts)?;
    let (route, named) = route(head.uri.path(), &head.method)?;
    let by = match route.access {
        Access::Open => None,
        Access::Look if !settings.view_needs_token => None,
        Access::Look => Some(operator(admin, head, Role::View)?),
        Access::Needs(role) => Some(operator(admin, head, role)?),
    };
    let body = match (route.method, route.endpoint) {
        ("POST", Endpoint::Diff) => read(body, MAX_FILE).await?,
        ("POST", Endpoint::Reload) | ("GET", _) => Bytes::new(),
        _ => read(body, MAX_BODY).await?,
    };
    Asked { admin, head, named, by, body }.answer(route.endpoint).await
}

/// The route of a path and method.
fn route(path: &str, method: &Method) -> Result<(&'static Route, Named), Refused> {
    let found: Vec<(&Route, Named)> =
        ROUTES.iter().filter_map(|route| route.matches(path).map(|named| (route, named))).collect();
    if found.is_empty() {
        return Err(Refused::NotFound);
    }
    let allowed = found.iter().map(|(route, _)| if route.method == "GET" { "GET, HEAD" } else { route.method });
    let allowed = allowed.collect::<Vec<_>>().join(", ");
    found.into_iter().find(|(route, _)| route.answers(method)).ok_or(Refused::Method(allowed))
}

async fn read<B>(body: B, most: usize) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await;
    Ok(collected.map_err(|_| Refused::BodyTimeout)?.map_err(|_| Refused::Body)?.to_bytes())
}

/// Who asks, when they may. Wrong tokens are counted, and too many of them are answered without being looked at for long; the
/// right token is always accepted, so that nobody can lock operators out.
fn operator(admin: &Admin, head: &http::request::Parts, needed: Role) -> Result<Operator, Refused> {
    let presented = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let now = admin.clock.now();
    let who = presented.map_or(Err(NotGood::Unknown), |shown| admin.operators.borrow().who(shown, now.wall));
    let refused = match who {
        Ok(operator) if operator.role.may(needed) => return Ok(operator),
        Ok(Operator { name, role: has }) => {
            tracing::warn!(name, %has, %needed, "an operator asked for what their role does not allow");
            return Err(Refused::Role { name, has, needed });
        }
        Err(NotGood::Unknown) => Refused::Token,
        Err(NotGood::Expired(name)) => Refused::Expired(name),
    };
    let mut failures = admin.failures.lock().unwrap_or_else(PoisonError::into_inner);
    failures.count(now.mono).map_err(Refused::TooManyFailures)?;
    tracing::warn!("something was asked for on the private listener without a good token");
    Err(refused)
}

impl Asked<'_> {
    async fn answer(self, endpoint: Endpoint) -> Result<Answer, Refused> {
        let admin = self.admin;
        match endpoint {
            Endpoint::Metrics => Ok(plain(StatusCode::OK, metrics::CONTENT_TYPE, admin.metrics.encode()?)),
            Endpoint::Alive => Ok(json_answer(StatusCode::OK, &json!({"status": "alive"}))),
            Endpoint::Ready => Ok(show_readiness(admin)),
            Endpoint::Status => Ok(show_status(admin)),
            Endpoint::Events => self.events(),
            Endpoint::History => Ok(self.history()),
            Endpoint::Configuration => view::configuration(admin).map(|view| self.json(&view)).ok_or(Refused::NotFound),
            Endpoint::Overrides => Ok(self.overrides()),
            Endpoint::AuditLog => self.audit_log().await,
            Endpoint::Me => Ok(self.json(&json!({"name": self.by(), "role": self.by.as_ref().map(|by| by.role)}))),
            Endpoint::Openapi => Ok(self.json(&openapi::description())),
            Endpoint::Console(file) => Ok(show_console(file)),
            Endpoint::Reload => reload(admin).await,
            Endpoint::Diff => self.diff().await,
            Endpoint::LeakGuard => show_leaks(admin),
            Endpoint::LeakGuardReset => self.reset_leak_guard().await,
            Endpoint::Drain => self.drain().await,
            Endpoint::Preview => self.preview(),
            Endpoint::Change(subject) => {
                let wished = inputs::wished(subject, &self.body)?;
                self.change(wished).await
            }
            Endpoint::Thaw => {
                self.change(Wished { wanted: WantedChange::Set(Subject::Freeze, None), until: None }).await
            }
            Endpoint::Undo => {
                let wanted = WantedChange::Undo(inputs::undone(&self.body)?);
                self.change(Wished { wanted, until: None }).await
            }
            Endpoint::Codes => {
                let class = self.in_query("class");
                self.files(move |asking, _| handouts::codes_listed(asking, class.as_deref())).await
            }
            Endpoint::CodeCreate => {
                let wanted = serde_json::from_slice(&self.body)?;
                self.files(move |asking, mode| handouts::make_code(asking, wanted, mode)).await
            }
            Endpoint::CodeRevoke => {
                let id = self.named.id()?;
                self.files(move |asking, mode| handouts::revoke_code(asking, &id, mode)).await
            }
            Endpoint::Passes => self.files(|asking, _| handouts::passes_listed(asking)).await,
            Endpoint::PassCreate => {
                let wanted = serde_json::from_slice(&self.body)?;
                self.files(move |asking, mode| handouts::make_pass(asking, wanted, mode)).await
            }
            Endpoint::PassRevoke => {
                let id = self.named.id()?;
                self.files(move |asking, mode| handouts::revoke_pass(asking, &id, mode)).await
            }
        }
    }

    fn by(&self) -> String {
        self.by.as_ref().map(|by| by.name.clone()).unwrap_or_default()
    }

    fn json(&self, value: &impl Serialize) -> Answer {
        json_answer(StatusCode::OK, value)
    }

    fn in_query(&self, name: &str) -> Option<String> {
        inputs::in_query(self.head.uri.query().unwrap_or_default(), name)
    }

    fn mode(&self) -> Result<Mode, Refused> {
        match self.in_query("dry_run").as_deref() {
            None | Some("false") => Ok(Mode::Apply),
            Some("true") => Ok(Mode::Preview),
            Some(_) => Err(Refused::DryRun),
        }
    }

    /// The revision in `If-Match` (RFC 9110, section 13.1.1); `*` is any.
    fn seen<T: FromStr>(&self) -> Result<Option<T>, Refused> {
        let Some(value) = self.head.headers.get(IF_MATCH) else { return Ok(None) };
        let text = value.to_str().map_err(|_| Refused::IfMatch)?.trim();
        if text == "*" {
            return Ok(None);
        }
        let revision = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        revision.parse().map(Some).map_err(|_| Refused::IfMatch)
    }

    fn events(&self) -> Result<Answer, Refused> {
        let slot = self.admin.listeners.clone().try_acquire_owned().map_err(|_| Refused::TooManyListeners)?;
        let mut answer = plain(StatusCode::OK, "text/event-stream", String::new());
        if self.head.method != Method::HEAD {
            *answer.body_mut() = events::stream(self.admin.status.clone(), slot);
        }
        Ok(answer)
    }

    fn history(&self) -> Answer {
        let (room, seconds) = (self.in_query("room"), self.in_query("seconds"));
        let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(u64::MAX);
        self.json(&self.admin.desk.history(room.as_deref(), seconds, self.admin.clock.now().wall))
    }

    fn overrides(&self) -> Answer {
        let overrides = self.admin.desk.overrides();
        let changes: Vec<ChangeStatus> = overrides.changes().map(ChangeStatus::from).collect();
        let revision = overrides.revision();
        let shown = json!({"revision": revision, "overrides": OverrideStatus::all(&overrides), "changes": changes});
        with_revision(self.json(&shown), revision)
    }

    async fn audit_log(&self) -> Result<Answer, Refused> {
        let last = self.in_query("last").and_then(|last| last.parse().ok()).unwrap_or(100).min(MOST_AUDIT_LINES);
        let books = self.admin.desk.books();
        let lines = tokio::task::spawn_blocking(move || books.last(last)).await.map_err(|_| Refused::BrokeOff)?;
        Ok(self.json(&json!({"lines": lines.map_err(Refused::Audit)?, "end": self.admin.desk.books().head()})))
    }

    async fn diff(&self) -> Result<Answer, Refused> {
        let text = std::str::from_utf8(&self.body).map_err(|_| Refused::Text)?.to_owned();
        Ok(match ask(self.admin, |answer| Command::Diff { text, answer }).await? {
            DiffAnswer::Differs(diff) => json_answer(StatusCode::OK, &diff),
            DiffAnswer::Faulty(faults) => {
                json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"result": "refused", "faults": faults}))
            }
        })
    }

    async fn change(&self, wished: Wished) -> Result<Answer, Refused> {
        let order = Box::new(ChangeOrder {
            room: self.named.room()?,
            wanted: wished.wanted,
            by: self.by(),
            until: wished.until,
            seen: self.seen()?,
            mode: self.mode()?,
        });
        let changed = ask(self.admin, |answer| Command::Change(order, answer)).await??;
        Ok(with_revision(json_answer(StatusCode::OK, &changed), changed.revision))
    }

    /// Lets visitors in again after the leak guard stopped them.
    async fn reset_leak_guard(&self) -> Result<Answer, Refused> {
        let LeakReports { leaks, .. } = self.admin.leaks.as_ref().ok_or(Refused::NotFound)?;
        if self.mode()? == Mode::Preview {
            let rooms = self.admin.status.borrow().clone();
            let stopped = rooms.rooms.iter().filter(|room| room.leak_guard != "open");
            let stopped: Vec<&str> = stopped.map(|room| room.name.as_str()).collect();
            return Ok(self.json(&json!({"result": "preview", "rooms_let_in_again": stopped})));
        }
        let line = Line { what: "leak_guard_reset", details: json!({"by": self.by()}) };
        self.admin.desk.record(vec![line], self.admin.clock.now().wall).await?;
        leaks.reset();
        tracing::warn!(by = self.by(), "an operator lets visitors in again after the leak guard stopped them");
        Ok(self.json(&json!({"result": "reset"})))
    }

    /// Stops the program, or says whom that concerns.
    async fn drain(&self) -> Result<Answer, Refused> {
        let picture = self.admin.status.borrow().clone();
        let waiting: u64 = picture.rooms.iter().flat_map(|room| &room.lanes).map(|lane| lane.waiting).sum();
        let inside: u64 = picture.rooms.iter().map(|room| room.active_sessions).sum();
        let concerned = |result: &str| json!({"result": result, "waiting": waiting, "inside": inside});
        if self.mode()? == Mode::Preview {
            return Ok(self.json(&concerned("preview")));
        }
        let line = Line { what: "drain", details: json!({"by": self.by(), "waiting": waiting, "inside": inside}) };
        self.admin.desk.record(vec![line], self.admin.clock.now().wall).await?;
        tracing::warn!(by = self.by(), "an operator stops the program");
        ask(self.admin, Command::Drain).await?;
        Ok(self.json(&concerned("draining")))
    }

    /// A page with made-up figures, or the list of all of them.
    fn preview(&self) -> Result<Answer, Refused> {
        let (room, previews) = (self.named.room()?, self.admin.previews.borrow().clone());
        let (scene, lang, message) = (self.in_query("scene"), self.in_query("lang"), self.in_query("message"));
        let path = self.head.uri.path();
        let page = previews.page(&room, scene.as_deref(), lang.as_deref(), message.as_deref(), path)?;
        let page = page.ok_or(Refused::NotFound)?;
        let mut answer = Response::new(AdminBody::Whole(Full::new(page.body)));
        answer.headers_mut().extend(page.headers);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    /// Works on files, off this thread.
    async fn files(
        &self,
        work: impl FnOnce(Asking<'_>, Mode) -> Result<Value, HandoutFault> + Send + 'static,
    ) -> Result<Answer, Refused> {
        let LeakReports { snapshot, .. } = self.admin.leaks.as_ref().ok_or(Refused::NotFound)?;
        let (config, books) = (snapshot.borrow().config.clone(), self.admin.desk.books());
        let (by, now, mode) = (self.by(), self.admin.clock.now().wall, self.mode()?);
        let seen: Option<Revision> = self.seen()?;
        let worked = tokio::task::spawn_blocking(move || {
            work(Asking { config: &config, books: &books, by: &by, now, seen: seen.as_ref() }, mode)
        });
        let answer = worked.await.map_err(|_| Refused::BrokeOff)??;
        let revision = answer.get("revision").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(with_revision(self.json(&answer), revision))
    }
}

fn show_console(file: console::File) -> Answer {
    let mut answer = plain(StatusCode::OK, file.media(), file.text().to_owned());
    answer.headers_mut().extend(console::headers());
    answer
}

fn with_revision(mut answer: Answer, revision: impl Display) -> Answer {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

fn show_readiness(admin: &Admin) -> Answer {
    let reasons = admin.status.borrow().unready(admin.clock.now().mono);
    let (status, word) =
        if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    json_answer(status, &json!({"status": word, "reasons": reasons}))
}

/// The picture of this second. What changed since counts at once for the revision and the overrides.
fn show_status(admin: &Admin) -> Answer {
    let mut status = admin.status.borrow().clone();
    let overrides = admin.desk.overrides();
    if overrides.revision() != status.revision {
        let status = Arc::make_mut(&mut status);
        (status.revision, status.overrides) = (overrides.revision(), OverrideStatus::all(&overrides));
    }
    with_revision(json_answer(StatusCode::OK, status.as_ref()), status.revision)
}

fn show_leaks(admin: &Admin) -> Result<Answer, Refused> {
    let LeakReports { leaks, snapshot } = admin.leaks.as_ref().ok_or(Refused::NotFound)?;
    let snapshot = snapshot.borrow().clone();
    let rooms = snapshot.rooms.iter().map(|room| &room.settings.name);
    let (guard, ramp) = (&snapshot.config.leak_guard, snapshot.config.portal.ramp);
    Ok(json_answer(StatusCode::OK, &leaks.report(guard, ramp, rooms, admin.clock.now())))
}

async fn reload(admin: &Admin) -> Result<Answer, Refused> {
    Ok(match ask(admin, Command::Reload).await? {
        ReloadAnswer::Applied => {
            let overrides = OverrideStatus::all(&admin.desk.overrides());
            if overrides.is_empty() {
                json_answer(StatusCode::OK, &json!({"result": "applied"}))
            } else {
                let note = "what operators changed at run time stays in force over the new file";
                json_answer(StatusCode::OK, &json!({"result": "applied", "note": note, "overrides": overrides}))
            }
        }
        ReloadAnswer::Unchanged => json_answer(StatusCode::OK, &json!({"result": "unchanged"})),
        ReloadAnswer::Refused(faults) => {
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"result": "refused", "faults": faults}))
        }
        ReloadAnswer::NeedsRestart(keys) => {
            json_answer(StatusCode::CONFLICT, &json!({"result": "needs_restart", "keys": keys}))
        }
    })
}

/// Sends a command to the control plane and waits for its answer.
async fn ask<T>(admin: &Admin, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refused> {
    let (answer, answered) = oneshot::channel();
    let asking = async {
        admin.commands.send(command(answer)).await.ok()?;
        answered.await.ok()
    };
    let answer = tokio::time::timeout(COMMAND_TIMEOUT, asking).await.map_err(|_| Refused::NoAnswer)?;
    answer.ok_or(Refused::ShuttingDown)
}

fn json_answer(status: StatusCode, value: &impl Serialize) -> Answer {
    // Plain structures with text keys always become JSON.
    plain(status, "application/json", serde_json::to_string(value).unwrap_or_default())
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(AdminBody::Whole(Full::new(Bytes::from(text))));
    *answer.status_mut() = status;
    answer.headers_mut().extend([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use tokio::sync::{mpsc, watch};

    use super::super::status::tests::status;
    use super::super::tests::parts;
    use super::super::{AdminToken, ChangeAnswer, ChangeResult, ReloadFault, Stage, Status};
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config;
    use crate::domain::overrides::Overrides;
    use crate::domain::time::Unix;

    struct Bench {
        admin: Admin,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Arc<Status>>,
        clock: ManualClock,
        token: String,
        _directory: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("admin-token");
        AdminToken::load_or_create(&token_file).unwrap();
        let written = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
        let settings = config::Admin {
            listen: config::AdminListen::Unix("unused".into()),
            hosts: vec!["ops.example".into()],
            token_file,
            view_needs_token: false,
            state_dir: directory.path().join("operators"),
            tokens: Vec::new(),
        };
        let (command_sender, commands) = mpsc::channel(1);
        let (status, status_receiver) = watch::channel(Arc::new(status(Stage::Serving)));
        let clock = ManualClock::starting_at(Unix(0));
        let admin = Admin::new(parts(settings, status_receiver, command_sender, Clock::Manual(clock.clone())));
        Bench { admin, commands, status, clock, token: written, _directory: directory }
    }

    fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("host", "localhost:9090")
    }

    async fn ask_for(bench: &Bench, request: http::request::Builder, body: &str) -> (Answer, String) {
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let mut answer = answer(&bench.admin, request).await;
        let body = answer.body_mut().collect().await.unwrap().to_bytes();
        (answer, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(bench: &Bench, path: &str) -> (StatusCode, String) {
        let (answer, body) = ask_for(bench, request("GET", path), "").await;
        (answer.status(), body)
    }

    fn hold(bench: &Bench, authorization: Option<&str>) -> http::request::Builder {
        let request = request("POST", "/admin/v1/rooms/bonus-600/state");
        match authorization {
            Some("right") => request.header("authorization", format!("Bearer {}", bench.token)),
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    /// Runs a request and answers its one command with `reply`.
    async fn with_reply(
        bench: &mut Bench,
        request: http::request::Builder,
        body: &str,
        reply: impl FnOnce(Command),
    ) -> (StatusCode, Value) {
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let replying = async { reply(bench.commands.recv().await.unwrap()) };
        let (answer, ()) = tokio::join!(answer(&bench.admin, request), replying);
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn reload_answered(with: ReloadAnswer) -> (StatusCode, Value) {
        with_reply(&mut bench(), request("POST", "/admin/v1/reload"), "", |command| match command {
            Command::Reload(answer) => answer.send(with).unwrap(),
            other => panic!("{other:?}"),
        })
        .await
    }

    #[tokio::test]
    async fn shows_metrics_health_and_status() {
        let bench = bench();
        let (answer, body) = ask_for(&bench, request("GET", "/metrics"), "").await;
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(body.contains("anticamera_build_info"));
        assert_eq!(get(&bench, "/healthz").await.0, StatusCode::OK);
        let (code, body) = get(&bench, "/admin/v1/status").await;
        assert_eq!(code, StatusCode::OK);
        assert!(body.contains("\"bonus-600\""), "{body}");
    }

    #[tokio::test]
    async fn is_ready_until_it_drains_or_its_control_plane_stops() {
        let bench = bench();
        assert_eq!(get(&bench, "/readyz").await.0, StatusCode::OK);
        bench.status.send_replace(Arc::new(status(Stage::Draining)));
        let (code, body) = get(&bench, "/readyz").await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, r#"{"reasons":["draining"],"status":"not_ready"}"#);
        assert_eq!(get(&bench, "/healthz").await.0, StatusCode::OK);

        bench.status.send_replace(Arc::new(status(Stage::Serving)));
        bench.clock.advance(Duration::from_secs(11));
        assert!(get(&bench, "/readyz").await.1.contains("control_plane_stalled"));
    }

    #[tokio::test]
    async fn pages_can_be_looked_at() {
        let bench = bench();
        let (answer, list) = ask_for(&bench, request("GET", "/admin/v1/rooms/bonus-600/preview"), "").await;
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(list.contains("/admin/v1/rooms/bonus-600/preview?scene=your-turn&amp;lang=ar"), "{list}");
        let one = "/admin/v1/rooms/bonus-600/preview?scene=your-turn&lang=de";
        let (answer, page) = ask_for(&bench, request("GET", one), "").await;
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("script-src 'sha256-"));
        assert!(page.contains("Sie sind an der Reihe"));
        for path in ["bonus-600/preview?scene=nothing", "other/preview", "NO NAME/preview?scene=left"] {
            let uri = format!("/admin/v1/rooms/{}", path.replace(' ', "%20"));
            assert_eq!(get(&bench, &uri).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        let (answer, _) = ask_for(&bench, request("POST", one), "").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn unknown_paths_and_wrong_methods() {
        let bench = bench();
        for path in ["/", "/metrics/", "/admin/v1", "/admin/v1/rooms/NOT A NAME/state", "/admin/v1/rooms//state"] {
            let uri = path.replace(' ', "%20");
            assert_eq!(get(&bench, &uri).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        for (method, path, allowed) in [
            ("POST", "/metrics", "GET, HEAD"),
            ("DELETE", "/admin/v1/status", "GET, HEAD"),
            ("GET", "/admin/v1/reload", "POST"),
            ("PUT", "/admin/v1/rooms/bonus-600/state", "POST"),
        ] {
            let (answer, _) = ask_for(&bench, request(method, path), "").await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.headers()["allow"], allowed);
        }
        assert_eq!(ask_for(&bench, request("HEAD", "/readyz"), "").await.0.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn other_peoples_pages_get_nothing() {
        let bench = bench();
        for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            for (method, path) in [("GET", "/metrics"), ("POST", "/admin/v1/reload"), ("GET", "/nothing")] {
                let (answer, _) = ask_for(&bench, request(method, path).header(name, value), "").await;
                assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name} {path}");
            }
        }
        let rebound = Request::builder().uri("/metrics").header("host", "evil.example");
        assert_eq!(ask_for(&bench, rebound, "").await.0.status(), StatusCode::FORBIDDEN);
        let listed = Request::builder().uri("/metrics").header("host", "ops.example:9090");
        assert_eq!(ask_for(&bench, listed, "").await.0.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_reload_is_answered_by_its_outcome() {
        assert_eq!(reload_answered(ReloadAnswer::Applied).await, (StatusCode::OK, json!({"result": "applied"})));
        assert_eq!(reload_answered(ReloadAnswer::Unchanged).await, (StatusCode::OK, json!({"result": "unchanged"})));
        let fault = ReloadFault {
            key: "portal.url".into(),
            line: Some(7),
            wrong: "is empty".into(),
            remedy: "name one".into(),
        };
        assert_eq!(
            reload_answered(ReloadAnswer::Refused(vec![fault])).await,
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({"result": "refused", "faults": [{"key": "portal.url", "line": 7, "wrong": "is empty", "remedy": "name one"}]})
            )
        );
        assert_eq!(
            reload_answered(ReloadAnswer::NeedsRestart(vec!["server.listen".into()])).await,
            (StatusCode::CONFLICT, json!({"result": "needs_restart", "keys": ["server.listen"]}))
        );
    }

    #[tokio::test]
    async fn a_program_that_ends_says_so() {
        let mut bench = bench();
        bench.commands.close();
        let (answer, _) = ask_for(&bench, request("POST", "/admin/v1/reload"), "").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    fn answered(order: &ChangeOrder, result: ChangeResult) -> ChangeAnswer {
        ChangeAnswer {
            result,
            room: order.room.as_str().to_owned(),
            state: "hold",
            frozen: false,
            rate: "1/s".to_owned(),
            revision: 4,
            change: None,
            effects: Vec::new(),
            warnings: Vec::new(),
            message: None,
        }
    }

    #[tokio::test]
    async fn a_room_is_held_by_whoever_has_the_token() {
        let mut bench = bench();
        let request = hold(&bench, Some("right")).header("if-match", "\"3\"");
        let (code, body) = with_reply(&mut bench, request, r#"{"state":"hold"}"#, |command| match command {
            Command::Change(order, answer) => {
                assert_eq!((order.room.as_str(), order.by.as_str(), order.seen), ("bonus-600", "admin", Some(3)));
                assert_eq!(order.mode, Mode::Apply);
                answer.send(Ok(answered(&order, ChangeResult::Applied))).unwrap();
            }
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!((code, &body["state"], &body["revision"]), (StatusCode::OK, &json!("hold"), &json!(4)));

        let request = hold(&bench, Some("right"));
        let (code, _) = with_reply(&mut bench, request, r#"{"state":"open"}"#, |command| match command {
            Command::Change(_, answer) => answer.send(Err(NotChanged::UnknownRoom)).unwrap(),
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!(code, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_dry_run_travels_along_and_what_is_mistyped_is_refused() {
        let mut bench = bench();
        let authorization = format!("Bearer {}", bench.token);
        let ask = |query: &str| {
            request("POST", &format!("/admin/v1/rooms/bonus-600/rate{query}")).header("authorization", &authorization)
        };
        let asked = ask("?dry_run=true");
        let (code, body) = with_reply(&mut bench, asked, r#"{"rate":"5/s"}"#, |command| match command {
            Command::Change(order, answer) => {
                assert_eq!(order.mode, Mode::Preview);
                answer.send(Ok(answered(&order, ChangeResult::Preview))).unwrap();
            }
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!((code, &body["result"]), (StatusCode::OK, &json!("preview")));
        let (answer, _) = ask_for(&bench, ask("?dry_run=yes"), r#"{"rate":"5/s"}"#).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let (answer, _) = ask_for(&bench, ask("").header("if-match", "\"x\""), r#"{"rate":"5/s"}"#).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn whoever_comes_with_an_old_revision_hears_what_changed() {
        let mut bench = bench();
        let request = hold(&bench, Some("right")).header("if-match", "\"3\"");
        let (code, body) = with_reply(&mut bench, request, r#"{"state":"hold"}"#, |command| match command {
            Command::Change(_, answer) => {
                let mut overrides = Overrides::default();
                let change = overrides.reloaded("ann", Unix(0));
                let outdated = Rules::Outdated { seen: 3, revision: 9, changes: vec![change] };
                answer.send(Err(outdated.into())).unwrap();
            }
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!((code, &body["revision"]), (StatusCode::PRECONDITION_FAILED, &json!(9)));
        assert_eq!((&body["changes"][0]["by"], &body["changes"][0]["how"]), (&json!("ann"), &json!("reloaded")));
    }

    #[tokio::test]
    async fn listeners_get_the_picture_and_are_bounded() {
        let bench = bench();
        let mut held = Vec::new();
        for _ in 0..events::MOST {
            let request = request("GET", "/admin/v1/events").body(Full::new(Bytes::new())).unwrap();
            let mut listener = answer(&bench.admin, request).await;
            assert_eq!(listener.headers()["content-type"], "text/event-stream");
            let first = listener.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
            let first = String::from_utf8(first.to_vec()).unwrap();
            assert!(first.contains("event: status\n") && first.contains("\ndata: {\"updated_at\""), "{first}");
            held.push(listener);
        }
        let (late, _) = get(&bench, "/admin/v1/events").await;
        assert_eq!(late, StatusCode::SERVICE_UNAVAILABLE);
        bench.status.send_replace(Arc::new(Status { revision: 77, ..status(Stage::Draining) }));
        let mut last = held.pop().unwrap();
        let next = last.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8(next.to_vec()).unwrap().contains("\"revision\":77"));
        assert!(last.body_mut().frame().await.is_none(), "a drain ends the stream");
    }

    #[tokio::test]
    async fn nothing_changes_without_the_token() {
        let mut bench = bench();
        for wrong in [None, Some("Bearer wrong"), Some("")] {
            let (answer, _) = ask_for(&bench, hold(&bench, wrong), r#"{"state":"hold"}"#).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
        for _ in 0..20 {
            ask_for(&bench, hold(&bench, None), "").await;
        }
        let (answer, _) = ask_for(&bench, hold(&bench, None), "").await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(bench.commands.try_recv().is_err());

        let (answer, _) = ask_for(&bench, hold(&bench, Some("right")), "nonsense").await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "the right token is never locked out");
    }

    #[tokio::test]
    async fn a_wish_that_makes_no_sense_is_refused() {
        let bench = bench();
        for body in ["", "{}", r#"{"state":"closed"}"#, r#"{"state":"hold","x":1}"#, "[1]"] {
            let (answer, _) = ask_for(&bench, hold(&bench, Some("right")), body).await;
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        }
        let (answer, _) = ask_for(&bench, hold(&bench, Some("right")), &" ".repeat(MAX_BODY + 1)).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
}
