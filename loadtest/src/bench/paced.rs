//! Latency at a given load: requests at an even pace, each sent when it is due, whatever was answered before.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderValue, Method, Request, Uri};

use super::joined::STATUS;
use crate::clock::Clock;
use crate::connection_pool::ConnectionPool;
use crate::measures::{Durations, Figures};
use crate::{Context, Failure, Outcome};

/// Connections at most.
const CONNECTIONS: usize = 256;

/// How long is sent before it counts: connections are opened then, which is another figure.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is asked for, and how often.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// The server.
    pub(super) address: SocketAddr,
    /// What is asked for, one after the other.
    pub(super) requests: Rc<[Request<Bytes>]>,
    /// Requests a second.
    pub(super) per_second: f64,
}

/// Latencies on open connections, from the instant a request was due, at an even pace for `span`.
///
/// # Errors
/// When an answer is missing or an error.
pub(super) async fn latencies(pace: &Pace, span: Duration) -> Outcome<Figures> {
    latencies_of(std::slice::from_ref(pace), span).await
}

/// The same, asked of several at once.
///
/// # Errors
/// When an answer is missing or an error.
pub(super) async fn latencies_of(paces: &[Pace], span: Duration) -> Outcome<Figures> {
    let all = async {
        let tasks: Vec<_> = paces.iter().map(|pace| tokio::task::spawn_local(send_all(pace.clone(), span))).collect();
        let mut all = Durations::default();
        for task in tasks {
            all.add_all(&task.await.context(|| "requests")??);
        }
        Ok(all.figures())
    };
    tokio::task::LocalSet::new().run_until(all).await
}

async fn send_all(pace: Pace, span: Duration) -> Outcome<Durations> {
    let clock = Clock::new();
    let pool = ConnectionPool::new(pace.address, CONNECTIONS);
    let requests_in = |span: Duration| (pace.per_second * span.as_secs_f64()) as u32;
    let (first, count) = (requests_in(WARM_UP), requests_in(WARM_UP + span));
    let begin = clock.now();
    let mut tasks = Vec::with_capacity(count as usize);
    let numbers = (0..pace.requests.len()).cycle();
    for (n, number) in (0..count).zip(numbers) {
        let due = begin + Duration::from_secs_f64(f64::from(n) / pace.per_second);
        if due > clock.now() {
            clock.sleep_until(due).await;
        }
        let (pool, requests) = (Rc::clone(&pool), Rc::clone(&pace.requests));
        tasks.push(tokio::task::spawn_local(async move {
            let request = requests.get(number).ok_or_else(|| Failure::new("no request"))?;
            let received = pool.send(request).await.context(|| "a request")?;
            let latency = clock.now().since(due);
            if received.status.is_success() { Ok(latency) } else { Err(Failure::new(received.status.to_string())) }
        }));
    }
    let mut all = Durations::default();
    for (number, task) in (0..).zip(tasks) {
        let latency = task.await.context(|| "a request")??;
        if number >= first {
            all.add(latency);
        }
    }
    Ok(all)
}

/// A page for a visitor with this `Cookie` header.
///
/// # Errors
/// When that is none.
pub(super) fn page(address: SocketAddr, path: &'static str, cookie: &str) -> Outcome<Request<Bytes>> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(HOST, address.to_string().parse().context(|| "address")?);
    headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
    headers.insert(COOKIE, cookie.parse().context(|| "cookie")?);
    Ok(request)
}

/// A poll of the visitor with this `Cookie` header.
///
/// # Errors
/// When that is none.
pub(super) fn poll(address: SocketAddr, cookie: &str) -> Outcome<Request<Bytes>> {
    let mut request = page(address, STATUS, cookie)?;
    *request.method_mut() = Method::POST;
    *request.body_mut() = Bytes::from_static(b"{\"shown_ahead\":100000000}");
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
    headers.insert("sec-fetch-mode", HeaderValue::from_static("cors"));
    headers.insert("sec-fetch-dest", HeaderValue::from_static("empty"));
    Ok(request)
}
