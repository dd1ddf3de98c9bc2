//! Bodies of what visitors get: nothing, something we have, or the portal's answer as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::proxy::answer::{Passing, ReadAhead};

/// The body of an answer to a visitor.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Something that is there already: our own pages and short answers of the portal.
    Full(Bytes),
    /// The portal's answer, passed on as it comes.
    Passing(Box<Passing>),
    /// The portal's answer, read ahead of a slow visitor.
    ReadAhead(ReadAhead),
    /// An answer of which something has been read already, and the rest.
    Begun(Bytes, Box<Body>),
}

/// Why a body ended before its end. The visitor's connection is broken off then, so that nobody takes half an answer
/// for a whole one.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The portal broke off.
    #[error("the portal broke off in the middle of its answer: {0}")]
    PortalBroke(hyper::Error),
    /// The portal sent nothing for `portal.idle_timeout`.
    #[error("the portal stopped in the middle of its answer")]
    PortalStalled,
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::from(Bytes::from_static(text.as_bytes()))
    }
}

impl Body {
    fn read_ahead_if_long(&mut self) {
        if !matches!(self, Body::Passing(passing) if passing.is_long()) {
            return;
        }
        if let Body::Passing(passing) = std::mem::take(self) {
            *self = Body::ReadAhead(passing.read_ahead());
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        body.read_ahead_if_long();
        match body {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *body = Body::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Body::Passing(passing) => passing.poll_frame(cx),
            Body::ReadAhead(ahead) => ahead.poll_frame(cx),
            Body::Begun(begun, rest) => {
                let (begun, rest) = (std::mem::take(begun), std::mem::take(rest.as_mut()));
                *body = rest;
                Poll::Ready(Some(Ok(Frame::data(begun))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(_) => false,
            Body::Passing(passing) => passing.is_end_stream(),
            Body::ReadAhead(ahead) => ahead.is_end_stream(),
            Body::Begun(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Passing(passing) => passing.size_hint(),
            Body::ReadAhead(ahead) => ahead.size_hint(),
            Body::Begun(begun, rest) => match rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(begun.len() as u64 + rest),
                None => SizeHint::default(),
            },
        }
    }
}
