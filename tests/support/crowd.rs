//! A crowd of simple visitors over connections of their own, and a portal that writes down when whose first request
//! came. Visitors keep their tokens in headers, as apps do, and stay until they are inside.
#![allow(clippy::disallowed_methods, reason = "real time is measured here")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOKENS: [&str; 3] = ["waiting-room-ticket", "waiting-room-turn", "waiting-room-pass"];
/// Set in the number of a ticket that has none yet.
pub const PROVISIONAL: u64 = 1 << 63;
/// How often somebody inside asks for a page.
const READS: Duration = Duration::from_millis(700);

/// An address that was free a moment ago, for a program that shall come back to it.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A portal that answers everything and remembers who came first when.
pub struct Portal {
    /// Where it listens.
    pub address: SocketAddr,
    entries: Arc<Mutex<Vec<(u64, Instant)>>>,
    serving: JoinHandle<()>,
}

impl Portal {
    /// Starts it.
    pub async fn start() -> Portal {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let entries = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, entries.clone()));
        Portal { address, entries, serving }
    }

    /// The first request of each visitor.
    pub fn entries(&self) -> Vec<(u64, Instant)> {
        self.entries.lock().unwrap().clone()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, entries: Arc<Mutex<Vec<(u64, Instant)>>>) {
    let known = Arc::new(Mutex::new(std::collections::HashSet::new()));
    while let Ok((stream, _)) = listener.accept().await {
        let (entries, known) = (entries.clone(), known.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let at = Instant::now();
                let visitor = request.uri().query().and_then(|query| query.strip_prefix("v=")?.parse::<u64>().ok());
                if let Some(visitor) = visitor.filter(|visitor| known.lock().unwrap().insert(*visitor)) {
                    entries.lock().unwrap().push((visitor, at));
                }
                async { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"inside")))) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// One client with one connection, which it opens again when it breaks, and the tokens it was given.
pub struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
    tokens: HashMap<&'static str, String>,
}

/// What became of a request that got no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Broken {
    /// There was no connection to send it on.
    NotSent,
    /// It was sent, and no whole answer came.
    Sent(String),
}

impl Client {
    /// A client of this server.
    pub fn to(address: SocketAddr) -> Client {
        Client { address, connection: None, tokens: HashMap::new() }
    }

    /// Somebody who shows a copy of this ticket there.
    pub fn with_ticket(address: SocketAddr, ticket: &str) -> Client {
        Client { tokens: HashMap::from([("waiting-room-ticket", ticket.to_owned())]), ..Client::to(address) }
    }

    /// The same visitor at another server.
    pub fn at(self, address: SocketAddr) -> Client {
        Client { address, connection: None, ..self }
    }

    /// Becomes somebody new.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// What is said in the token of this kind.
    pub fn token(&self, name: &str) -> Option<&String> {
        self.tokens.get(name)
    }

    /// The number of the ticket (see the contract's token layout).
    pub fn number(&self) -> Option<u64> {
        let bytes = URL_SAFE_NO_PAD.decode(self.tokens.get("waiting-room-ticket")?).ok()?;
        Some(u64::from_be_bytes(bytes.get(22..30)?.try_into().ok()?))
    }

    /// Asks as an app does.
    pub async fn get(&mut self, target: &str) -> Result<Answer, Broken> {
        self.ask("GET", target, &[("accept", "application/json")]).await
    }

    /// Asks as an app does, and reads JSON.
    pub async fn get_json(&mut self, target: &str) -> Value {
        self.get(target).await.unwrap().json()
    }

    /// Posts as an app does.
    pub async fn post(&mut self, target: &str) -> Result<Answer, Broken> {
        self.ask("POST", target, &[("accept", "application/json")]).await
    }

    /// Posts these words as a script does.
    pub async fn post_json(&mut self, target: &str, words: &Value) -> Result<Answer, Broken> {
        let headers = [("accept", "application/json"), ("content-type", "application/json")];
        self.ask_with("POST", target, &headers, Bytes::from(words.to_string())).await
    }

