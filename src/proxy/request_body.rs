//! The visitor's request body on its way to the portal: read ahead up to a limit before a connection (and a slot) is
//! taken, so that a slow visitor holds neither; what is larger streams at constant memory.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::error::ProxyError;
use super::idle::IdleTimer;
use crate::clock::Stopwatch;
use crate::domain::forwarding;

static CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// How long the rest of a body is read and thrown away after the answer, so that the visitor, who is still sending,
/// reads the answer instead of a reset: in all, and without a byte.
pub const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);

/// A request body as the portal gets it.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// It was read to its end already.
    Whole {
        /// All of it.
        data: Bytes,
        /// Trailers, when it came with any.
        trailers: Option<Box<HeaderMap>>,
    },
    /// It is larger than the buffer.
    Streaming(Box<Streaming>),
}

/// A body of which the beginning was read and the rest is still to come.
#[derive(Debug)]
pub struct Streaming {
    prefix: Bytes,
    rest: Option<Incoming>,
    timer: PaceTimer,
    progress: Arc<Progress>,
}

/// How fast a visitor has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two pieces at most.
    pub idle_limit: Duration,
    /// Bytes per second on average, once the visitor was waited for as long as `idle_limit` in all.
    pub min_rate: usize,
}

/// Holds a visitor to the pace. Time in which nobody waits for the visitor does not count.
#[derive(Debug)]
struct PaceTimer {
    pace: Pace,
    idle: IdleTimer,
    waiting: Option<Stopwatch>,
    waited: Duration,
    came: u64,
}

impl PaceTimer {
    fn new(pace: Pace) -> PaceTimer {
        let idle = IdleTimer::new(pace.idle_limit);
        PaceTimer { pace, idle, waiting: None, waited: Duration::ZERO, came: 0 }
    }

    /// Counts a piece of so many bytes; whether that is fast enough.
    fn came(&mut self, bytes: usize) -> bool {
        self.idle.moved();
        self.came += bytes as u64;
        let Some(waiting) = self.waiting.take() else { return true };
        self.waited += waiting.elapsed();
        let expected = u128::from(self.pace.min_rate as u64) * self.waited.as_millis() / 1000;
        self.waited < self.pace.idle_limit || u128::from(self.came) >= expected
    }

    /// Nothing is there: ready once that has been so for too long.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.get_or_insert_with(Stopwatch::start);
        self.idle.poll_expired(cx)
    }
}

/// The visitor did not deliver the body; the reason waits where the answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the visitor did not deliver the request body")]
pub struct Undelivered;

/// How far a streaming body has come, for whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    moves: AtomicU64,
    waiting_for_visitor: AtomicBool,
    ended: AtomicBool,
    end: Notify,
    fault: Mutex<Option<ProxyError>>,
}

/// Reads a request's body ahead, up to `buffer` bytes (and at most one read more). To be called before a slot or an
/// admission is taken: it takes as long as the visitor takes.
///
/// # Errors
/// [`ProxyError::VisitorTooSlow`] when the visitor does not keep the pace, [`ProxyError::VisitorGone`] when the visitor
/// broke off.
pub async fn receive(body: Incoming, buffer: usize, pace: Pace) -> Result<RequestBody, ProxyError> {
    if body.is_end_stream() { Ok(RequestBody::Empty) } else { read_ahead(body, buffer, pace).await }
}

async fn read_ahead(mut body: Incoming, buffer: usize, pace: Pace) -> Result<RequestBody, ProxyError> {
    let mut timer = PaceTimer::new(pace);
    let mut gathered = Gathered::default();
    loop {
        if gathered.len() > 0 && body.is_end_stream() {
            return Ok(RequestBody::Whole { data: gathered.into_bytes(), trailers: None });
        }
        if gathered.len() >= buffer {
            return Ok(RequestBody::Streaming(Box::new(Streaming {
                prefix: gathered.into_bytes(),
                rest: Some(body),
                timer,
                progress: Arc::default(),
            })));
        }
        match next_frame(&mut body, &mut timer).await {
            Arrived::Frame(frame) => match frame.into_data() {
                Ok(data) => gathered.push(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok().map(cleaned);
                    return Ok(RequestBody::Whole { data: gathered.into_bytes(), trailers });
                }
            },
            Arrived::End => return Ok(RequestBody::Whole { data: gathered.into_bytes(), trailers: None }),
            Arrived::Broken(error) => return Err(ProxyError::VisitorGone(error)),
            Arrived::TooSlow => return Err(ProxyError::VisitorTooSlow(pace.idle_limit)),
        }
    }
}

