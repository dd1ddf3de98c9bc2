//! Connections that leave HTTP (RFC 9110 section 7.8): after the portal's 101, bytes go both ways as they come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::Keep;
use super::pool::Lease;

/// Joins the two sides once both have left HTTP, until one ends, or nothing passes in either direction for
/// `idle_limit`. `keep` lives as long as the connection.
pub(super) fn join(visitor: OnUpgrade, portal: OnUpgrade, lease: Lease, idle_limit: Duration, keep: Option<Keep>) {
    tokio::spawn(async move {
        let ended = match tokio::try_join!(visitor, portal) {
            Ok((visitor, portal)) => {
                let activity = Arc::new(AtomicU64::new(0));
                let visitor = Watched { stream: TokioIo::new(visitor), activity: Arc::clone(&activity) };
                relay(visitor, TokioIo::new(portal), &activity, idle_limit).await
            }
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an upgraded connection ended");
        }
        drop((lease, keep));
    });
}

async fn relay(
    mut visitor: impl AsyncRead + AsyncWrite + Unpin,
    mut portal: impl AsyncRead + AsyncWrite + Unpin,
    activity: &AtomicU64,
    idle_limit: Duration,
) -> io::Result<()> {
    tokio::select! {
        ended = copy_bidirectional(&mut visitor, &mut portal) => ended.map(|_| ()),
        () = fell_silent(activity, idle_limit) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Returns when a whole `limit` has passed without activity.
async fn fell_silent(activity: &AtomicU64, limit: Duration) {
    loop {
        let before = activity.load(Ordering::Relaxed);
        tokio::time::sleep(limit).await;
        if activity.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// A stream that counts whenever something passes.
struct Watched<T> {
    stream: T,
    activity: Arc<AtomicU64>,
}

impl<T> Watched<T> {
    fn count<R>(&self, polled: &Poll<R>) {
        if polled.is_ready() {
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.count(&polled);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn bytes_go_both_ways_until_nothing_passes() {
        let (mut browser, visitor) = duplex(64);
        let (portal, mut server) = duplex(64);
        let activity = Arc::new(AtomicU64::new(0));
        let relayed = tokio::spawn(async move {
            let visitor = Watched { stream: visitor, activity: Arc::clone(&activity) };
            relay(visitor, portal, &activity, Duration::from_secs(60)).await
        });
        let mut read = [0; 4];
        browser.write_all(b"ping").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        server.write_all(b"pong").await.unwrap();
        browser.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"pong");
        assert_eq!(relayed.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
