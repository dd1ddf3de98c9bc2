//! A stream that is served when somebody asks for something, and left alone again afterwards.
//!
//! hyper keeps two buffers of 8 KiB for each connection. Most connections are those of pages that ask once in a while:
//! between two requests they need nothing but the socket, and the keys of TLS.

use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::io::VisitorStream;

/// A stream of which some bytes were read already; they are given on first.
#[derive(Debug)]
pub(super) struct Resumed<S> {
    begun: Bytes,
    stream: S,
}

impl<S> Resumed<S> {
    /// A stream of which these bytes were read already.
    pub(super) fn new(begun: Bytes, stream: S) -> Resumed<S> {
        Resumed { begun, stream }
    }

    /// The same, with bytes that were read and not used.
    pub(super) fn with_unused(self, unused: Bytes) -> Resumed<S> {
        // Copied, because a part of a buffer keeps the whole of it, and nothing most of all.
        Resumed { begun: [unused, self.begun].concat().into(), ..self }
    }
}

/// A stream that can tell, without reading, that there is something to read.
pub(super) trait Readable {
    /// Returns when there is something to read, or the stream has ended. It may be wrong about it.
    fn readable(&self) -> impl Future<Output = ()> + Send;
}

impl Readable for TcpStream {
    async fn readable(&self) {
        // Whoever reads next learns of an error.
        let _ = TcpStream::readable(self).await;
    }
}

impl Readable for Box<TlsStream<VisitorStream>> {
    async fn readable(&self) {
        let (stream, connection) = self.get_ref();
        // A request may have come together with the end of the handshake: then it has been read.
        if connection.wants_read() {
            stream.readable().await;
        }
    }
}

impl<S: Readable + Sync> Readable for Resumed<S> {
    async fn readable(&self) {
        if self.begun.is_empty() {
            self.stream.readable().await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.begun.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let count = this.begun.len().min(buf.remaining());
        buf.put_slice(this.begun.get(..count).unwrap_or_default());
        this.begun.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
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
