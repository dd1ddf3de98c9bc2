//! The portal's answer on its way to the visitor: read at the portal's speed up to a limit, so that a slow visitor
//! holds neither a worker of the portal nor a slot.
//!
//! Three ways, by what an answer needs:
//! * what is there already when the head is read (most answers) is handed over whole, and connection and slot are free
//!   before the first byte goes to the visitor;
//! * the next 32 KiB or 8 pieces are passed on as they come: the server's own connection buffers that much even if the
//!   visitor takes nothing;
//! * what is longer is read ahead by a task of its own into a bounded queue. Event streams are never read ahead.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use super::Keep;
use super::error::ProxyError;
use super::idle::IdleTimer;
use super::pool::Lease;
use super::slots::Slot;
use crate::body::{Body, BodyError};
use crate::domain::leak_guard::{self, Mode};

/// Bytes passed on before reading ahead begins.
const PASSED_ON: usize = 32 * 1024;

/// Pieces passed on before reading ahead begins: half of what hyper's connection queues at most.
const PIECES_PASSED_ON: u32 = 8;

/// Pieces smaller than this are copied together while they wait, in bytes: each might pin a whole read buffer.
const SMALL: usize = 4096;

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Ahead of the visitor, up to so many bytes.
    Ahead(usize),
    /// Only as the visitor takes it: event streams.
    AsTaken,
}

/// What an answer occupies until it has been read to its end.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) lease: Lease,
    pub(super) slot: Slot,
}

/// How an answer's body is to be treated.
#[derive(Debug)]
pub(super) struct Handling {
    pub(super) reading: Reading,
    pub(super) idle_limit: Duration,
    pub(super) guard: Mode,
    pub(super) keep: Option<Keep>,
}

/// Turns what the portal sends into the body for the visitor.
///
/// # Errors
/// [`ProxyError::Closed`] when the portal broke off before anything of the body was there: nothing has been
/// delivered, so that a proper answer is still possible.
pub(super) async fn receive(body: Incoming, in_use: InUse, handling: Handling) -> Result<Body, ProxyError> {
    let mut source =
        Source { body, in_use: Some(in_use), idle: IdleTimer::new(handling.idle_limit), guard: handling.guard };
    if source.body.is_end_stream() {
        source.finish();
        return Ok(Body::Empty);
    }
    let first = match handling.reading {
        Reading::Ahead(_) => std::future::poll_fn(|cx| Poll::Ready(source.poll_ready(cx))).await,
        Reading::AsTaken => Poll::Pending,
    };
    let first = match first {
        Poll::Pending => None,
        Poll::Ready(None) => return Ok(Body::Empty),
        Poll::Ready(Some(Err(error))) => return Err(ProxyError::Closed(error)),
        Poll::Ready(Some(Ok(frame))) => Some(frame),
    };
    Ok(match (first.map(Frame::into_data), source.in_use.is_none()) {
        (Some(Ok(whole)), true) => Body::Full(whole),
        (first, _) => Body::Passing(Box::new(Passing {
            first: first.map(|frame| frame.map_or_else(|trailers| trailers, Frame::data)),
            source,
            reading: handling.reading,
            bytes: 0,
            pieces: 0,
            keep: handling.keep,
        })),
    })
}

/// The portal's side of an answer. Gives connection and slot back at the end; closes the connection on any failure.
#[derive(Debug)]
struct Source {
    body: Incoming,
    in_use: Option<InUse>,
    idle: IdleTimer,
    guard: Mode,
}

impl Source {
    /// What is there now, without measuring time.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        Poll::Ready(match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.moved();
                if self.body.is_end_stream() {
                    self.finish();
                }
                Some(Ok(self.guarded(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.in_use = None;
                Some(Err(error))
            }
            Poll::Ready(None) => {
                self.finish();
                None
            }
        })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.poll_ready(cx) {
            Poll::Ready(arrived) => Poll::Ready(arrived.map(|frame| frame.map_err(BodyError::PortalBroke))),
            Poll::Pending => self.idle.poll_expired(cx).map(|()| {
                self.in_use = None;
                Some(Err(BodyError::PortalStalled))
            }),
        }
    }

    fn guarded(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                leak_guard::guard_trailers(&mut trailers, self.guard);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    /// The answer has been read: the connection serves the next request, the slot is free.
    fn finish(&mut self) {
        if let Some(InUse { lease, slot }) = self.in_use.take() {
            drop(slot);
            lease.give_back();
        }
    }
}

/// An answer that is passed on as it comes.
#[derive(Debug)]
pub struct Passing {
    first: Option<Frame<Bytes>>,
    source: Source,
    reading: Reading,
    bytes: usize,
    pieces: u32,
    keep: Option<Keep>,
}

impl Passing {
    /// Whether the answer has become long enough to be read ahead.
    pub(crate) fn is_long(&self) -> bool {
        let much = self.bytes >= PASSED_ON || self.pieces >= PIECES_PASSED_ON;
        much && self.reading != Reading::AsTaken && self.source.in_use.is_some()
    }

