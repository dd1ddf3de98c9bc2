//! An answer on its way to the visitor: while it is, the connection is busy.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::http2::Delivery;
use super::life::UnderWay;
use crate::body::{Body, BodyError};

/// A body that notes how it gets on.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    delivery: Option<Arc<Delivery>>,
    _under_way: UnderWay,
}

impl Answer {
    /// The body of the answer to this request.
    pub(super) fn new(body: Body, under_way: UnderWay) -> Answer {
        Answer { body, delivery: Delivery::current(), _under_way: under_way }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Some(delivery) = &this.delivery {
            if polled.is_ready() { delivery.moved() } else { delivery.waits() }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
