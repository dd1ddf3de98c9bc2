//! What the private listener answers.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Admin, Command, LeakReports, ReloadAnswer, RoomStateAnswer, guard};
use crate::config::RoomState;
use crate::domain::names::RoomName;
use crate::room::ByHand;
use crate::telemetry::metrics;
use crate::waiting_room::assets::BrokenAssets;

/// Bytes of a request's body at most.
const MAX_BODY: usize = 4 << 10;
/// Time for the whole of a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the control plane may take for a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// What may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Alive,
    Ready,
    Status,
    Reload,
    RoomState(RoomName),
    ByHand(RoomName, ByHand),
    LeakGuard,
    LeakGuardReset,
    Preview(RoomName),
}

/// Why a request is not answered as asked. The text is the answer's detail.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Guard(#[from] guard::Refusal),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("there is no room of this name")]
    UnknownRoom,
    #[error("another node leads this room's line and decides who enters: freeze the room there (leads in its status)")]
    Follows,
    #[error("this path answers {0}")]
    Method(&'static str),
    #[error("changes need 'Authorization: Bearer TOKEN' with the token in admin.token_file")]
    Token,
    #[error("too many wrong tokens: wait before the next attempt")]
    TooManyFailures(Duration),
    #[error("the body is larger than {MAX_BODY} bytes or broke off")]
    Body,
    #[error("the body took too long")]
    BodyTimeout,
    #[error("expected {{\"state\": \"hold\"}} or {{\"state\": \"open\"}}: {0}")]
    Wish(serde_json::Error),
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
            Refused::Guard(_) => StatusCode::FORBIDDEN,
            Refused::NotFound | Refused::UnknownRoom => StatusCode::NOT_FOUND,
            Refused::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Token => StatusCode::UNAUTHORIZED,
            Refused::TooManyFailures(_) => StatusCode::TOO_MANY_REQUESTS,
            Refused::Follows => StatusCode::CONFLICT,
            Refused::Body => StatusCode::BAD_REQUEST,
            Refused::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Refused::Wish(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::ShuttingDown | Refused::NoAnswer => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Metrics(_) | Refused::Assets(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Refused::Method(allowed) => Some((ALLOW, HeaderValue::from_static(allowed))),
            Refused::Token => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Refused::TooManyFailures(wait) => Some((RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))),
            _ => None,
        }
    }

    /// RFC 9457.
    fn into_answer(self) -> Answer {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({"title": title, "status": status.as_u16(), "detail": self.to_string()});
        let mut answer = plain(status, "application/problem+json", body.to_string());
        answer.headers_mut().extend(self.header());
        answer
    }
}

/// Answers one request: guard, route, method, token, and then what was asked for.
pub(super) async fn answer<B>(admin: &Admin, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    answer_or_refuse(admin, &head, body).await.unwrap_or_else(Refused::into_answer)
}

async fn answer_or_refuse<B>(admin: &Admin, head: &http::request::Parts, body: B) -> Result<Answer, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let settings = admin.settings.borrow().clone();
    guard::check(head, &settings.hosts)?;
    let route = route(head.uri.path()).ok_or(Refused::NotFound)?;
    check_method(&route, &head.method)?;
    if needs_token(&route) {
        check_token(admin, head)?;
    }
    match route {
        Route::Metrics => Ok(plain(StatusCode::OK, metrics::CONTENT_TYPE, admin.metrics.encode()?)),
        Route::Alive => Ok(json_answer(StatusCode::OK, &json!({"status": "alive"}))),
        Route::Ready => Ok(show_readiness(admin)),
        Route::Status => Ok(show_status(admin)),
        Route::Reload => reload(admin).await,
        Route::Preview(room) => preview(admin, &room, &head.uri),
        Route::RoomState(room) => set_room_state(admin, room, wanted_state(body).await?).await,
        Route::ByHand(room, wish) => by_hand(admin, room, wish).await,
        Route::LeakGuard => show_leaks(admin),
        Route::LeakGuardReset => reset_leak_guard(admin),
    }
}

