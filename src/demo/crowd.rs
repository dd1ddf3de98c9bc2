//! The demonstration's crowd: visitors who come, wait, enter, look around and leave, for ever. They are small browsers
//! that know nothing but what comes over the wire.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::ROOM;

/// How many come when the doors open ...
const FIRST_ARRIVALS: u32 = 30;
/// ... how close together ...
const RUSH: Duration = Duration::from_millis(60);
/// ... and then: two and a half a second, a little more than can enter.
const ARRIVAL_EVERY: Duration = Duration::from_millis(400);
/// Whoever sees more people than this ahead goes home, or a few more: people differ. That keeps the line short.
const PATIENCE: u64 = 40;
/// Visitors at the same time at most, whatever happens.
const MOST: usize = 200;
/// The longest a question may take; the waiting room holds some answers for 20 s.
const TIMEOUT: Duration = Duration::from_secs(30);

const WANTED: &str = "/bonus/";

/// Sends visitors to the entrance until the task is dropped; they go with it.
pub(super) async fn gather(entrance: SocketAddr) {
    let mut visitors = JoinSet::new();
    for number in 0_u32.. {
        if visitors.len() < MOST {
            // A visitor whose connection fails gives up; others come.
            visitors.spawn(async move { drop(Visitor::new(number, entrance).visit().await) });
        }
        while visitors.try_join_next().is_some() {}
        tokio::time::sleep(if number < FIRST_ARRIVALS { RUSH } else { ARRIVAL_EVERY }).await;
    }
}

