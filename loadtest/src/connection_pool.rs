//! Keep-alive connections to the proxy, shared by all visitors. A held poll keeps one for itself; nothing else does.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers longer than this are no page of ours.
pub const LONGEST_ANSWER: usize = 4 << 20;

/// One answer, whole.
#[derive(Debug)]
pub struct Received {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The connection could not be made.
    #[error("could not connect: {0}")]
    Connect(std::io::Error),
    /// It ended before the answer was whole.
    #[error("the connection ended: {0}")]
    Ended(Box<dyn std::error::Error + Send + Sync>),
}

/// Keep-alive connections to one address.
#[derive(Debug)]
pub struct ConnectionPool {
    address: SocketAddr,
    idle: RefCell<Vec<Connection>>,
    places: std::sync::Arc<Semaphore>,
    opened: Cell<u64>,
    starved: Cell<u64>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    used: bool,
    _place: OwnedSemaphorePermit,
}

impl ConnectionPool {
    /// A pool of at most `most` connections to `address`.
    pub fn new(address: SocketAddr, most: usize) -> Rc<ConnectionPool> {
        Rc::new(ConnectionPool {
            address,
            idle: RefCell::default(),
            places: std::sync::Arc::new(Semaphore::new(most)),
            opened: Cell::new(0),
            starved: Cell::new(0),
        })
    }

    /// Sends a request and reads its whole answer. When a connection that was used before died, sends once more on a
    /// new one, as browsers do: the server may close an idle connection at any time (RFC 9112, 9.3.1).
    ///
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Received, NoAnswer> {
        let connection = self.connection().await?;
        if !connection.used {
            return self.exchange(connection, request).await;
        }
        match self.exchange(connection, request.clone()).await {
            Err(NoAnswer::Ended(_)) => {
                let fresh = self.connect().await?;
                self.exchange(fresh, request).await
            }
            done => done,
        }
    }

    /// Closes the connections nobody uses.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Forgets the connections the server has closed.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|connection| !connection.sender.is_closed());
    }

    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// How often a request had to wait because the pool was at its limit: the load was then not open-loop.
    pub fn starved(&self) -> u64 {
        self.starved.get()
    }

    async fn connection(&self) -> Result<Connection, NoAnswer> {
        while let Some(mut connection) = self.pop() {
            if connection.sender.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    fn pop(&self) -> Option<Connection> {
        self.idle.borrow_mut().pop()
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        if self.places.available_permits() == 0 {
            self.starved.set(self.starved.get() + 1);
        }
        let place = std::sync::Arc::clone(&self.places).acquire_owned().await.map_err(ended)?;
        let stream = TcpStream::connect(self.address).await.map_err(NoAnswer::Connect)?;
        stream.set_nodelay(true).map_err(NoAnswer::Connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(ended)?;
        tokio::task::spawn_local(connection);
        self.opened.set(self.opened.get() + 1);
        Ok(Connection { sender, used: false, _place: place })
    }

    async fn exchange(&self, mut connection: Connection, request: Request<Full<Bytes>>) -> Result<Received, NoAnswer> {
        let (head, body) = connection.sender.send_request(request).await.map_err(ended)?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(NoAnswer::Ended)?.to_bytes();
        connection.used = true;
        if !connection.sender.is_closed() {
            self.idle.borrow_mut().push(connection);
        }
        Ok(Received { status: head.status, headers: head.headers, body })
    }
}

fn ended(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> NoAnswer {
    NoAnswer::Ended(cause.into())
}
