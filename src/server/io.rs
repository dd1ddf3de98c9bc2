//! A visitor's stream with limits on how long it may take nothing of what we send and how long a head may take, and small
//! writes joined.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::connections::Place;
use super::life::{Life, Phase};
use super::resumed::{Readable, Resumed};
use crate::config::Limits;

/// Pieces up to this many bytes together are written with one plain write: for short answers that costs less than a
/// vectored one.
const JOINED: usize = 4096;

/// See the module's description.
#[derive(Debug)]
pub struct VisitorStream {
    stream: Resumed<TcpStream>,
    /// Counted as long as the socket is open, also when the connection has left HTTP.
    _place: Place,
    life: Arc<Life>,
    write_limit: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
    head_limit: Duration,
    slow: Option<SlowHead>,
}

/// A head of which the end has not come.
#[derive(Debug)]
struct SlowHead {
    since: Duration,
    timer: Pin<Box<Sleep>>,
}

impl VisitorStream {
    /// A stream that fails when the visitor takes nothing for too long, or brings a head too slowly. `begun` was read from
    /// it ahead.
    pub(super) fn new(
        stream: TcpStream,
        begun: Bytes,
        place: Place,
        life: Arc<Life>,
        limits: &Limits,
    ) -> VisitorStream {
        VisitorStream {
            stream: Resumed::new(begun, stream),
            _place: place,
            life,
            write_limit: limits.write_idle_timeout,
            stuck: None,
            head_limit: limits.head_timeout,
            slow: None,
        }
    }

    /// The timer exists only while a write is stuck.
    fn watch_writing(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<Result<usize, Error>>,
    ) -> Poll<Result<usize, Error>> {
        if written.is_ready() {
            self.stuck = None;
            self.life.wrote();
            return written;
        }
        self.life.write_waits();
        let limit = self.write_limit;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the visitor takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The timer exists only while a head has begun and not ended, which most heads do at once.
    fn watch_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.life.phase() != Phase::Head {
            self.slow = None;
            return Poll::Pending;
        }
        let since = self.life.since();
        if self.slow.as_ref().is_none_or(|slow| slow.since != since) {
            let left = self.life.head_limit(self.head_limit).saturating_sub(self.life.lasted());
            self.slow = Some(SlowHead { since, timer: Box::pin(sleep(left)) });
        }
        let over = self.slow.as_mut().is_some_and(|slow| slow.timer.as_mut().poll(cx).is_ready());
        if over { Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the head takes too long"))) } else { Poll::Pending }
    }
}

impl Readable for VisitorStream {
    async fn readable(&self) {
        self.stream.readable().await;
    }
}

impl AsyncRead for VisitorStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            return this.watch_head(cx);
        }
        if buf.filled().len() > before {
            this.life.heard();
        }
        read
    }
}

impl AsyncWrite for VisitorStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch_writing(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = if pieces.len() > 1 && total <= JOINED {
            let mut joined = SmallVec::<[u8; JOINED]>::new();
            pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
            Pin::new(&mut this.stream).poll_write(cx, &joined)
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, pieces)
        };
        this.watch_writing(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