fn route(path: &str) -> Option<Route> {
    match path.strip_prefix('/')?.split('/').collect::<Vec<_>>()[..] {
        ["metrics"] => Some(Route::Metrics),
        ["healthz"] => Some(Route::Alive),
        ["readyz"] => Some(Route::Ready),
        ["admin", "v1", "status"] => Some(Route::Status),
        ["admin", "v1", "reload"] => Some(Route::Reload),
        ["admin", "v1", "leak-guard"] => Some(Route::LeakGuard),
        ["admin", "v1", "leak-guard", "reset"] => Some(Route::LeakGuardReset),
        ["admin", "v1", "rooms", room, "preview"] => RoomName::new(room).ok().map(Route::Preview),
        ["admin", "v1", "rooms", room, "state"] => RoomName::new(room).ok().map(Route::RoomState),
        ["admin", "v1", "rooms", room, "freeze"] => by_hand_of(room, ByHand::Freeze),
        ["admin", "v1", "rooms", room, "thaw"] => by_hand_of(room, ByHand::Thaw),
        _ => None,
    }
}

fn by_hand_of(room: &str, wish: ByHand) -> Option<Route> {
    RoomName::new(room).ok().map(|room| Route::ByHand(room, wish))
}

fn check_method(route: &Route, method: &Method) -> Result<(), Refused> {
    let (allowed, shown): (&[Method], _) = match route {
        Route::Metrics | Route::Alive | Route::Ready | Route::Status | Route::LeakGuard | Route::Preview(_) => {
            (&[Method::GET, Method::HEAD], "GET, HEAD")
        }
        Route::Reload | Route::RoomState(_) | Route::ByHand(..) | Route::LeakGuardReset => (&[Method::POST], "POST"),
    };
    if allowed.contains(method) { Ok(()) } else { Err(Refused::Method(shown)) }
}

/// Changes need the token; reading does not, nor does a reload, which only makes the operator's own file count.
fn needs_token(route: &Route) -> bool {
    matches!(route, Route::RoomState(_) | Route::ByHand(..) | Route::LeakGuardReset)
}

fn check_token(admin: &Admin, head: &http::request::Parts) -> Result<(), Refused> {
    let presented = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if presented.is_some_and(|authorization| admin.token.is_in(authorization)) {
        return Ok(());
    }
    let mut failures = admin.failures.lock().unwrap_or_else(PoisonError::into_inner);
    failures.count(admin.clock.now().mono).map_err(Refused::TooManyFailures)?;
    tracing::warn!("a change was asked for on the private listener without the right token");
    Err(Refused::Token)
}

fn show_readiness(admin: &Admin) -> Answer {
    let reasons = admin.status.borrow().unready(admin.clock.now().mono);
    let (status, word) =
        if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    json_answer(status, &json!({"status": word, "reasons": reasons}))
}

fn show_status(admin: &Admin) -> Answer {
    let status = admin.status.borrow().clone();
    json_answer(StatusCode::OK, status.as_ref())
}

fn show_leaks(admin: &Admin) -> Result<Answer, Refused> {
    let LeakReports { leaks, snapshot } = admin.leaks.as_ref().ok_or(Refused::NotFound)?;
    let snapshot = snapshot.borrow().clone();
    let rooms = snapshot.rooms.iter().map(|room| &room.settings.name);
    let (guard, ramp) = (&snapshot.config.leak_guard, snapshot.config.portal.ramp);
    Ok(json_answer(StatusCode::OK, &leaks.report(guard, ramp, rooms, admin.clock.now())))
}

/// Lets visitors in again after the leak guard stopped them.
fn reset_leak_guard(admin: &Admin) -> Result<Answer, Refused> {
    let LeakReports { leaks, .. } = admin.leaks.as_ref().ok_or(Refused::NotFound)?;
    leaks.reset();
    tracing::info!("an operator lets visitors in again after the leak guard stopped them");
    Ok(json_answer(StatusCode::OK, &json!({"result": "reset"})))
}

