//! Why a request did not come back with an answer of the portal, and whose fault that is.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::body::BodyError;
use crate::domain::leak_detectors::Detector;
use crate::domain::leak_guard::Reason;

/// Why there is no answer of the portal to deliver.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The visitor sent nothing of the body for too long, or too little.
    #[error("the visitor sent nothing or too little of the request body within {}", seconds(.0))]
    VisitorTooSlow(Duration),
    /// The visitor went away, or broke the framing, in the middle of the body.
    #[error("the visitor broke off in the middle of the request body: {0}")]
    VisitorGone(hyper::Error),
    /// `CONNECT` and `TRACE` are not forwarded.
    #[error("the method {0} is not forwarded")]
    MethodNotForwarded(http::Method),
    /// No slot towards the portal became free in time.
    #[error(
        "no slot towards the portal became free in time: raise portal.max_in_flight or portal.queue_timeout if the portal can bear it"
    )]
    Busy(#[from] NoSlot),
    /// No address of the portal took a connection.
    #[error("the portal at {address} takes no connection: {source}")]
    Unreachable {
        /// The address tried last.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No connection within `portal.connect_timeout`.
    #[error("the portal at {address} took no connection in time")]
    ConnectTimeout {
        /// The address tried last.
        address: String,
    },
    /// No answer within `portal.first_byte_timeout` of the request's last byte, or the portal stopped reading.
    #[error("the portal gave no answer in time")]
    Silent,
    /// The portal closed the connection without an answer.
    #[error("the portal closed the connection without an answer: {0}")]
    Closed(hyper::Error),
    /// The portal closed a new connection before a request could be written.
    #[error("the portal closed a new connection at once")]
    ClosedAtOnce,
    /// What the portal sent is not HTTP.
    #[error("the portal sent what is no HTTP answer: {0}")]
    Garbled(hyper::Error),
    /// The portal broke off in an answer that was to be read whole.
    #[error(transparent)]
    Unreadable(BodyError),
    /// A 101 that was not asked for.
    #[error("the portal changed to a protocol that nobody asked for")]
    UnaskedUpgrade,
    /// The leak guard stopped the answer.
    #[error("the leak guard stopped the portal's answer: {}", .0.as_str())]
    LeakGuard(Reason),
    /// The leak guard found that the answer is somebody else's.
    #[error("the leak guard stopped what may be somebody else's page: {}", .0.as_str())]
    LeakFound(Detector),
}

impl ProxyError {
    /// Whether the portal was away, or took too long.
    pub fn is_an_outage(&self) -> bool {
        matches!(
            self,
            ProxyError::Unreachable { .. }
                | ProxyError::ConnectTimeout { .. }
                | ProxyError::Silent
                | ProxyError::Closed(_)
                | ProxyError::ClosedAtOnce
        )
    }
}

/// No slot towards the portal within the time allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every slot towards the portal is taken")]
pub struct NoSlot;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The visitor's.
    Visitor,
    /// The portal's.
    Portal,
    /// A limit of ours.
    Us,
}

impl ProxyError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ProxyError::VisitorTooSlow(_) | ProxyError::VisitorGone(_) | ProxyError::MethodNotForwarded(_) => {
                Fault::Visitor
            }
            ProxyError::Busy(_) => Fault::Us,
            _ => Fault::Portal,
        }
    }

    /// The status for the visitor.
    pub fn status(&self) -> StatusCode {
        match self {
            ProxyError::VisitorTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            ProxyError::VisitorGone(_) => StatusCode::BAD_REQUEST,
            ProxyError::MethodNotForwarded(_) => StatusCode::METHOD_NOT_ALLOWED,
            ProxyError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            ProxyError::ConnectTimeout { .. } | ProxyError::Silent => StatusCode::GATEWAY_TIMEOUT,
            ProxyError::Unreachable { .. }
            | ProxyError::Closed(_)
            | ProxyError::ClosedAtOnce
            | ProxyError::Garbled(_)
            | ProxyError::UnaskedUpgrade
            | ProxyError::LeakGuard(_)
            | ProxyError::Unreadable(_)
            | ProxyError::LeakFound(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

fn seconds(span: &Duration) -> String {
    format!("{} s", span.as_secs_f64())
}
