//! A request of our own, for calibration and for the edge canary: one connection, one answer, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer's body at most.
const LARGEST: usize = 256 << 10;
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFetched {
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    /// No HTTP answer.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// A body that is too long or broke off.
    #[error("the answer broke off or is too long")]
    Body,
}

/// Sends a request to an address and reads the answer.
pub(super) async fn fetch(host: &str, port: u16, request: Request<Empty<Bytes>>) -> Result<Fetched, NotFetched> {
    let fetching = async {
        let stream = TcpStream::connect((host, port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let fetched = receive(&mut sender, request).await;
        connection.abort();
        fetched
    };
    tokio::time::timeout(PATIENCE, fetching).await.map_err(|_| NotFetched::TimedOut)?
}

async fn receive(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|_| NotFetched::Body)?.to_bytes();
    Ok(Fetched { status: parts.status, headers: parts.headers, body })
}
