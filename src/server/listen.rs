//! The sockets on which visitors arrive: one per request thread on each address, or those that systemd holds open.

use std::fs::File;
use std::io::Error;
use std::net::{SocketAddr, TcpListener};
use std::task::Poll;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Server;

/// Connections that the system queues until they are accepted.
const BACKLOG: i32 = 4096;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; is another program using it, or is the port reserved for root?")]
pub struct BindError {
    address: SocketAddr,
    source: Error,
}

/// What happens to those who come to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// HTTP.
    Plain,
    /// TLS, with what the configuration has for this address.
    Tls(SocketAddr),
    /// Plain HTTP that is only sent to HTTPS.
    Redirect,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) door: Door,
    pub(super) origin: Origin,
}

/// Where a socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// We opened it: whoever waits on it when we close it is broken off.
    Ours,
    /// Whoever started us holds it open, and the next program goes on with it.
    Inherited,
}

/// The sockets of one request thread.
#[derive(Debug)]
pub struct Listeners(pub(super) Vec<Listener>);

/// Sockets that are open already, by the address they listen on.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Those that systemd handed over (`LISTEN_FDS`); the first call takes them all.
    pub fn from_environment() -> Inherited {
        let mut handed = listenfd::ListenFd::from_env();
        let sockets = (0..handed.len()).filter_map(|index| match handed.take_tcp_listener(index) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, index, "a socket that was handed over is no TCP listener; it is not used");
                None
            }
        });
        Inherited(sockets.collect())
    }

    fn at(&self, address: SocketAddr) -> Option<&TcpListener> {
        self.0.iter().find(|socket| socket.local_addr().is_ok_and(|at| at == address))
    }

    /// Says which of them nobody wants.
    fn warn_of_unused(&self, wanted: &[(SocketAddr, Door)]) {
        for address in self.0.iter().filter_map(|socket| socket.local_addr().ok()) {
            if wanted.iter().all(|(one, _)| *one != address) {
                tracing::warn!(%address, "a socket was handed over for an address that the configuration does not have");
            }
        }
    }
}

impl Listeners {
    /// Opens `threads` sets of listeners on the same addresses, or takes those that are open. A port 0 is chosen once for
    /// all of them.
    ///
    /// # Errors
    /// [`BindError`] names the address.
    pub fn bind(server: &Server, threads: usize, inherited: &Inherited) -> Result<Vec<Listeners>, BindError> {
        let plain = server.listen.iter().map(|address| (*address, Door::Plain));
        let tls = server.tls_listen().into_iter().map(|address| (address, Door::Tls(address)));
        let redirect = server.redirect_listen.iter().map(|address| (*address, Door::Redirect));
        let wanted: Vec<(SocketAddr, Door)> = plain.chain(tls).chain(redirect).collect();
        inherited.warn_of_unused(&wanted);
        let mut sets: Vec<Listeners> = (0..threads).map(|_| Listeners(Vec::new())).collect();
        for (address, door) in wanted {
            let failed = |source| BindError { address, source };
            match inherited.at(address) {
                Some(socket) => share(socket, door, &mut sets).map_err(failed)?,
                None => open(address, door, &mut sets).map_err(failed)?,
            }
        }
        Ok(sets)
    }

    /// The addresses in fact listened on, of those that serve this kind of visitor.
    pub fn addresses(&self, kind: fn(&Door) -> bool) -> Vec<SocketAddr> {
        let fitting = self.0.iter().filter(|listener| kind(&listener.door));
        fitting.filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }
}

fn open(mut address: SocketAddr, door: Door, sets: &mut [Listeners]) -> Result<(), Error> {
    refuse_if_taken(address)?;
    for set in sets {
        let socket = listen(address)?;
        address = socket.local_addr()?;
        set.0.push(Listener { socket, door, origin: Origin::Ours });
    }
    Ok(())
}

/// One socket for all threads: only whoever opened it could make more of them.
fn share(socket: &TcpListener, door: Door, sets: &mut [Listeners]) -> Result<(), Error> {
    socket.set_nonblocking(true)?;
    for set in sets {
        set.0.push(Listener { socket: socket.try_clone()?, door, origin: Origin::Inherited });
    }
    Ok(())
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

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = socket_for(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A file descriptor kept for the moment when there are no more: with it, whoever knocks can be sent away instead of
/// waiting for an answer that never comes.
#[derive(Debug)]
pub(super) struct Reserve(Option<File>);

impl Reserve {
    /// Takes one while there are some.
    pub(super) fn take() -> Reserve {
        Reserve(File::open("/dev/null").ok())
    }

    /// Sends the next one away who waits at the door.
    pub(super) async fn send_away(&mut self, listener: &tokio::net::TcpListener) {
        self.0 = None;
        std::future::poll_fn(|cx| {
            // Accepted and dropped, if somebody is there.
            let _ = listener.poll_accept(cx);
            Poll::Ready(())
        })
        .await;
        *self = Reserve::take();
    }
}

/// Whether the system had no descriptor or memory left for a connection (accept(2)).
pub(super) fn is_out_of_means(error: &Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}