/// What came of a body.
enum Arrived {
    Frame(Frame<Bytes>),
    End,
    Broken(hyper::Error),
    /// Not at the pace that is asked for.
    TooSlow,
}

async fn next_frame(body: &mut Incoming, timer: &mut PaceTimer) -> Arrived {
    std::future::poll_fn(|cx| poll_frame(body, timer, cx)).await
}

fn poll_frame(body: &mut Incoming, timer: &mut PaceTimer, cx: &mut Context<'_>) -> Poll<Arrived> {
    let Poll::Ready(arrived) = Pin::new(body).poll_frame(cx) else {
        return timer.poll_expired(cx).map(|()| Arrived::TooSlow);
    };
    Poll::Ready(match arrived {
        Some(Ok(frame)) if timer.came(frame.data_ref().map_or(0, Bytes::len)) => Arrived::Frame(frame),
        Some(Ok(_)) => Arrived::TooSlow,
        Some(Err(error)) => Arrived::Broken(error),
        None => Arrived::End,
    })
}

fn cleaned(mut trailers: HeaderMap) -> Box<HeaderMap> {
    forwarding::strip_trailers(&mut trailers);
    Box::new(trailers)
}

/// Pieces of a body; a single one is not copied, more are, since small pieces may pin large buffers.
#[derive(Default)]
struct Gathered {
    only: Bytes,
    many: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.only.len() + self.many.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.only = data;
            return;
        }
        let only = std::mem::take(&mut self.only);
        self.many.extend_from_slice(&only);
        self.many.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.many.is_empty() { self.only } else { self.many.freeze() }
    }
}

impl RequestBody {
    /// Writes the framing of this body into a head that has lost its hop-by-hop fields (RFC 9112 section 6).
    pub(super) fn write_framing(&self, headers: &mut HeaderMap) {
        match (self, self.size_hint().exact()) {
            (RequestBody::Empty, _) => {}
            (_, Some(length)) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
            (_, None) => {
                headers.remove(CONTENT_LENGTH);
                headers.insert(TRANSFER_ENCODING, CHUNKED.clone());
            }
        }
    }

    /// What to watch while the portal gets it; `None` when there is nothing to wait for.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            RequestBody::Streaming(streaming) => Some(Arc::clone(&streaming.progress)),
            RequestBody::Empty | RequestBody::Whole { .. } => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Undelivered;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Undelivered>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole { data, .. } if !data.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))))
            }
            RequestBody::Whole { trailers, .. } => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            RequestBody::Streaming(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Whole { data, trailers } => data.is_empty() && trailers.is_none(),
            RequestBody::Streaming(streaming) => streaming.rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            RequestBody::Whole { .. } => SizeHint::default(),
            RequestBody::Streaming(streaming) => streaming.size_hint(),
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Undelivered>>> {
        if !self.prefix.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.prefix)))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let Poll::Ready(arrived) = poll_frame(rest, &mut self.timer, cx) else {
            self.progress.waiting_for_visitor.store(true, Ordering::Relaxed);
            return Poll::Pending;
        };
        self.progress.moved();
        Poll::Ready(match arrived {
            Arrived::Frame(frame) => {
                if rest.is_end_stream() {
                    self.end();
                }
                Some(Ok(match frame.into_trailers() {
                    Ok(trailers) => Frame::trailers(*cleaned(trailers)),
                    Err(frame) => frame,
                }))
            }
            Arrived::End => {
                self.end();
                None
            }
            Arrived::Broken(error) => Some(Err(self.fail(ProxyError::VisitorGone(error)))),
            Arrived::TooSlow => Some(Err(self.fail(ProxyError::VisitorTooSlow(self.timer.pace.idle_limit)))),
        })
    }

    fn end(&mut self) {
        self.rest = None;
        self.progress.ended.store(true, Ordering::Relaxed);
        self.progress.end.notify_one();
    }

    fn fail(&mut self, fault: ProxyError) -> Undelivered {
        self.rest = None;
        *self.progress.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        Undelivered
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(Some(0), |rest| rest.size_hint().exact());
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + self.prefix.len() as u64))
    }
}

