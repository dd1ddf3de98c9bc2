//! A fake waiting room: just enough of the contract to try the load tester on, and faults that it must find.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use loadtest::clock::{Clock, Moment};
use loadtest::connection_pool::ConnectionPool;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// What the fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every fifth ticket is called two seconds late, and polls are held.
    Overtakes,
    /// The same, and polls are not held.
    OvertakesWithoutHolding,
    /// Everybody called enters at once, and calls come in batches of 60.
    Bursts,
    /// Every number is given to two visitors.
    NumbersTwice,
    /// The shown `ahead` wavers.
    AheadGrows,
    /// Every tenth ticket is not known any more after joining.
    Forgets,
    /// Not a fault: a place has to be worked for.
    AsksForWork,
}

pub struct FakeRoom {
    clock: Clock,
    rate: f64,
    fault: Fault,
    portal: Rc<ConnectionPool>,
    line: RefCell<Line>,
}

#[derive(Default)]
struct Line {
    issued: u64,
    began: Option<Moment>,
    next_entry: Moment,
    polls: u64,
    asked: u64,
    challenges: HashSet<String>,
}

const HOLD: Duration = Duration::from_millis(1500);

impl FakeRoom {
    /// Opens a room of `rate` per second before `portal`, within a `LocalSet`.
    pub async fn open(rate: f64, fault: Fault, portal: SocketAddr, clock: Clock) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let portal = ConnectionPool::new(portal, 1000);
        let room = Rc::new(FakeRoom { clock, rate, fault, portal, line: RefCell::default() });
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let room = Rc::clone(&room);
                let service = service_fn(move |request| {
                    let room = Rc::clone(&room);
                    async move { Ok::<_, Infallible>(room.answer(request).await) }
                });
                tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/.waiting-room/join" => self.join(request).await,
            "/.waiting-room/status" => self.status(&request).await,
            _ => self.page(request).await,
        }
    }

    async fn join(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(number) = number(request.headers(), "ticket") {
            return self.queue(number);
        }
        let wish = request.into_body().collect().await.unwrap().to_bytes();
        let wish: Value = serde_json::from_slice(&wish).unwrap();
        if self.fault == Fault::AsksForWork && !self.was_worked_for(&wish) {
            return self.challenge();
        }
        let number = {
            let mut line = self.line.borrow_mut();
            line.began.get_or_insert(self.clock.now());
            line.issued += 1;
            let place = line.issued - 1;
            if self.fault == Fault::NumbersTwice { place / 2 * 2 } else { place }
        };
        let mut answer = self.queue(number);
        set_cookie(&mut answer, "ticket", number);
        answer
    }

    /// Sixteen zero bits, for a challenge of ours, once.
    fn was_worked_for(&self, wish: &Value) -> bool {
        let (Some(text), Some(ending)) = (wish["challenge"].as_str(), wish["ending"].as_str()) else { return false };
        let hash = Sha256::digest(format!("{text}{ending}"));
        hash.starts_with(&[0, 0]) && self.line.borrow_mut().challenges.remove(text)
    }

    fn challenge(&self) -> Response<Full<Bytes>> {
        let mut line = self.line.borrow_mut();
        line.asked += 1;
        let text = format!("{:048}", line.asked);
        line.challenges.insert(text.clone());
        let queue = json!({ "state": "none", "refresh_seconds": 20 });
        let body = json!({ "status": 429, "queue": queue, "challenge": { "text": text, "bits": 16 } });
        let mut response = Response::new(Full::new(body.to_string().into()));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(CONTENT_TYPE, "application/problem+json".parse().unwrap());
        response
    }

    async fn status(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(number) = number(request.headers(), "ticket") else { return json_answer("none", 0) };
        if self.fault == Fault::Forgets && number % 10 == 0 {
            return json_answer("none", 0);
        }
        let until = self.clock.now() + HOLD;
        let holds = self.fault != Fault::OvertakesWithoutHolding;
        while holds && !self.is_called(number) && self.ahead(number) < 20 && self.clock.now() < until {
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(10)).await;
        }
        self.queue(number)
    }

    fn queue(&self, number: u64) -> Response<Full<Bytes>> {
        self.line.borrow_mut().polls += 1;
        if self.is_called(number) {
            let mut answer = json_answer("your_turn", 0);
            set_cookie(&mut answer, "turn", number);
            return answer;
        }
        let wavering = if self.fault == Fault::AheadGrows { self.line.borrow().polls % 2 * 50 } else { 0 };
        json_answer("waiting", self.ahead(number) + wavering)
    }

    async fn page(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let inside = number(request.headers(), "pass").is_some();
        let called = number(request.headers(), "ticket").filter(|number| self.is_called(*number));
        match called {
            _ if inside => self.forward(request).await,
            Some(number) => {
                self.admission().await;
                let mut answer = self.forward(request).await;
                set_cookie(&mut answer, "pass", number);
                answer
            }
            None => html(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Waits for the next admission of an evenly spaced stream.
    async fn admission(&self) {
        if self.fault == Fault::Bursts {
            return;
        }
        let at = {
            let mut line = self.line.borrow_mut();
            let at = line.next_entry.max(self.clock.now());
            line.next_entry = at + Duration::from_secs_f64(1.0 / self.rate);
            at
        };
        self.clock.sleep_until(at).await;
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let forwarded = Request::from_parts(head, body.collect().await.unwrap().to_bytes());
        match self.portal.send(&forwarded).await {
            Ok(received) => {
                let mut response = Response::new(Full::new(received.body));
                *response.status_mut() = received.status;
                *response.headers_mut() = received.headers;
                response.headers_mut().remove(http::header::CONTENT_LENGTH);
                response
            }
            Err(_) => html(StatusCode::BAD_GATEWAY),
        }
    }

    fn ahead(&self, number: u64) -> u64 {
        number.saturating_sub(self.calls())
    }

    fn calls(&self) -> u64 {
        let Some(began) = self.line.borrow().began else { return 0 };
        let calls = (self.clock.now().since(began).as_secs_f64() * self.rate) as u64;
        if self.fault == Fault::Bursts { calls / 60 * 60 } else { calls }
    }

    fn is_called(&self, number: u64) -> bool {
        let overtakes = matches!(self.fault, Fault::Overtakes | Fault::OvertakesWithoutHolding);
        let late = if overtakes && number % 5 == 4 { (self.rate * 2.0) as u64 } else { 0 };
        number + late < self.calls()
    }
}

fn json_answer(state: &str, ahead: u64) -> Response<Full<Bytes>> {
    let ahead = (state == "waiting").then_some(ahead);
    let body = json!({ "queue": { "state": state, "ahead": ahead, "refresh_seconds": 0.3, "reason": null } });
    let mut response = Response::new(Full::new(body.to_string().into()));
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

fn html(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"<p>Please wait.")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "text/html".parse().unwrap());
    response
}

/// A token of the contract's layout, with nothing in it but the number.
fn token(number: u64) -> String {
    let mut bytes = [0_u8; 78];
    bytes[22..30].copy_from_slice(&number.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set_cookie(response: &mut Response<Full<Bytes>>, kind: &str, number: u64) {
    let line = format!("anticamera-{kind}-fake={}; Path=/; HttpOnly; SameSite=Lax", token(number));
    response.headers_mut().append(SET_COOKIE, line.parse().unwrap());
}

fn number(headers: &HeaderMap, kind: &str) -> Option<u64> {
    let prefix = format!("anticamera-{kind}-fake=");
    let cookies = headers.get(COOKIE)?.to_str().unwrap();
    let token = cookies.split("; ").find_map(|pair| pair.strip_prefix(prefix.as_str()))?;
    Some(loadtest::ticket::place(token).unwrap().number)
}
