//! A request of our own, for calibration and for the edge canary: one connection, one answer, bounded in size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::domain::forwarding::Scheme;

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
    /// No TLS.
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// No HTTP answer.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// A body that is too long or broke off.
    #[error("the answer broke off or is too long")]
    Body,
}

/// How an address is spoken to.
#[derive(Clone)]
pub(super) enum Channel {
    /// Plainly.
    Plain,
    /// Over TLS.
    Tls(TlsConnector),
    /// Over TLS, for which this system has nothing fit to be used.
    NoTls(rustls::Error),
}

impl Channel {
    /// Made once for many requests, because reading the system's certificate authorities takes a while.
    pub(super) fn of(scheme: Scheme) -> Channel {
        match scheme {
            Scheme::Http => Channel::Plain,
            Scheme::Https => connector().map_or_else(Channel::NoTls, Channel::Tls),
        }
    }
}

/// Sends a request to an address and reads the answer.
pub(super) async fn fetch(
    host: &str,
    port: u16,
    channel: &Channel,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let fetching = async {
        let stream = TcpStream::connect((host, port)).await?;
        match channel {
            Channel::Plain => exchange(stream, request).await,
            Channel::Tls(connector) => {
                let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
                exchange(connector.connect(name, stream).await?, request).await
            }
            Channel::NoTls(error) => Err(error.clone().into()),
        }
    };
    tokio::time::timeout(PATIENCE, fetching).await.map_err(|_| NotFetched::TimedOut)?
}

/// TLS with the certificate authorities that this system trusts (`SSL_CERT_FILE` names others).
fn connector() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let fetched = receive(&mut sender, request).await;
    connection.abort();
    fetched
}

async fn receive(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|_| NotFetched::Body)?.to_bytes();
    Ok(Fetched { status: parts.status, headers: parts.headers, body })
}