    /// Navigates as a browser does.
    pub async fn as_browser(&mut self, method: &str, target: &str) -> Result<Answer, Broken> {
        self.forget_tokens();
        let headers = [
            ("accept", "text/html"),
            ("accept-language", "en"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.ask(method, target, &headers).await
    }

    async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Answer, Broken> {
        self.ask_with(method, target, headers, Bytes::new()).await
    }

    async fn ask_with(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let mut request = Request::builder().method(method).uri(target).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, token) in &self.tokens {
            request = request.header(*name, token);
        }
        let request = request.body(Full::new(body)).unwrap();
        let connection = self.connected().await?;
        let answer = connection.send_request(request).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.connection = None;
                return Err(if error.is_canceled() { Broken::NotSent } else { Broken::Sent(format!("{error:?}")) });
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| Broken::Sent(format!("{error:?}")))?.to_bytes();
        for name in TOKENS {
            if let Some(token) = head.headers.get(name) {
                self.tokens.insert(name, token.to_str().unwrap().to_owned());
            }
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Broken> {
        let alive = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            let stream = TcpStream::connect(self.address).await.map_err(|_| Broken::NotSent)?;
            let _ = stream.set_nodelay(true);
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (connection, driver) = handshake.map_err(|_| Broken::NotSent)?;
            tokio::spawn(driver);
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(Broken::NotSent)
    }
}

/// What a crowd saw.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The number of each visitor who has one.
    pub numbers: HashMap<u64, u64>,
    /// When each visitor was inside for the first time.
    pub inside_since: HashMap<u64, Instant>,
    /// How many are inside.
    pub inside: usize,
    /// Requests with a pass that were answered by the portal.
    pub uses: u64,
    /// Requests that got a whole answer.
    pub answered: u64,
    /// Requests that were sent and got no whole answer.
    pub broken: u64,
    /// How some of them ended.
    pub breaks: Vec<String>,
    /// What must not be.
    pub faults: Vec<String>,
    waiting: usize,
    /// What those who wait were told last, by visitor.
    told: HashMap<u64, String>,
}

impl Findings {
    /// What some of those who still wait were told last.
    fn told_last(&self) -> Vec<String> {
        let waits = self.told.iter().filter(|(visitor, _)| !self.inside_since.contains_key(visitor));
        waits.take(20).map(|(visitor, told)| format!("{visitor}: {told}")).collect()
    }
}

/// Many visitors.
#[derive(Clone)]
pub struct Crowd {
    address: SocketAddr,
    reads: Option<u32>,
    findings: Arc<Mutex<Findings>>,
    mood: watch::Sender<Mood>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Eager,
    /// A server that says that it closes the connection, or that is gone, is left alone.
    Considerate,
}

impl Crowd {
    /// Nobody has come yet.
    pub fn new(address: SocketAddr) -> Crowd {
        Crowd { address, reads: None, findings: Arc::default(), mood: watch::Sender::new(Mood::Eager) }
    }

    /// Whoever is inside goes after so many pages, so that the crowd does not grow with the time.
    pub fn who_leave_after(self, reads: u32) -> Crowd {
        Crowd { reads: Some(reads), ..self }
    }

