//! The visitors' sockets: one listener per request thread on the same address, TLS, HTTP/1.1 and HTTP/2, every wait
//! limited, drain.

mod announce;
mod answer;
mod connections;
mod http2;
mod io;
mod life;
mod listen;
mod resumed;
mod sessions;
mod suites;
pub mod tls;

use std::convert::Infallible;
use std::io::{Error, Write};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2 as hyper_http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub use self::connections::Connections;
pub use self::listen::{BindError, Door, Inherited, Listeners};
pub use self::tls::Tls;

use self::answer::Answer;
use self::connections::{Place, Speaking};
use self::http2::{Metered, Streams};
use self::io::VisitorStream;
use self::life::{Ending, Life, Protocol, Rest};
use self::listen::{Listener, Origin, Reserve, is_out_of_means};
use self::resumed::{Readable, Resumed};
use crate::config::Limits;
use crate::domain::client::ClientPrefix;
use crate::domain::proxy_protocol::ForWhom;
use crate::gateway::Gateway;
use crate::gateway::connection::{Connection, Peer, Tls as TlsFacts};

/// Pause after the system refused to accept a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Headers that hyper takes when it is told nothing; told a number, even this one, it puts their places on the heap for
/// each request.
const HYPERS_MAX_HEADERS: usize = 100;
/// Bytes of one HTTP/2 answer that are kept for a visitor ahead of what its windows allow.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// When the drain begins: nobody else is at the door once nobody came for so long, and it closes at the latest then.
const NOBODY_MORE: Duration = Duration::from_millis(20);
const DOOR_CLOSES: Duration = Duration::from_millis(500);
/// When the drain begins: how long a connection may still bring a request. It is told with the answer that it was the
/// last one. Longer than clients in a hurry are silent, and than a machine under load stalls.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// How long a connection that was told to end may take for it while nothing is under way.
const FAREWELL: Duration = Duration::from_secs(5);
/// After how long without a request a connection gives back what it needs for one. Browsers ask for all that a page needs
/// sooner than that.
const RESTS_AFTER: Duration = Duration::from_millis(250);
/// How often idle connections to the portal are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// What is said to whoever finds every place taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nCache-Control: private, no-store\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";

/// What a request thread serves with.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Answers requests.
    pub gateway: Arc<Gateway>,
    /// Certificates in force.
    pub tls: watch::Receiver<Arc<Tls>>,
    /// Time and size limits in force.
    pub limits: watch::Receiver<Limits>,
    /// The count of connections.
    pub connections: Arc<Connections>,
    /// Becomes true when the program drains.
    pub drain: watch::Receiver<bool>,
}

/// A connection that was accepted.
struct Visit {
    serving: Serving,
    limits: Limits,
    door: Door,
    life: Arc<Life>,
    /// Counted until it has no requests to bring any more.
    _speaking: Speaking,
}

/// How a connection that rested goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rested {
    /// It is to be served.
    ForNow,
    /// It has brought nothing more.
    ForGood,
}

impl Serving {
    /// Accepts and serves connections until the drain begins and those under way are done or their time is over.
    ///
    /// # Errors
    /// When a listener cannot be taken over by the runtime.
    pub async fn run(self, listeners: Listeners) -> Result<(), Error> {
        let mut accepting = tokio::task::JoinSet::new();
        for Listener { socket, door, origin } in listeners.0 {
            let listener = TcpListener::from_std(socket)?;
            accepting.spawn(self.clone().accept(listener, door, origin));
        }
        let gateway = self.gateway.clone();
        let sweeping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                gateway.close_unused();
            }
        });
        let mut drain = self.drain.clone();
        begun(&mut drain).await;
        while accepting.join_next().await.is_some() {}
        sweeping.abort();
        self.wait_for_connections().await;
        Ok(())
    }

    async fn wait_for_connections(&self) {
        let limit = self.limits.borrow().drain_timeout;
        let all_closed = async {
            while self.connections.speaking_http() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(limit, all_closed).await.is_err() {
            tracing::warn!(
                connections = self.connections.speaking_http(),
                "some visitors were cut off: their requests took longer than server.limits.drain_timeout"
            );
        }
    }

    /// Takes connections until the drain begins, and then those that the system has already let in: closing the
    /// listener would break them off, unless the next program goes on with it.
    async fn accept(self, listener: TcpListener, door: Door, origin: Origin) {
        let mut drain = self.drain.clone();
        let mut reserve = Reserve::take();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.take_in(accepted, door, &listener, &mut reserve).await,
                () = begun(&mut drain) => break,
            }
        }
        if origin == Origin::Inherited {
            return;
        }
        let latecomers = async {
            while let Ok(accepted) = timeout(NOBODY_MORE, listener.accept()).await {
                self.take_in(accepted, door, &listener, &mut reserve).await;
            }
        };
        // A rush of visitors does not keep the door open.
        let _ = timeout(DOOR_CLOSES, latecomers).await;
    }

    async fn take_in(
        &self,
        accepted: Result<(TcpStream, SocketAddr), Error>,
        door: Door,
        listener: &TcpListener,
        reserve: &mut Reserve,
    ) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                if is_out_of_means(&error) {
                    reserve.send_away(listener).await;
                }
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        let limits = self.limits.borrow().clone();
        let Some(place) = self.connections.take(&limits) else { return turn_away(stream, door) };
        let _speaking = self.connections.speak();
        let visit = Visit { serving: self.clone(), limits, door, life: Life::begin(), _speaking };
        tokio::spawn(visit.serve(stream, peer, place));
    }
}

