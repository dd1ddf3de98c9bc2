//! A visitor's stream with a limit on how long it may take nothing of what we send, and small writes joined.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Place;

/// Pieces up to this many bytes together are written with one plain write: for short answers that costs less than a
/// vectored one.
const JOINED: usize = 4096;

/// See the module's description.
#[derive(Debug)]
pub struct VisitorStream {
    stream: TcpStream,
    /// Counted as long as the socket is open, also when the connection has left HTTP.
    _place: Place,
    longest: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl VisitorStream {
    /// A stream that fails when the visitor takes nothing for `longest`.
    pub fn new(stream: TcpStream, place: Place, longest: Duration) -> VisitorStream {
        VisitorStream { stream, _place: place, longest, stuck: None }
    }

    /// The timer exists only while a write is stuck.
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize, Error>>) -> Poll<Result<usize, Error>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let longest = self.longest;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(longest)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the visitor takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for VisitorStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for VisitorStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = if pieces.len() > 1 && total <= JOINED {
            let mut joined = [0; JOINED];
            let mut end = 0;
            for piece in pieces {
                if let Some(space) = joined.get_mut(end..end + piece.len()) {
                    space.copy_from_slice(piece);
                    end += piece.len();
                }
            }
            Pin::new(&mut this.stream).poll_write(cx, joined.get(..end).unwrap_or_default())
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, pieces)
        };
        this.watch(cx, written)
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
