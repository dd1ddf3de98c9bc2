//! The visitors' sockets: one listener per request thread on the same address, HTTP/1.1, every wait limited, drain.

mod io;

use std::io::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections there are, over all threads.
#[derive(Debug, Default)]
pub struct Connections(AtomicUsize);

/// One connection's share of the limit.
#[derive(Debug)]
struct Share(Arc<Connections>);

impl Connections {
    fn take(self: &Arc<Self>, most: usize) -> Option<Share> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let share = Share(self.clone());
        (before < most).then_some(share)
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
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
        accepting.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                gateway.close_unused();
            }
        });
        let mut drain = self.drain.clone();
        // The sender lives as long as the program: an error means the same as a drain.
        let _ = drain.wait_for(|drain| *drain).await;
        accepting.abort_all();
        self.wait_for_connections().await;
        Ok(())
    }

    async fn wait_for_connections(&self) {
        let limit = self.limits.borrow().drain_timeout;
        let all_closed = async {
            while self.connections.count() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(limit, all_closed).await.is_err() {
            tracing::warn!(
                connections = self.connections.count(),
                "some visitors were cut off: their requests took longer than server.limits.drain_timeout"
            );
        }
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let most = self.limits.borrow().max_connections;
            // Above the limit the connection is closed at once: an honest client tries again.
            if let Some(share) = self.connections.take(most) {
                tokio::spawn(self.clone().serve(stream, peer.ip(), share));
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: IpAddr, share: Share) {
        // Without it small answers wait for the visitor's acknowledgement; failing to set it only costs that.
        let _ = stream.set_nodelay(true);
        let limits = self.limits.borrow().clone();
        let gateway = self.gateway.clone();
        let service = service_fn(move |request| {
            let gateway = gateway.clone();
            // Boxed, because hyper moves it about before it runs, and it is large.
            Box::pin(async move { Ok::<_, std::convert::Infallible>(gateway.handle(request, peer).await) })
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_header_size(limits.max_head_bytes);
        if limits.max_headers != HYPERS_MAX_HEADERS {
            http.max_headers(limits.max_headers);
        }
        let connection = http
            .serve_connection(TokioIo::new(VisitorStream::new(stream, limits.write_idle_timeout)), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut drain = self.drain;
        let is_drained = *drain.borrow();
        if !is_drained {
            tokio::select! {
                // What goes wrong on one visitor's connection concerns nobody else.
                _ = connection.as_mut() => return drop(share),
                _ = drain.wait_for(|drain| *drain) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
        drop(share);
    }
}