impl Drop for Streaming {
    /// What nobody took is read and thrown away for a while: the answer may still be on its way to a visitor who is
    /// still sending, and closing now would destroy it.
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.rest.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(rest));
        }
    }
}

/// Reads and throws away what is left of a body, for a bounded time.
pub async fn linger(mut body: Incoming) {
    let _ = timeout(LINGER, async { while let Ok(Some(Ok(_))) = timeout(LINGER_IDLE, body.frame()).await {} }).await;
}

impl Progress {
    fn moved(&self) {
        self.waiting_for_visitor.store(false, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Why the visitor did not deliver, if so.
    pub(super) fn take_fault(&self) -> Option<ProxyError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns when the portal has kept us waiting for too long: `first_byte` after the body's end, or `idle` without
    /// taking a piece of it. Waiting for the visitor is not the portal's doing (and bounded elsewhere).
    pub(super) async fn portal_stalled(&self, first_byte: Duration, idle: Duration) {
        loop {
            let moves = self.moves.load(Ordering::Relaxed);
            if self.ended.load(Ordering::Relaxed) {
                return tokio::time::sleep(first_byte).await;
            }
            let ended = timeout(idle, self.end.notified()).await.is_ok();
            let stood_still = moves == self.moves.load(Ordering::Relaxed);
            if !ended && stood_still && !self.waiting_for_visitor.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_not_copied_and_many_are_joined() {
        let piece = Bytes::from(vec![1; 10]);
        let mut gathered = Gathered::default();
        gathered.push(piece.clone());
        assert_eq!(gathered.into_bytes().as_ptr(), piece.as_ptr());
        let mut gathered = Gathered::default();
        for part in [&b"ab"[..], b"c", b"", b"def"] {
            gathered.push(Bytes::from_static(part));
        }
        assert_eq!(gathered.len(), 6);
        assert_eq!(gathered.into_bytes(), "abcdef");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_too_slow_and_a_slow_portal_is_not_the_visitors_fault() {
        let second = Duration::from_secs(1);
        let mut trickle = PaceTimer::new(Pace { idle_limit: second * 10, min_rate: 100 });
        let mut pieces = 0;
        loop {
            let expired = std::future::poll_fn(|cx| trickle.poll_expired(cx));
            assert!(timeout(second, expired).await.is_err(), "each piece comes in time");
            if !trickle.came(10) {
                break;
            }
            pieces += 1;
        }
        assert_eq!(pieces, 9, "judged when it was waited for as long as the limit");
        let mut patient = PaceTimer::new(Pace { idle_limit: second * 10, min_rate: 100 });
        for _ in 0..100 {
            tokio::time::advance(second * 5).await;
            assert!(patient.came(10), "nobody waited for it");
        }
        let mut unlimited = PaceTimer::new(Pace { idle_limit: second, min_rate: 0 });
        let expired = std::future::poll_fn(|cx| unlimited.poll_expired(cx));
        assert!(timeout(second / 2, expired).await.is_err() && unlimited.came(0));
    }

    #[test]
    fn framing_follows_what_was_read() {
        let framed = |body: RequestBody, given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(*name, value.parse().unwrap());
            }
            body.write_framing(&mut headers);
            let get = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (get(CONTENT_LENGTH), get(TRANSFER_ENCODING))
        };
        let whole = |trailers| RequestBody::Whole { data: Bytes::from_static(b"abc"), trailers };
        assert_eq!(framed(RequestBody::Empty, &[]), (None, None));
        assert_eq!(framed(whole(None), &[]), (Some("3".into()), None));
        let trailers = Some(Box::new(HeaderMap::new()));
        assert_eq!(framed(whole(trailers), &[("content-length", "3")]), (None, Some("chunked".into())));
        let empty = RequestBody::Whole { data: Bytes::new(), trailers: None };
        assert_eq!(framed(empty, &[]), (Some("0".into()), None));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_portal_can_stall_the_portal() {
        let second = Duration::from_secs(1);
        let progress = Progress::default();
        timeout(second * 3, progress.portal_stalled(second, second)).await.expect("stalled");
        progress.waiting_for_visitor.store(true, Ordering::Relaxed);
        assert!(timeout(second * 100, progress.portal_stalled(second, second)).await.is_err());
        progress.ended.store(true, Ordering::Relaxed);
        progress.end.notify_one();
        timeout(second * 2, progress.portal_stalled(second, second)).await.expect("silent after the end");
    }
}
