//! A request of our own, for calibration and for the edge canary: one connection, one answer, bounded in size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::provider;

/// Bytes of an answer's body at most.
const LARGEST: usize = 256 << 10;
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    /// No TLS.
    #[error("no TLS: {0}")]
    Tls(String),
    /// No HTTP answer.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// A body that is too long or broke off.
    #[error("the answer broke off or is too long")]
    Body,
}

/// How the other side is spoken to.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// Without TLS.
    Plain,
    /// With it.
    Tls(Arc<ClientConfig>, ServerName<'static>),
}

impl Side {
    /// Over TLS, believing the certificate authorities that this system trusts (`SSL_CERT_FILE` names others).
    pub(crate) fn as_browsers_do(host: &str) -> Result<Side, NotFetched> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(|error| NotFetched::Tls(error.to_string()))?;
        Ok(Side::Tls(Arc::new(config.with_root_certificates(roots).with_no_client_auth()), name(host)?))
    }
}

/// A host as the name that its certificate must have.
fn name(host: &str) -> Result<ServerName<'static>, NotFetched> {
    ServerName::try_from(host.to_owned()).map_err(|error| NotFetched::Tls(error.to_string()))
}

/// Sends a request to an address, over TLS if need be, and reads the answer.
pub(crate) async fn fetch(
    host: &str,
    port: u16,
    side: Side,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let fetching = async {
        let stream = TcpStream::connect((host, port)).await?;
        match side {
            Side::Plain => exchange(stream, request).await,
            Side::Tls(config, name) => exchange(TlsConnector::from(config).connect(name, stream).await?, request).await,
        }
    };
    tokio::time::timeout(PATIENCE, fetching).await.map_err(|_| NotFetched::TimedOut)?
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