    /// Visitors arrive, so many a second, until the task is ended.
    pub fn arrive(self, per_second: f64) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
            for visitor in 0.. {
                clock.tick().await;
                if *self.mood.borrow() == Mood::Eager {
                    tokio::spawn(Visitor { id: visitor, client: Client::to(self.address), crowd: self.clone() }.live());
                }
            }
        })
    }

    /// What was seen so far.
    pub fn findings(&self) -> Findings {
        self.findings.lock().unwrap().clone()
    }

    /// How many were inside `ago` already.
    pub fn inside_since(&self, ago: Duration) -> u64 {
        let since = self.findings.lock().unwrap();
        since.inside_since.values().filter(|at| at.elapsed() >= ago).count() as u64
    }

    /// Waits until everybody who joined is inside.
    pub async fn settle(&self, most: Duration) {
        let begun = Instant::now();
        while self.findings().waiting > 0 {
            let findings = self.findings();
            let left = findings.waiting;
            assert!(begun.elapsed() < most, "{left} still wait: {:?}; {:?}", findings.told_last(), findings.faults);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// From now on nobody sends a request to a server that closes the connection.
    pub fn stop_asking_when_told(&self) {
        self.mood.send_replace(Mood::Considerate);
    }

    /// Everybody goes on.
    pub fn go_on(&self) {
        self.mood.send_replace(Mood::Eager);
    }

    fn note(&self, what: impl FnOnce(&mut Findings)) {
        what(&mut self.findings.lock().unwrap());
    }
}

struct Visitor {
    id: u64,
    client: Client,
    crowd: Crowd,
}

impl Visitor {
    async fn live(mut self) {
        self.crowd.note(|findings| findings.waiting += 1);
        self.join().await;
        self.wait_and_enter().await;
        let (id, now) = (self.id, Instant::now());
        self.crowd.note(|findings| {
            findings.waiting -= 1;
            findings.inside += 1;
            findings.inside_since.insert(id, now);
        });
        self.use_the_pass().await;
    }

    async fn join(&mut self) {
        let target = format!("/.waiting-room/join?room=r&join_id={}", self.id);
        loop {
            let answer = self.ask("POST", &target).await;
            if answer.status == 200 && self.client.number().is_some() {
                break;
            }
            if answer.status != 503 {
                self.fault(&format!("join: {} {}", answer.status, answer.text()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.note_number();
    }

    /// Who joined while the store was away gets the number later.
    fn note_number(&self) {
        if let Some(number) = self.client.number().filter(|number| number & PROVISIONAL == 0) {
            self.crowd.note(|findings| {
                findings.numbers.insert(self.id, number);
            });
        }
    }

    async fn wait_and_enter(&mut self) {
        loop {
            let answer = self.ask("POST", "/.waiting-room/status?room=r").await;
            self.note_number();
            let queue = answer.json()["queue"].clone();
            let state = queue["state"].as_str().unwrap_or_default().to_owned();
            let (id, number) = (self.id, self.client.number());
            let told = format!("{number:?} {state}, {} before, {}", queue["ahead"], queue["refresh_seconds"]);
            self.crowd.note(|findings| drop(findings.told.insert(id, told)));
            match (answer.status, state.as_str()) {
                (200, "your_turn" | "inside") => {
                    if self.enter().await {
                        return;
                    }
                }
                (200, "waiting") => {
                    let seconds = queue["refresh_seconds"].as_u64().unwrap_or(1);
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                (status, _) => {
                    self.fault(&format!("status: {status} {queue}"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn enter(&mut self) -> bool {
        let target = format!("/r/?v={}", self.id);
        let answer = self.ask("GET", &target).await;
        if answer.status == 200 && self.client.token("waiting-room-pass").is_some() {
            return true;
        }
        if answer.status != 503 {
            self.fault(&format!("enter: {} {}", answer.status, answer.text()));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        false
    }

    async fn use_the_pass(&mut self) {
        let target = format!("/r/?v={}", self.id);
        for _ in 0..self.crowd.reads.unwrap_or(u32::MAX) {
            tokio::time::sleep(READS).await;
            let answer = self.ask("GET", &target).await;
            if answer.status == 200 && answer.text() == "inside" {
                self.crowd.note(|findings| findings.uses += 1);
            } else {
                self.fault(&format!("inside: {} {}", answer.status, answer.text()));
            }
        }
        self.crowd.note(|findings| {
            findings.inside -= 1;
            findings.inside_since.remove(&self.id);
        });
    }

    /// Asks until there is an answer: a visitor whose connection broke tries again.
    async fn ask(&mut self, method: &str, target: &str) -> Answer {
        loop {
            let asked = self.client.ask(method, target, &[("accept", "application/json")]).await;
            match asked {
                Ok(answer) => {
                    self.crowd.note(|findings| findings.answered += 1);
                    if answer.status >= 500 && !answer.header("content-type").is_some_and(|kind| kind.contains("json"))
                    {
                        self.fault(&format!("{target}: {} by somebody in between", answer.status));
                    }
                    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                        self.client.connection = None;
                        self.pause_if_considerate().await;
                    }
                    return answer;
                }
                Err(broken) => {
                    if let Broken::Sent(how) = broken {
                        self.crowd.note(|findings| {
                            findings.broken += 1;
                            findings.breaks.push(format!("{target}: {how}"));
                        });
                    }
                    self.pause_if_considerate().await;
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
            }
        }
    }

    async fn pause_if_considerate(&self) {
        let _ = self.crowd.mood.subscribe().wait_for(|mood| *mood == Mood::Eager).await;
    }

    fn fault(&self, what: &str) {
        let what = format!("visitor {} (number {:?}) {what}", self.id, self.client.number());
        self.crowd.note(|findings| findings.faults.push(what));
    }
}

/// Asserts that no two visitors have one number.
pub fn no_number_twice(numbers: &HashMap<u64, u64>) {
    let mut drawn: Vec<u64> = numbers.values().copied().collect();
    drawn.sort_unstable();
    let twice: Vec<_> = drawn.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "drawn twice: {twice:?}");
}

/// The largest excess over `rate x (T + tick) + burst` over all intervals T.
pub fn worst_excess(entries: &[(u64, Instant)], rate: f64) -> f64 {
    let Some((_, first)) = entries.first() else { return f64::MIN };
    let slack = rate * 0.1 + (1.0 + rate * 0.1).max(rate * 0.25);
    let mut lowest = f64::MAX;
    let mut worst = f64::MIN;
    for (before, (_, at)) in entries.iter().enumerate() {
        let allowed = at.duration_since(*first).as_secs_f64() * rate;
        lowest = lowest.min(before as f64 - allowed);
        worst = worst.max(before as f64 + 1.0 - allowed - lowest - slack);
    }
    worst
}

/// Asserts that those who all stayed entered in the order of their numbers, but for `moments`.
pub fn overtaken_by_nobody(numbers: &HashMap<u64, u64>, entries: &[(u64, Instant)], moments: Duration) {
    let entered: Vec<(u64, Instant)> =
        entries.iter().filter_map(|(visitor, at)| Some((*numbers.get(visitor)?, *at))).collect();
    let mut by_number = entered;
    by_number.sort_unstable_by_key(|(number, _)| *number);
    let mut earliest_later: Option<(u64, Instant)> = None;
    for (number, at) in by_number.iter().rev() {
        if let Some((later, entered)) = earliest_later {
            let ahead = at.saturating_duration_since(entered);
            assert!(ahead < moments, "{later} entered {ahead:.1?} before {number}");
        }
        if earliest_later.is_none_or(|(_, earliest)| *at < earliest) {
            earliest_later = Some((*number, *at));
        }
    }
}
