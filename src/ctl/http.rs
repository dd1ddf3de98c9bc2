//! The client of the private listener that `ctl` and `diff` use: one request on one connection, over TCP or a Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_MATCH};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use crate::config::{self, AdminListen};

/// How long a request may take in all; a change that raises a rate asks through the edge first.
const LIMIT: Duration = Duration::from_secs(45);
/// Bytes of an answer at most.
const LARGEST: usize = 64 << 20;

/// Where the running program is asked, and with which token.
pub struct Api {
    at: At,
    token: Option<Zeroizing<String>>,
}

enum At {
    Tcp(String),
    Unix(PathBuf),
}

/// What the program answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The revision that the answer is about.
    pub tag: Option<HeaderValue>,
    /// The answer; `null` when it was no JSON.
    pub json: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody can be reached.
    #[error("cannot reach the program at {at}: {error}; is it running, and is this admin.listen?")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The token cannot be read.
    #[error("cannot read the token in {0}: {1}; run as a user who may, or name another file with --token-file")]
    Token(PathBuf, std::io::Error),
    /// Something else answered, or nobody in time.
    #[error("the program at {at} gave no usable answer: {why}")]
    Broken {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
}

impl Api {
    /// The program that a configuration is of, unless another address or token is named.
    ///
    /// # Errors
    /// [`NoAnswer::Token`] when the token cannot be read.
    pub fn new(listen: &AdminListen, token_file: &Path) -> Result<Api, NoAnswer> {
        let at = match listen {
            AdminListen::Unix(path) => At::Unix(path.clone()),
            AdminListen::Tcp(address) if address.ip().is_unspecified() => {
                At::Tcp(format!("127.0.0.1:{}", address.port()))
            }
            AdminListen::Tcp(address) => At::Tcp(address.to_string()),
        };
        let token = std::fs::read_to_string(token_file);
        let token = token.map_err(|error| NoAnswer::Token(token_file.to_owned(), error))?;
        Ok(Api { at, token: Some(Zeroizing::new(token.trim().to_owned())) })
    }

    /// An address as it is typed: `127.0.0.1:9090`, or `unix:` and a path.
    pub fn address(text: &str) -> Option<AdminListen> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(AdminListen::Unix(path.into())),
            None => text.trim_start_matches("http://").trim_end_matches('/').parse().ok().map(AdminListen::Tcp),
        }
    }

    fn shown(&self) -> String {
        match &self.at {
            At::Tcp(address) => address.clone(),
            At::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Asks once. Blocks.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn ask(&self, method: &str, path: &str, seen: Option<&HeaderValue>, body: Vec<u8>) -> Result<Reply, NoAnswer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.broken(error))?;
        runtime.block_on(async {
            let asking = self.exchange(method, path, seen, body);
            tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| Err(self.broken("it takes too long")))
        })
    }

    fn broken(&self, why: impl std::fmt::Display) -> NoAnswer {
        NoAnswer::Broken { at: self.shown(), why: why.to_string() }
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        seen: Option<&HeaderValue>,
        body: Vec<u8>,
    ) -> Result<Reply, NoAnswer> {
        let host = match &self.at {
            At::Tcp(address) => address.as_str(),
            At::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        if let Some(seen) = seen {
            request = request.header(IF_MATCH, seen);
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| self.broken(error))?;
        let unreachable = |error| NoAnswer::Unreachable { at: self.shown(), error };
        match &self.at {
            At::Tcp(address) => self.on(TcpStream::connect(address).await.map_err(unreachable)?, request).await,
            At::Unix(path) => self.on(UnixStream::connect(path).await.map_err(unreachable)?, request).await,
        }
    }

    async fn on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, NoAnswer> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| self.broken(error))?;
        connection.abort();
        let json = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        Ok(Reply { status: head.status, tag: head.headers.get(ETAG).cloned(), json })
    }
}

impl Reply {
    /// What was refused, in words.
    pub fn problem(&self) -> String {
        let detail = self.json.get("detail").and_then(Value::as_str).unwrap_or("no reason was given");
        format!("{}: {detail}", self.status.as_u16())
    }
}

/// The program that a configuration file is of. What is named goes before what the file says; a file that is not needed need not
/// be there.
///
/// # Errors
/// In words: faults of the file, or a token that cannot be read.
pub fn api_of(config: &Path, address: Option<&str>, token_file: Option<&Path>) -> Result<Api, String> {
    let typed = match address {
        Some(address) => {
            let typed = Api::address(address);
            Some(typed.ok_or_else(|| format!("{address:?} is no address: write 127.0.0.1:9090, or unix: and a path"))?)
        }
        None => None,
    };
    let admin = match (&typed, token_file) {
        (Some(_), Some(_)) => None,
        _ => Some(config::load(config).map_err(|faults| faults.to_string())?.admin),
    };
    let listen = typed.or_else(|| admin.as_ref().map(|admin| admin.listen.clone()));
    let token_file = token_file.map(Path::to_owned).or_else(|| admin.map(|admin| admin.token_file));
    let (listen, token_file) = listen.zip(token_file).ok_or("name --address and --token-file")?;
    Api::new(&listen, &token_file).map_err(|error| error.to_string())
}