    /// Reads the rest ahead of the visitor.
    pub(crate) fn read_ahead(self) -> ReadAhead {
        let limit = match self.reading {
            Reading::Ahead(limit) => limit,
            Reading::AsTaken => 0,
        };
        let rest = self.source.body.size_hint().exact();
        let queue = Arc::new(Queue { state: Mutex::default(), limit: limit.max(1) });
        let pump = tokio::spawn(pump(self.source, Arc::clone(&queue))).abort_handle();
        ReadAhead { queue, pump, rest, _keep: self.keep }
    }

    /// The next piece.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.source.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.pieces += 1;
            self.bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.source.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match self.source.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}

/// An answer that a task reads ahead of the visitor. Dropping it ends the task and closes the connection.
#[derive(Debug)]
pub struct ReadAhead {
    queue: Arc<Queue>,
    pump: AbortHandle,
    rest: Option<u64>,
    /// Lives as long as the visitor is being served.
    _keep: Option<Keep>,
}

async fn pump(mut source: Source, queue: Arc<Queue>) {
    loop {
        std::future::poll_fn(|cx| queue.poll_room(cx)).await;
        match std::future::poll_fn(|cx| source.poll_frame(cx)).await {
            Some(Ok(frame)) => queue.push(frame),
            Some(Err(error)) => return queue.end(Err(error)),
            None => return queue.end(Ok(())),
        }
    }
}

impl ReadAhead {
    /// The next piece.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.queue.poll_pop(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let (Some(rest), Some(data)) = (&mut self.rest, frame.data_ref())
        {
            *rest = rest.saturating_sub(data.len() as u64);
        }
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.rest == Some(0)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// What was read and not yet taken, up to a limit and one piece more.
#[derive(Debug)]
struct Queue {
    state: Mutex<Waiting>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    /// Small pieces, joined; they come after `pieces`.
    tail: BytesMut,
    bytes: usize,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), BodyError>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Queue {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes < self.limit {
            return Poll::Ready(());
        }
        waiting.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn push(&self, frame: Frame<Bytes>) {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match frame.into_data() {
            Ok(data) => waiting.push(data),
            Err(frame) => waiting.trailers = frame.into_trailers().ok(),
        }
        wake(waiting.reader.take());
    }

    fn end(&self, how: Result<(), BodyError>) {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.end = Some(how);
        wake(waiting.reader.take());
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = waiting.pop() {
            wake(waiting.writer.take());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match waiting.end.take() {
            Some(Err(error)) => {
                waiting.end = Some(Ok(()));
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(())) => {
                waiting.end = Some(Ok(()));
                Poll::Ready(waiting.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            None => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        if data.len() < SMALL {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.pieces.push_back(tail);
        }
        self.pieces.push_back(data);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = match self.pieces.pop_front() {
            Some(piece) => piece,
            None if self.tail.is_empty() => return None,
            None => self.tail.split().freeze(),
        };
        self.bytes -= data.len();
        Some(data)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drained(queue: &Queue) -> Vec<u8> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = queue.poll_pop(&mut cx) {
            all.extend_from_slice(&frame.into_data().unwrap());
        }
        all
    }

    proptest! {
        /// Whatever the sizes of the pieces, what goes in comes out, in order.
        #[test]
        fn nothing_is_lost_or_reordered(sizes in proptest::collection::vec(1usize..9000, 0..20), drain_at in 0usize..20) {
            let queue = Queue { state: Mutex::default(), limit: 1 };
            let (mut given, mut taken) = (Vec::new(), Vec::new());
            for (index, size) in sizes.iter().enumerate() {
                let piece = vec![u8::try_from(index).unwrap(); *size];
                given.extend_from_slice(&piece);
                queue.push(Frame::data(piece.into()));
                if index == drain_at {
                    taken.extend(drained(&queue));
                }
            }
            taken.extend(drained(&queue));
            prop_assert!(given == taken);
            prop_assert_eq!(queue.state.lock().unwrap().bytes, 0);
        }
    }

    #[test]
    fn room_ends_at_the_limit_and_comes_back() {
        let queue = Queue { state: Mutex::default(), limit: 10 };
        let mut cx = Context::from_waker(Waker::noop());
        queue.push(Frame::data(Bytes::from_static(b"123456789")));
        assert!(queue.poll_room(&mut cx).is_ready());
        queue.push(Frame::data(Bytes::from_static(b"0")));
        assert!(queue.poll_room(&mut cx).is_pending());
        drained(&queue);
        assert!(queue.poll_room(&mut cx).is_ready());
    }

    #[test]
    fn an_error_comes_after_what_was_read() {
        let queue = Queue { state: Mutex::default(), limit: 10 };
        let mut cx = Context::from_waker(Waker::noop());
        queue.push(Frame::data(Bytes::from_static(b"1")));
        queue.end(Err(BodyError::PortalStalled));
        assert!(matches!(queue.poll_pop(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(queue.poll_pop(&mut cx), Poll::Ready(Some(Err(BodyError::PortalStalled)))));
        assert!(matches!(queue.poll_pop(&mut cx), Poll::Ready(None)));
    }
}
