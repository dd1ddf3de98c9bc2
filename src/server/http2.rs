//! What hyper leaves open about HTTP/2: answers whose visitor takes nothing while the connection is alive, and frames
//! that cost us work and bring nobody anything.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Stopwatch;

/// How far an answer has come on its stream.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Pieces handed over; odd while we wait for the next piece ourselves.
    moves: AtomicU64,
}

tokio::task_local! {
    /// The delivery of the stream that this task serves: hyper lets nothing of ours pass from one to the other.
    static DELIVERY: Arc<Delivery>;
}

impl Delivery {
    /// The one of the stream that is being served, if HTTP/2 is.
    pub(super) fn current() -> Option<Arc<Delivery>> {
        DELIVERY.try_with(Arc::clone).ok()
    }

    /// A piece was handed over: the visitor's turn.
    pub(super) fn moved(&self) {
        self.moves.store((self.moves.load(Ordering::Relaxed) | 1) + 1, Ordering::Relaxed);
    }

    /// The next piece is not there yet: our turn.
    pub(super) fn waits(&self) {
        self.moves.store(self.moves.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// Returns when the visitor has taken nothing for `limit` at least and twice as long at most.
    async fn stalled(&self, limit: Duration) {
        let mut before = None;
        loop {
            tokio::time::sleep(limit).await;
            let now = self.moves.load(Ordering::Relaxed);
            let is_visitors_turn = now > 0 && now.is_multiple_of(2);
            if is_visitors_turn && before == Some(now) {
                return;
            }
            before = Some(now);
        }
    }
}

/// Runs the streams of HTTP/2 connections, and resets one that is not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// How long a visitor may take nothing.
    pub(super) limit: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (limit, delivery) = (self.limit, Arc::new(Delivery::default()));
        let watched = delivery.clone();
        tokio::spawn(DELIVERY.scope(delivery, async move {
            tokio::select! {
                () = stream => {}
                () = watched.stalled(limit) => tracing::debug!("a visitor did not take an answer"),
            }
        }));
    }
}

/// Frames beyond requests and their bodies that a connection may bring at once, and per second.
const AT_ONCE: u64 = 2000;
const PER_SECOND: u64 = 200;
/// Bytes that we send for which the visitor may acknowledge one more.
const ACKNOWLEDGED: u64 = 1024;
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// Counts the frames of an HTTP/2 connection that bring nothing (RFC 9113 section 10.5).
#[derive(Debug)]
pub(super) struct FrameBudget {
    started: Stopwatch,
    /// Bytes to pass over before the next head.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    spent: u64,
    sent: u64,
}

/// More frames than anybody needs.
#[derive(Debug)]
pub(super) struct Flood;

impl FrameBudget {
    /// A connection that has brought nothing.
    pub(super) fn new() -> FrameBudget {
        FrameBudget { started: Stopwatch::start(), skip: PREFACE, head: [0; HEAD], filled: 0, spent: 0, sent: 0 }
    }

    /// Counts bytes that came.
    ///
    /// # Errors
    /// [`Flood`] when the budget is spent.
    pub(super) fn came(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let before = self.spent;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let (_, rest) = bytes.split_at_checked(skipped).unwrap_or_default();
            bytes = self.read_head(rest);
        }
        if self.spent == before || self.spent <= AT_ONCE {
            return Ok(());
        }
        let earned = self.started.elapsed().as_secs() * PER_SECOND + self.sent / ACKNOWLEDGED;
        if self.spent > AT_ONCE + earned { Err(Flood) } else { Ok(()) }
    }

    /// Counts bytes that we sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Reads on in a frame's head; returns what follows.
    fn read_head<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let taken = (HEAD - self.filled).min(bytes.len());
        let (now, rest) = bytes.split_at_checked(taken).unwrap_or_default();
        if let Some(space) = self.head.get_mut(self.filled..self.filled + taken) {
            space.copy_from_slice(now);
        }
        self.filled += taken;
        if self.filled == HEAD {
            self.filled = 0;
            self.count();
        }
        rest
    }

    fn count(&mut self) {
        let [high, middle, low, kind, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = length as usize;
        let (is_data, is_headers) = (kind == 0, kind == 1);
        if !is_headers && (!is_data || length == 0) {
            self.spent += 1;
        }
    }
}

/// A stream of HTTP/2 that ends when its frames are a flood.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    budget: FrameBudget,
}

impl<S> Metered<S> {
    /// A stream on which nothing has passed.
    pub(super) fn new(stream: S) -> Metered<S> {
        Metered { stream, budget: FrameBudget::new() }
    }

    fn count(&mut self, written: &Poll<Result<usize, Error>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.budget.sent(*count);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        match this.budget.came(buf.filled().get(before..).unwrap_or_default()) {
            Ok(()) => read,
            Err(Flood) => {
                tracing::debug!("a connection was ended for a flood of frames");
                Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "a flood of frames")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.count(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], vec![0; length.into()].as_slice()].concat()
    }

    fn begun() -> FrameBudget {
        let mut budget = FrameBudget::new();
        assert!(budget.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_ok());
        budget
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_pings_ends_and_requests_and_bodies_do_not() {
        let mut budget = begun();
        for _ in 0..100_000 {
            assert!(budget.came(&frame(HEADERS, 20)).is_ok() && budget.came(&frame(DATA, 5)).is_ok());
        }
        assert!((0..AT_ONCE).all(|_| budget.came(&frame(PING, 8)).is_ok()));
        assert!(budget.came(&frame(PING, 8)).is_err());
        let mut budget = begun();
        assert!((0..AT_ONCE).all(|_| budget.came(&frame(DATA, 0)).is_ok()));
        assert!(budget.came(&frame(DATA, 0)).is_err(), "empty data brings nothing either");
    }

    #[tokio::test(start_paused = true)]
    async fn time_and_what_we_send_allow_more() {
        let mut budget = begun();
        assert!((0..AT_ONCE).all(|_| budget.came(&frame(PING, 8)).is_ok()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((0..2 * PER_SECOND).all(|_| budget.came(&frame(PING, 8)).is_ok()));
        budget.sent(10 * 1024);
        assert!((0..10).all(|_| budget.came(&frame(PING, 8)).is_ok()));
        assert!(budget.came(&frame(PING, 8)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_visitor_can_stall_a_visitor() {
        let second = Duration::from_secs(1);
        let delivery = Delivery::default();
        let stalls = |span| tokio::time::timeout(span, delivery.stalled(second));
        assert!(stalls(second * 60).await.is_err(), "the answer has not begun");
        delivery.moved();
        delivery.waits();
        assert!(stalls(second * 60).await.is_err(), "we wait for the portal");
        delivery.moved();
        assert!(stalls(second * 3).await.is_ok());
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_cut(lengths in proptest::collection::vec((0..8_u8, any::<u8>()), 0..20), cut in 1..40_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _guard = runtime.enter();
            let bytes: Vec<u8> = lengths.iter().flat_map(|(kind, length)| frame(*kind, *length)).collect();
            let (mut whole, mut pieces) = (begun(), begun());
            whole.came(&bytes).unwrap();
            bytes.chunks(cut).for_each(|piece| pieces.came(piece).unwrap());
            let expected = lengths.iter().filter(|(kind, length)| *kind > 1 || (*kind == 0 && *length == 0)).count();
            prop_assert_eq!((whole.spent, pieces.spent), (expected as u64, expected as u64));
        }
    }
}