/// A page with made-up figures, or the list of all of them.
fn preview(admin: &Admin, room: &RoomName, uri: &http::Uri) -> Result<Answer, Refused> {
    let query = uri.query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let previews = admin.previews.borrow().clone();
    let page = previews.page(room, value("scene"), value("lang"), uri.path())?.ok_or(Refused::NotFound)?;
    let mut answer = Response::new(Full::new(page.body));
    answer.headers_mut().extend(page.headers);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn reload(admin: &Admin) -> Result<Answer, Refused> {
    Ok(match ask(admin, Command::Reload).await? {
        ReloadAnswer::Applied => json_answer(StatusCode::OK, &json!({"result": "applied"})),
        ReloadAnswer::Unchanged => json_answer(StatusCode::OK, &json!({"result": "unchanged"})),
        ReloadAnswer::Refused(faults) => {
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"result": "refused", "faults": faults}))
        }
        ReloadAnswer::NeedsRestart(keys) => {
            json_answer(StatusCode::CONFLICT, &json!({"result": "needs_restart", "keys": keys}))
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomStateWish {
    state: WantedState,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WantedState {
    Open,
    Hold,
}

async fn wanted_state<B>(body: B) -> Result<RoomState, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| Refused::BodyTimeout)?
        .map_err(|_| Refused::Body)?
        .to_bytes();
    let wish: RoomStateWish = serde_json::from_slice(&body).map_err(Refused::Wish)?;
    Ok(match wish.state {
        WantedState::Open => RoomState::Open,
        WantedState::Hold => RoomState::Hold,
    })
}

async fn set_room_state(admin: &Admin, room: RoomName, state: RoomState) -> Result<Answer, Refused> {
    let name = room.clone();
    match ask(admin, |answer| Command::SetRoomState { room, state, answer }).await? {
        RoomStateAnswer::Applied => {
            let state = metrics::room_state_text(state);
            tracing::info!(room = %name, state, "an operator changed the state of a room");
            Ok(json_answer(StatusCode::OK, &json!({"room": name.as_str(), "state": state})))
        }
        RoomStateAnswer::UnknownRoom => Err(Refused::UnknownRoom),
        RoomStateAnswer::Follows => Err(Refused::Follows),
    }
}

/// The portal is not well, whatever it answers: nobody new, and the clocks of those inside stand still; or that is over.
async fn by_hand(admin: &Admin, room: RoomName, wish: ByHand) -> Result<Answer, Refused> {
    let name = room.clone();
    match ask(admin, |answer| Command::ByHand { room, wish, answer }).await? {
        RoomStateAnswer::Applied => {
            tracing::info!(room = %name, ?wish, "an operator froze a room, or thawed it");
            Ok(json_answer(StatusCode::OK, &json!({"room": name.as_str(), "frozen": wish == ByHand::Freeze})))
        }
        RoomStateAnswer::UnknownRoom => Err(Refused::UnknownRoom),
        RoomStateAnswer::Follows => Err(Refused::Follows),
    }
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
    let mut answer = Response::new(Full::new(Bytes::from(text)));
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
    use super::super::{AdminToken, ReloadFault, Stage, Status};
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config;
    use crate::domain::time::Unix;
    use crate::telemetry::metrics::Metrics;
    use crate::waiting_room::preview::tests::previews;

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
        let token = AdminToken::load_or_create(&token_file).unwrap();
        let written = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
        let settings = config::Admin {
            listen: config::AdminListen::Unix("unused".into()),
            hosts: vec!["ops.example".into()],
            token_file,
        };
        let (command_sender, commands) = mpsc::channel(1);
        let (status, status_receiver) = watch::channel(Arc::new(status(Stage::Serving)));
        let clock = ManualClock::starting_at(Unix(0));
        let admin = Admin::new(
            watch::channel(Arc::new(settings)).1,
            token,
            Arc::new(Metrics::new().unwrap()),
            status_receiver,
            watch::channel(Arc::new(previews())).1,
            command_sender,
            Clock::Manual(clock.clone()),
        );
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

    #[tokio::test]
    async fn a_room_is_held_by_whoever_has_the_token() {
        let mut bench = bench();
        let request = hold(&bench, Some("right"));
        let (code, body) = with_reply(&mut bench, request, r#"{"state":"hold"}"#, |command| match command {
            Command::SetRoomState { room, state, answer } => {
                assert_eq!((room.as_str(), state), ("bonus-600", RoomState::Hold));
                answer.send(RoomStateAnswer::Applied).unwrap();
            }
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!((code, body), (StatusCode::OK, json!({"room": "bonus-600", "state": "hold"})));

        let request = hold(&bench, Some("right"));
        let (code, _) = with_reply(&mut bench, request, r#"{"state":"open"}"#, |command| match command {
            Command::SetRoomState { answer, .. } => answer.send(RoomStateAnswer::UnknownRoom).unwrap(),
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!(code, StatusCode::NOT_FOUND);
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
