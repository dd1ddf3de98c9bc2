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
    Tls(#[from] rustls::Error),
    /// No HTTP answer.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// A body that is too long or broke off.
    #[error("the answer broke off or is too long")]
    Body,
}

/// Sends a request to an address, over TLS if need be, and reads the answer.
pub(crate) async fn fetch(
    host: &str,
    port: u16,
    scheme: Scheme,
    request: Request<Empty<Bytes>>,
) -> Result<Fetched, NotFetched> {
    let fetching = async {
        let stream = TcpStream::connect((host, port)).await?;
        match scheme {
            Scheme::Http => exchange(stream, request).await,
            Scheme::Https => {
                let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
                exchange(connector()?.connect(name, stream).await?, request).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, fetching).await.map_err(|_| NotFetched::TimedOut)?
}

/// TLS with the certificate authorities that this system trusts (`SSL_CERT_FILE` names others).
fn connector() -> Result<TlsConnector, NotFetched> {
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
