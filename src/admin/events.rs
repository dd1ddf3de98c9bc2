//! Answers of the private listener: whole ones, and the stream of pictures that a console listens to (server-sent events, HTML
//! standard, section 9.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::status::{Stage, Status};

/// Listeners at once; half of the listener's connections, so that there is always one for a change.
pub(super) const MOST: usize = 16;
/// After this a stream ends, and its listener comes again: shorter than any connection of the listener lives.
const LIFE: Duration = Duration::from_secs(100);
/// When a listener comes again, in milliseconds.
const RETRY: u64 = 500;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AdminBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// Pictures, as they come.
    Events(mpsc::Receiver<Bytes>),
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            AdminBody::Whole(body) => Pin::new(body).poll_frame(cx),
            AdminBody::Events(events) => events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AdminBody::Whole(body) => body.is_end_stream(),
            AdminBody::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AdminBody::Whole(body) => body.size_hint(),
            AdminBody::Events(_) => SizeHint::default(),
        }
    }
}

/// Every picture from now on. A listener that is slow misses some, never the newest.
pub(super) fn stream(status: watch::Receiver<Arc<Status>>, slot: OwnedSemaphorePermit) -> AdminBody {
    let (events, body) = mpsc::channel(1);
    tokio::spawn(async move {
        // Whoever hung up is noticed with the next picture.
        let _ = tokio::time::timeout(LIFE, send(status, events)).await;
        drop(slot);
    });
    AdminBody::Events(body)
}

async fn send(mut status: watch::Receiver<Arc<Status>>, events: mpsc::Sender<Bytes>) {
    let mut retry = format!("retry: {RETRY}\n");
    loop {
        let picture = status.borrow_and_update().clone();
        let text = serde_json::to_string(picture.as_ref()).unwrap_or_default();
        let event = format!("{retry}event: status\nid: {}\ndata: {text}\n\n", picture.updated_at.0);
        retry.clear();
        if events.send(event.into()).await.is_err() || picture.stage == Stage::Draining {
            return;
        }
        tokio::select! {
            () = events.closed() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
    }
}
