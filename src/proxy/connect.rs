//! How a connection to the portal comes to be: name, TCP, TLS if need be, HTTP/1.1.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::request_body::RequestBody;
use super::tls::PortalTls;
use crate::config::PortalUrl;
use crate::domain::time::Mono;

/// How long resolved addresses are used again: long enough for a burst of connections, short enough for a portal that
/// moves.
const NAMES_KEPT: Duration = Duration::from_secs(3);

/// An answer's head, and what is read of its body at once, in bytes at most.
const READ_BUFFER: usize = 64 * 1024;

/// Up to this many bytes, several pieces are copied together: one plain write is cheaper than a gathering one.
const SMALL_WRITE: usize = 4096;

/// A connection to the portal that stands. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Sends one request at a time.
    pub(super) sender: SendRequest<RequestBody>,
    received: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Connection {
    /// Bytes received from the portal so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Addresses that a name of the portal stands for, kept for a moment.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Option<(Mono, Arc<[SocketAddr]>)>>);

impl Names {
    async fn resolve(&self, url: &PortalUrl, now: Mono) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = url.host.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, url.port)]));
        }
        if let Some(kept) = self.kept(now) {
            return Ok(kept);
        }
        let found: Arc<[SocketAddr]> = tokio::net::lookup_host((url.host.as_str(), url.port)).await?.collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&found)));
        Ok(found)
    }

    fn kept(&self, now: Mono) -> Option<Arc<[SocketAddr]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(since, _)| now.since(*since) < NAMES_KEPT).map(|(_, found)| Arc::clone(found))
    }
}

/// Opens a connection to one address of the portal within `limit`, trying everything its name stands for.
///
/// # Errors
/// What the system said last; [`io::ErrorKind::TimedOut`] when the time was over. Nothing of a request was written.
pub(super) async fn open(
    url: &PortalUrl,
    names: &Names,
    tls: Option<&PortalTls>,
    limit: Duration,
    now: Mono,
) -> io::Result<Connection> {
    if url.https {
        // Boxed, because few portals want it, and a handshake's state is large.
        let stream = Box::pin(timeout(limit, connect_tls(url, names, tls, limit, now))).await??;
        return speak(stream).await;
    }
    let stream = timeout(limit, connect(url, names, limit, now)).await??;
    stream.set_nodelay(true)?;
    speak(stream).await
}

async fn speak<S>(stream: S) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let received = Arc::new(AtomicU64::new(0));
    let stream = PortalStream { stream, received: Arc::clone(&received), hearing: Hearing::Listens };
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driven = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the portal ended");
        }
    });
    Ok(Connection { sender, received, task: driven.abort_handle() })
}

async fn connect(url: &PortalUrl, names: &Names, limit: Duration, now: Mono) -> io::Result<TcpStream> {
    let found = names.resolve(url, now).await?;
    let share = limit / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for address in found.iter() {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

async fn connect_tls(
    url: &PortalUrl,
    names: &Names,
    tls: Option<&PortalTls>,
    limit: Duration,
    now: Mono,
) -> io::Result<TlsStream<TcpStream>> {
    let unready = || io::Error::new(io::ErrorKind::InvalidInput, "no TLS towards the portal is set up");
    let tls = tls.ok_or_else(unready)?;
    let name = tls.name_of(&url.host).ok_or_else(unready)?;
    let stream = connect(url, names, limit, now).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls.config.clone()).connect(name, stream).await
}

/// A connection that counts what it receives, writes small messages in one piece, and still reads when the portal
/// has stopped listening.
#[derive(Debug)]
struct PortalStream<S> {
    stream: S,
    received: Arc<AtomicU64>,
    hearing: Hearing,
}

/// Whether the portal takes what is written.
///
/// A portal that answers early and closes makes our next write fail while its answer is there to be read. hyper would
/// give up at the failed write; so what a deaf portal does not take is thrown away, and reading tells how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    Listens,
    Deaf,
}

impl<S: AsyncWrite + Unpin> PortalStream<S> {
    fn write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let [piece] = pieces {
            return stream.poll_write(cx, piece);
        }
        if total(pieces) > SMALL_WRITE {
            return stream.poll_write_vectored(cx, pieces);
        }
        let mut whole = [0; SMALL_WRITE];
        let mut filled = 0;
        for piece in pieces {
            if let Some(place) = whole.get_mut(filled..filled + piece.len()) {
                place.copy_from_slice(piece);
                filled += piece.len();
            }
        }
        stream.poll_write(cx, whole.get(..filled).unwrap_or_default())
    }
}

fn total(pieces: &[IoSlice<'_>]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

impl<S: AsyncRead + Unpin> AsyncRead for PortalStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.received.fetch_add(count as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PortalStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hearing == Hearing::Deaf {
            return Poll::Ready(Ok(total(pieces)));
        }
        match self.write(cx, pieces) {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.hearing = Hearing::Deaf;
                Poll::Ready(Ok(total(pieces)))
            }
            polled => polled,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