/// Why a visit was broken off.
#[derive(Debug, thiserror::Error)]
enum GaveUp {
    #[error("no connection: {0}")]
    Connection(#[from] std::io::Error),
    #[error("no answer: {0}")]
    Answer(#[from] hyper::Error),
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    #[error("not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("it took too long")]
    TooSlow(#[from] tokio::time::error::Elapsed),
}

/// What the waiting room says of a visitor's place, as far as a visitor needs it.
#[derive(Debug, Deserialize)]
struct Queue {
    state: String,
    ahead: Option<u64>,
    ahead_at_gate: Option<u64>,
    reason: Option<Reason>,
    refresh_seconds: u64,
}

#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
}

#[derive(Debug, Deserialize)]
struct QueueDocument {
    queue: Queue,
}

impl Queue {
    /// As on the waiting page: not while others go first, nor while nobody enters.
    fn may_enter(&self) -> bool {
        let stands_still = self.reason.as_ref().is_some_and(|reason| reason.code != "ramping_up");
        match self.state.as_str() {
            "inside" => true,
            "your_turn" => self.ahead_at_gate.unwrap_or(0) == 0 && !stands_still,
            _ => false,
        }
    }

    fn has_place(&self) -> bool {
        matches!(self.state.as_str(), "waiting" | "held" | "your_turn" | "inside")
    }
}

/// One visitor with a browser of their own.
struct Visitor {
    number: u32,
    browser: Browser,
}

impl Visitor {
    fn new(number: u32, entrance: SocketAddr) -> Visitor {
        Visitor { number, browser: Browser { entrance, cookies: Vec::new() } }
    }

    /// Arrives, waits if need be, walks through the application and leaves.
    async fn visit(mut self) -> Result<(), GaveUp> {
        while self.browser.open(WANTED).await? == StatusCode::SERVICE_UNAVAILABLE {
            if !self.wait_for_turn().await? {
                return Ok(());
            }
        }
        self.pause(3, 7).await;
        self.browser.send_form("/bonus/summary", "name=Una+persona&household=3").await?;
        self.pause(2, 4).await;
        self.browser.open("/bonus/done").await?;
        self.pause(1, 3).await;
        self.browser.open("/bonus/leave").await?;
        Ok(())
    }

    /// Joins the line and asks as often as told. False when the visitor goes home instead.
    async fn wait_for_turn(&mut self) -> Result<bool, GaveUp> {
        let mut queue = self.browser.ask("join", "{}").await?;
        while !queue.may_enter() {
            if !queue.has_place() {
                return Ok(false);
            }
            if queue.ahead.is_some_and(|ahead| ahead > self.patience()) {
                self.browser.ask("leave", "{}").await?;
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_secs(queue.refresh_seconds)).await;
            let shown = queue.ahead.map_or("{}".to_owned(), |ahead| format!(r#"{{"shown_ahead":{ahead}}}"#));
            queue = self.browser.ask("status", &shown).await?;
        }
        Ok(true)
    }

    fn patience(&self) -> u64 {
        PATIENCE + u64::from(self.number % 15)
    }

    /// Reads for a while, everybody at their own pace.
    async fn pause(&self, least: u32, most: u32) {
        let seconds = least + self.number % (most - least + 1);
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

/// Just enough of a browser: one request at a time, and cookies.
struct Browser {
    entrance: SocketAddr,
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn open(&mut self, path: &str) -> Result<StatusCode, GaveUp> {
        let request = Request::get(path).header(ACCEPT, "text/html");
        Ok(self.exchange(request, String::new()).await?.0)
    }

    async fn send_form(&mut self, path: &str, form: &str) -> Result<StatusCode, GaveUp> {
        let request =
            Request::post(path).header(ACCEPT, "text/html").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        Ok(self.exchange(request, form.to_owned()).await?.0)
    }

    /// What the waiting page's script does.
    async fn ask(&mut self, what: &str, json: &str) -> Result<Queue, GaveUp> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/.waiting-room/{what}?room={ROOM}"))
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-dest", "empty")
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        let (_, answer) = self.exchange(request, json.to_owned()).await?;
        Ok(serde_json::from_slice::<QueueDocument>(&answer)?.queue)
    }

    async fn exchange(&mut self, request: http::request::Builder, body: String) -> Result<(StatusCode, Bytes), GaveUp> {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request
            .header(HOST, self.entrance.to_string())
            .header(COOKIE, cookies.join("; "))
            .body(Full::new(Bytes::from(body)))?;
        let (parts, body) = tokio::time::timeout(TIMEOUT, exchange(self.entrance, request)).await??;
        for line in parts.headers.get_all(SET_COOKIE) {
            self.keep(line.to_str().unwrap_or_default());
        }
        Ok((parts.status, body))
    }

    /// Keeps a cookie; one without a value was taken away.
    fn keep(&mut self, line: &str) {
        let Some((name, value)) = line.split(';').next().and_then(|pair| pair.split_once('=')) else { return };
        self.cookies.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

async fn exchange(
    entrance: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(http::response::Parts, Bytes), GaveUp> {
    let stream = TcpStream::connect(entrance).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the sender is gone.
    tokio::spawn(async move { drop(connection.await) });
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok((parts, body.collect().await?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(state: &str, ahead_at_gate: Option<u64>, reason: Option<&str>) -> Queue {
        let reason = reason.map(|code| Reason { code: code.to_owned() });
        Queue { state: state.to_owned(), ahead: None, ahead_at_gate, reason, refresh_seconds: 2 }
    }

    #[test]
    fn visitors_enter_when_the_waiting_page_would() {
        assert!(queue("your_turn", None, None).may_enter());
        assert!(queue("your_turn", Some(0), Some("ramping_up")).may_enter());
        assert!(!queue("your_turn", Some(1), None).may_enter());
        assert!(!queue("your_turn", None, Some("operator_hold")).may_enter());
        assert!(!queue("waiting", None, None).may_enter());
    }

    #[test]
    fn cookies_are_replaced_and_taken_away() {
        let mut browser = Browser { entrance: SocketAddr::from(([127, 0, 0, 1], 1)), cookies: Vec::new() };
        browser.keep("ticket=a; Path=/; HttpOnly");
        browser.keep("ticket=b; Path=/");
        assert_eq!(browser.cookies, [("ticket".to_owned(), "b".to_owned())]);
        browser.keep("ticket=; Max-Age=0");
        assert!(browser.cookies.is_empty());
    }
}
