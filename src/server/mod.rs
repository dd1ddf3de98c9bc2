//! The visitors' sockets: one listener per request thread on the same address, HTTP/1.1, every wait limited, drain.

mod io;

use std::convert::Infallible;
use std::io::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::body::Body;
use crate::config::Limits;
use crate::gateway::Gateway;
use crate::server::io::VisitorStream;

/// Connections that the system queues until they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after the system refused to accept a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Headers that hyper takes when it is told nothing; told a number, even this one, it puts their places on the heap for
/// each request.
const HYPERS_MAX_HEADERS: usize = 100;
/// When the drain begins: nobody else is at the door once nobody came for so long, and it closes at the latest then.
const NOBODY_MORE: Duration = Duration::from_millis(20);
const DOOR_CLOSES: Duration = Duration::from_millis(500);
/// When the drain begins: how long a connection may still bring a request. It is told with the answer that it was the
/// last one.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// How often idle connections to the portal are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; is another program using it, or is the port reserved for root?")]
pub struct BindError {
    address: SocketAddr,
    source: Error,
}

/// The sockets of one request thread.
#[derive(Debug)]
pub struct Listeners(Vec<std::net::TcpListener>);

impl Listeners {
    /// Opens `threads` sets of listeners on the same addresses. A port 0 is chosen once for all of them.
    ///
    /// # Errors
    /// [`BindError`] names the address.
    pub fn bind(addresses: &[SocketAddr], threads: usize) -> Result<Vec<Listeners>, BindError> {
        let mut sets: Vec<Listeners> = (0..threads).map(|_| Listeners(Vec::new())).collect();
        for address in addresses {
            let mut address = *address;
            refuse_if_taken(address).map_err(|source| BindError { address, source })?;
            for set in &mut sets {
                let listener = listen(address).map_err(|source| BindError { address, source })?;
                address = listener.local_addr().map_err(|source| BindError { address, source })?;
                set.0.push(listener);
            }
        }
        Ok(sets)
    }

    /// The addresses in fact listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

/// Sockets that share a port share it with other programs of the same account too: a second copy of this one would
/// quietly take half of the visitors. A socket that does not share finds out.
fn refuse_if_taken(address: SocketAddr) -> Result<(), Error> {
    socket_for(address)?.bind(&address.into())
}

fn socket_for(address: SocketAddr) -> Result<Socket, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let socket = socket_for(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections there are, over all threads.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    speaking_http: AtomicUsize,
}

/// One connection's place within the limit: lives as long as its socket.
#[derive(Debug)]
pub(super) struct Place(Arc<Connections>);

/// One connection that has requests to bring: an upgraded one has not.
#[derive(Debug)]
struct Speaking(Arc<Connections>);

impl Connections {
    fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        (before < most).then_some(place)
    }

    fn speak(self: &Arc<Self>) -> Speaking {
        self.speaking_http.fetch_add(1, Ordering::Relaxed);
        Speaking(self.clone())
    }

    /// How many may still bring requests: a drain waits for them.
    fn speaking_http(&self) -> usize {
        self.speaking_http.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.0.speaking_http.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request thread serves with.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Answers requests.
    pub gateway: Arc<Gateway>,
    /// Time and size limits in force.
    pub limits: watch::Receiver<Limits>,
    /// The count of connections.
    pub connections: Arc<Connections>,
    /// Becomes true when the program drains.
    pub drain: watch::Receiver<bool>,
}

impl Serving {
    /// Accepts and serves connections until the drain begins and those under way are done or their time is over.
    ///
    /// # Errors
    /// When a listener cannot be taken over by the runtime.
    pub async fn run(self, listeners: Listeners) -> Result<(), Error> {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners.0 {
            let listener = TcpListener::from_std(listener)?;
            accepting.spawn(self.clone().accept(listener));
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
        if tokio::time::timeout(limit, all_closed).await.is_err() {
            tracing::warn!(
                connections = self.connections.speaking_http(),
                "some visitors were cut off: their requests took longer than server.limits.drain_timeout"
            );
        }
    }

    /// Takes connections until the drain begins, and then those that the system has already let in: closing the
    /// listener would break them off.
    async fn accept(self, listener: TcpListener) {
        let mut drain = self.drain.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.take_in(accepted).await,
                () = begun(&mut drain) => break,
            }
        }
        let latecomers = async {
            while let Ok(accepted) = tokio::time::timeout(NOBODY_MORE, listener.accept()).await {
                self.take_in(accepted).await;
            }
        };
        // A rush of visitors does not keep the door open.
        let _ = tokio::time::timeout(DOOR_CLOSES, latecomers).await;
    }

    async fn take_in(&self, accepted: Result<(TcpStream, SocketAddr), Error>) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        let most = self.limits.borrow().max_connections;
        // Above the limit the connection is closed at once: an honest client tries again.
        if let Some(place) = self.connections.take(most) {
            let speaking = self.connections.speak();
            tokio::spawn(self.clone().serve(stream, peer.ip(), place, speaking));
        }
    }

    async fn serve(self, stream: TcpStream, peer: IpAddr, place: Place, speaking: Speaking) {
        // Without it small answers wait for the visitor's acknowledgement; failing to set it only costs that.
        let _ = stream.set_nodelay(true);
        let limits = self.limits.borrow().clone();
        let service = self.service(peer);
        let stream = VisitorStream::new(stream, place, limits.write_idle_timeout);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_header_size(limits.max_head_bytes);
        if limits.max_headers != HYPERS_MAX_HEADERS {
            http.max_headers(limits.max_headers);
        }
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut drain = self.drain;
        let drained_and_heard = async {
            begun(&mut drain).await;
            // hyper would close an idle connection at once, though a request may just be on its way.
            tokio::time::sleep(LAST_REQUEST).await;
        };
        tokio::select! {
            // What goes wrong on one visitor's connection concerns nobody else.
            _ = connection.as_mut() => return drop(speaking),
            () = drained_and_heard => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
        drop(speaking);
    }

    /// Answers one connection's requests; once the drain has begun, each is the last.
    fn service(
        &self,
        peer: IpAddr,
    ) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + use<> {
        let serving = Arc::new((self.gateway.clone(), self.drain.clone()));
        service_fn(move |request| {
            let serving = serving.clone();
            // Boxed, because hyper moves it about before it runs, and it is large.
            Box::pin(async move {
                let (gateway, drain) = &*serving;
                let mut response = gateway.handle(request, peer).await;
                if *drain.borrow() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            })
        })
    }
}

/// Waits until the drain begins. Its sender lives as long as the program: an error means the same.
async fn begun(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}
