//! What came back, as far as a visitor's next step depends on it.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use crate::portal::PORTAL_MARK;
use crate::work::Challenge;

/// One answer, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The stand-in portal spoke: the request was let through.
    Portal(StatusCode),
    /// The waiting page.
    Page,
    /// JSON with the `queue` object, from join, status, or instead of a protected page.
    Queue(StatusCode, Queue),
    /// The same to a join beyond the limits: what has to be done for a place, and when it can be had without.
    Challenge(Challenge, Queue),
    /// 502 or 504 of the proxy's own: the portal could not be reached.
    GatewayError(StatusCode),
    /// Nothing that the contract knows.
    Strange(StatusCode),
    /// No connection, or it ended without an answer.
    Unreachable,
}

/// The `queue` object; members that no step depends on are left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Queue {
    /// Where the visitor stands.
    pub state: State,
    /// Present visitors before this one.
    #[serde(default)]
    pub ahead: Option<u64>,
    /// The same, counting only those at the gate.
    #[serde(default)]
    pub ahead_at_gate: Option<u64>,
    /// The wait shown, in seconds: its lower end ...
    #[serde(default)]
    pub wait_seconds_low: Option<f32>,
    /// ... and its upper end.
    #[serde(default)]
    pub wait_seconds_high: Option<f32>,
    /// When to ask again, in seconds.
    #[serde(default)]
    pub refresh_seconds: Option<f64>,
    /// Why nothing moves.
    #[serde(default)]
    pub reason: Option<Reason>,
}

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reason {
    /// `portal_unhealthy`, `room_full` ...
    pub code: String,
}

/// `queue.state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract's own words")]
pub enum State {
    Maintenance,
    Inside,
    Left,
    Expired,
    BeforeOpening,
    None,
    YourTurn,
    Held,
    ClosedHours,
    Waiting,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Document {
    queue: Queue,
    #[serde(default)]
    challenge: Option<Challenge>,
}

impl Document {
    fn read(self, status: StatusCode) -> Answer {
        match self.challenge {
            Some(challenge) => Answer::Challenge(challenge, self.queue),
            None => Answer::Queue(status, self.queue),
        }
    }
}

/// Reads an answer.
pub fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answer {
    if headers.contains_key(PORTAL_MARK) {
        Answer::Portal(status)
    } else if is_json(headers) {
        serde_json::from_slice(body).map_or(Answer::Strange(status), |document: Document| document.read(status))
    } else if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
        Answer::GatewayError(status)
    } else if is_html(headers) && page_status(status) {
        Answer::Page
    } else {
        Answer::Strange(status)
    }
}

fn page_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 202 | 429 | 503)
}

fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind.starts_with("application/") && kind.contains("json"))
}

fn is_html(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind.starts_with("text/html"))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, lines: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let headers = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        read(StatusCode::from_u16(status).unwrap(), &headers, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn the_portal_is_known_by_its_mark_whatever_it_says() {
        assert_eq!(
            answer(503, &[(PORTAL_MARK, "1"), ("content-type", "text/html")], ""),
            Answer::Portal(StatusCode::SERVICE_UNAVAILABLE)
        );
    }

    #[test]
    fn the_page_the_queue_and_the_gateways_own_errors_are_told_apart() {
        assert_eq!(answer(503, &[("content-type", "text/html; charset=utf-8")], "<p>"), Answer::Page);
        assert_eq!(answer(502, &[("content-type", "text/html")], ""), Answer::GatewayError(StatusCode::BAD_GATEWAY));
        assert_eq!(answer(404, &[("content-type", "text/html")], ""), Answer::Strange(StatusCode::NOT_FOUND));
        let json = [("content-type", "application/problem+json")];
        let Answer::Queue(status, queue) = answer(
            503,
            &json,
            r#"{"title":"x","queue":{"state":"waiting","ahead":7,"ahead_at_gate":null,"reason":{"code":"room_full"},"refresh_seconds":12}}"#,
        ) else {
            panic!("no queue")
        };
        assert_eq!(status.as_u16(), 503);
        assert_eq!((queue.state, queue.ahead, queue.refresh_seconds), (State::Waiting, Some(7), Some(12.0)));
        assert_eq!(answer(503, &json, "{"), Answer::Strange(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn work_that_is_asked_for_is_read() {
        let json = [("content-type", "application/problem+json")];
        let body =
            r#"{"status":429,"queue":{"state":"none","refresh_seconds":5},"challenge":{"text":"abc","bits":14}}"#;
        let Answer::Challenge(challenge, queue) = answer(429, &json, body) else { panic!("no challenge") };
        assert_eq!((challenge.text.as_str(), challenge.bits, queue.refresh_seconds), ("abc", 14, Some(5.0)));
    }

    #[test]
    fn a_new_state_is_not_an_error() {
        let queue: Queue = serde_json::from_str(r#"{"state":"something_new"}"#).unwrap();
        assert_eq!(queue.state, State::Unknown);
    }
}