/// Says to whoever finds every place taken that it is so, as far as that costs nothing; an honest client tries again.
fn turn_away(stream: TcpStream, door: Door) {
    if let (Ok(mut stream), Door::Plain | Door::Redirect) = (stream.into_std(), door) {
        // A new socket's buffer is empty: this does not wait, and a visitor who has gone misses nothing.
        let _ = stream.write(FULL);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

impl Visit {
    async fn serve(self, mut stream: TcpStream, peer: SocketAddr, mut place: Place) {
        // Without it small answers wait for the visitor's acknowledgement; failing to set it only costs that.
        let _ = stream.set_nodelay(true);
        let peer = peer.ip();
        let relation = self.serving.gateway.peer(peer);
        let (for_whom, begun) = match relation {
            Peer::Announcing => match timeout(self.limits.handshake_timeout, announce::read(&mut stream)).await {
                Ok(Ok(said)) => said,
                Ok(Err(error)) => return tracing::debug!(%error, %peer, "no PROXY header"),
                Err(_) => return,
            },
            Peer::Client | Peer::Proxy => (None, Bytes::new()),
        };
        if !self.has_room_for(for_whom, peer, relation, &mut place) {
            return turn_away(stream, self.door);
        }
        let stream = VisitorStream::new(stream, begun, place, self.life.clone(), &self.limits);
        match self.door {
            Door::Plain => self.http1(stream, Connection::plain(peer, for_whom)).await,
            Door::Redirect => self.redirect(stream).await,
            // Boxed, because TLS is large, and connections without it are not to be.
            Door::Tls(address) => Box::pin(self.over_tls(address, stream, peer, for_whom)).await,
        }
    }

    async fn over_tls(&self, address: SocketAddr, stream: VisitorStream, peer: IpAddr, for_whom: Option<ForWhom>) {
        // Boxed, because the handshake is soon over, and this lasts as long as the connection.
        let Some(standing) = Box::pin(self.handshake(address, stream)).await else { return };
        let is_http2 = standing.speaks_http2();
        let facts = TlsFacts { reach: standing.reach, client_chain: standing.client_chain };
        let connection = Connection::over_tls(peer, for_whom, facts);
        if is_http2 {
            Box::pin(self.http2(standing.stream, connection)).await;
        } else {
            self.http1(Box::new(standing.stream), connection).await;
        }
    }

    /// Whether the client may have one connection more. Proxies bring the connections of many.
    fn has_room_for(&self, for_whom: Option<ForWhom>, peer: IpAddr, relation: Peer, place: &mut Place) -> bool {
        let client = match (for_whom, relation) {
            (Some(client), _) => client.address,
            (None, Peer::Client) => peer,
            (None, Peer::Proxy | Peer::Announcing) => return true,
        };
        place.count_for(ClientPrefix::of(client), self.limits.max_connections_per_client).is_ok()
    }

    async fn handshake(&self, address: SocketAddr, stream: VisitorStream) -> Option<tls::Standing<VisitorStream>> {
        let tls = self.serving.tls.borrow().clone();
        let wall = || self.serving.gateway.wall();
        match timeout(self.limits.handshake_timeout, tls.accept(address, stream, wall)).await {
            Ok(Ok(standing)) => Some(standing),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }

    async fn http1<S>(&self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin + Send + Sync + 'static,
    {
        let connection = Arc::new(connection);
        self.life.speak(Protocol::Http1);
        let mut resting = Some(Resumed::new(Bytes::new(), stream));
        while let Some(mut stream) = resting {
            if self.rest(&stream, &connection).await == Rested::ForGood {
                let _ = timeout(FAREWELL, stream.shutdown()).await;
                break;
            }
            resting = self.http1_until_it_rests(stream, &connection).await;
        }
        self.life.leave_http();
    }

    /// Serves a connection until it ends, or until nothing has happened on it for a while: then it is given back.
    async fn http1_until_it_rests<S>(&self, stream: Resumed<S>, connection: &Arc<Connection>) -> Option<Resumed<S>>
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    {
        let service = self.service(connection.clone());
        let mut served = self.http1_settings().serve_connection(TokioIo::new(stream), service).with_upgrades();
        let drain = self.serving.drain.clone();
        let rests = async {
            // However it was woken, it is not left alone again at once.
            tokio::time::sleep(RESTS_AFTER).await;
            // After an early answer the rest of a body may still come: whoever had not read its beginning would take it for
            // a request.
            self.life.rests(RESTS_AFTER, || !connection.brings_body()).await;
            // Whoever is to go is not left alone any more.
            if *drain.borrow() || self.life.is_old() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.drive(Pin::new(&mut served), |served| served.graceful_shutdown(), connection) => return None,
            () = rests => {}
        }
        let parts = served.into_parts()?;
        if !parts.read_buf.is_empty() {
            // It came along with the request before.
            self.life.heard();
        }
        Some(parts.io.into_inner().with_unused(parts.read_buf))
    }

    /// Waits until there is something to read, or the connection's time is over: how it ends is said by those who serve it.
    /// When the drain begins whoever brings nothing more is left alone until the end.
    async fn rest<S: Readable>(&self, stream: &S, connection: &Connection) -> Rested {
        let mut drain = self.serving.drain.clone();
        let over = self.life.over(&self.limits, self.serving.connections.room(), || connection.has_insider());
        let is_asked = tokio::select! {
            () = stream.readable() => true,
            _ = over => true,
            () = begun(&mut drain) => timeout(LAST_REQUEST, stream.readable()).await.is_ok(),
        };
        if is_asked { Rested::ForNow } else { Rested::ForGood }
    }

    /// Heads and silences have timers of our own: hyper's own would not tell a slow head from a kept connection.
    fn http1_settings(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.header_read_timeout(None).max_header_size(self.limits.max_head_bytes);
        if self.limits.max_headers != HYPERS_MAX_HEADERS {
            http.max_headers(self.limits.max_headers);
        }
        http
    }

    async fn http2<S>(&self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(connection);
        let service = self.service(connection.clone());
        self.life.speak(Protocol::Http2);
        let served = self.http2_settings().serve_connection(TokioIo::new(Metered::new(stream)), service);
        self.drive(pin!(served), |served| served.graceful_shutdown(), &connection).await;
    }

    /// Streams, windows, heads and what is kept to be sent are bounded, and with them a connection's memory.
    fn http2_settings(&self) -> hyper_http2::Builder<Streams> {
        let limits = &self.limits;
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let window = number(limits.http2_window);
        let mut http = hyper_http2::Builder::new(Streams { limit: limits.write_idle_timeout });
        http.timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_streams)
            .initial_connection_window_size(window)
            .initial_stream_window_size(window)
            .max_header_list_size(number(limits.max_head_bytes))
            .max_send_buf_size(HTTP2_SEND_BUFFER);
        http
    }

    async fn redirect(&self, stream: VisitorStream) {
        let (gateway, life) = (self.serving.gateway.clone(), self.life.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let response = gateway.to_https(&request).map(|body| Answer::new(body, life.request()));
            std::future::ready(Ok::<_, Infallible>(response))
        });
        self.life.speak(Protocol::Http1);
        let connection = Connection::plain([0; 4].into(), None);
        let served = self.http1_settings().serve_connection(TokioIo::new(stream), service);
        self.drive(pin!(served), |served| served.graceful_shutdown(), &connection).await;
    }

    /// Answers one connection's requests; once the drain has begun, or the connection is old, each is the last.
    fn service(
        &self,
        connection: Arc<Connection>,
    ) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future: Send> + use<> {
        let life = self.life.clone();
        let serving = Arc::new((self.serving.gateway.clone(), self.serving.drain.clone(), connection));
        service_fn(move |request: Request<Incoming>| {
            let (serving, under_way) = (serving.clone(), life.request());
            let is_last = life.is_old();
            // Boxed, because hyper moves it about before it runs, and it is large: made where it stays, it is never moved.
            Box::into_pin(Box::write(Box::new_uninit(), async move {
                let (gateway, drain, connection) = &*serving;
                let speaks_http1 = request.version() != Version::HTTP_2;
                connection.note_request(request.body());
                let mut response = gateway.handle(request, connection).await;
                under_way.is_followed_by(if connection.brings_body() { Rest::OfABody } else { Rest::Nothing });
                let is_last = is_last || *drain.borrow() || gateway.is_draining();
                if is_last && speaks_http1 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, under_way)))
            }))
        })
    }

    /// Serves a connection until it ends, or brings it to its end when its time is over.
    /// It stays where it is pinned: moved along, it would take its place in memory several times.
    async fn drive<C: Future>(
        &self,
        mut served: Pin<&mut C>,
        say_goodbye: impl FnOnce(Pin<&mut C>),
        connection: &Connection,
    ) {
        let mut drain = self.serving.drain.clone();
        let drained_and_heard = async {
            begun(&mut drain).await;
            // hyper would close an idle connection at once, though a request may just be on its way.
            tokio::time::sleep(LAST_REQUEST).await;
        };
        let over = self.life.over(&self.limits, self.serving.connections.room(), || connection.has_insider());
        tokio::select! {
            // What has come already is read before a connection is taken for silent.
            biased;
            // What goes wrong on one visitor's connection concerns nobody else.
            _ = served.as_mut() => return,
            ending = over => if ending == Ending::Silent { return },
            () = drained_and_heard => {}
        }
        say_goodbye(served.as_mut());
        tokio::select! {
            _ = served => {}
            () = self.life.still(FAREWELL) => {}
        }
    }
}

/// Waits until the drain begins. Its sender lives as long as the program: an error means the same.
async fn begun(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}
