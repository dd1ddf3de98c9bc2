//! Talks to the stand-in portal: gives it orders, compares clocks, fetches what reached it.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Uri};
use serde::Deserialize;

use crate::clock::{Clock, Moment};
use crate::connection_pool::ConnectionPool;
use crate::portal::{Order, Reached};
use crate::{Context, Failure, Outcome};

/// Clock comparisons; the one with the shortest round trip counts.
const COMPARISONS: usize = 16;

/// A portal that is being controlled.
#[derive(Clone, Debug)]
pub struct PortalControl {
    pool: Rc<ConnectionPool>,
    authority: String,
}

#[derive(Deserialize)]
struct ClockAnswer {
    now_us: Moment,
}

impl PortalControl {
    /// The portal whose control listener (or, if it never refuses, own listener) is at `address`.
    pub fn new(address: SocketAddr) -> PortalControl {
        PortalControl { pool: ConnectionPool::new(address, 4), authority: address.to_string() }
    }

    /// Makes the portal behave as ordered.
    ///
    /// # Errors
    /// When it cannot be reached or does not understand.
    pub async fn order(&self, order: Order) -> Outcome<()> {
        let body = serde_json::to_vec(&order).context(|| "portal order")?;
        self.ask(Method::POST, "/__portal/mode", body.into()).await.map(drop)
    }

    /// Makes the portal forget what reached it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn forget(&self) -> Outcome<()> {
        self.ask(Method::POST, "/__portal/forget", Bytes::new()).await.map(drop)
    }

    /// Makes the stand-in login provider say for `span` that it is ill.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn break_login(&self, span: std::time::Duration) -> Outcome<()> {
        let body = serde_json::json!({ "seconds": span.as_secs_f64() }).to_string();
        self.ask(Method::POST, "/__portal/login", body.into()).await.map(drop)
    }

    /// Everything that reached the portal, in order, with its instants moved to our clock.
    ///
    /// # Errors
    /// When it cannot be reached or sends what is no record.
    pub async fn record(&self, clock: &Clock) -> Outcome<Vec<Reached>> {
        let ahead = self.our_clock_ahead(clock).await?;
        let mut all = Vec::new();
        loop {
            let page = self.ask(Method::GET, &format!("/__portal/record?from={}", all.len()), Bytes::new()).await?;
            let before = all.len();
            for line in page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let mut reached: Reached = serde_json::from_slice(line).context(|| "portal record")?;
                reached.at_us = reached.at_us.shifted(ahead);
                all.push(reached);
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }

    /// By how many microseconds our clock is ahead of the portal's: taken at the middle of the shortest round trip,
    /// so wrong by half of that at most.
    async fn our_clock_ahead(&self, clock: &Clock) -> Outcome<i64> {
        let mut best: Option<(u64, i64)> = None;
        for _ in 0..COMPARISONS {
            let asked = clock.now();
            let answer = self.ask(Method::GET, "/__portal/clock", Bytes::new()).await?;
            let told = clock.now();
            let theirs: ClockAnswer = serde_json::from_slice(&answer).context(|| "portal clock")?;
            let middle = u64::midpoint(asked.0, told.0);
            let sample =
                (told.0.saturating_sub(asked.0), middle.cast_signed().wrapping_sub(theirs.now_us.0.cast_signed()));
            best = Some(best.map_or(sample, |best| best.min(sample)));
        }
        best.map(|(_, ahead)| ahead).ok_or_else(|| Failure::new("the portal's clock was not asked"))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Outcome<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse::<Uri>().context(|| path.to_owned())?;
        request.headers_mut().insert(HOST, self.authority.parse().context(|| "portal address")?);
        let received = self.pool.send(&request).await.context(|| format!("portal {}{path}", self.authority))?;
        if received.status.is_success() {
            Ok(received.body)
        } else {
            Err(Failure::new(format!("portal {path}: {} {}", received.status, String::from_utf8_lossy(&received.body))))
        }
    }
}
