//! The portal's sockets. While it refuses, its port stays bound but nobody listens, so that connections are refused
//! and no other program takes the port.

use std::net::SocketAddr;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Mode, Portal};

/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;

/// The listener the proxy connects to.
pub(super) struct Front {
    address: SocketAddr,
    socket: Socket,
}

enum Socket {
    Listening(TcpListener),
    Refusing(TcpSocket),
}

impl Front {
    pub(super) fn open(address: SocketAddr) -> std::io::Result<Front> {
        let listener = bound(address)?.listen(BACKLOG)?;
        Ok(Front { address: listener.local_addr()?, socket: Socket::Listening(listener) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, or only keeps the port.
    fn follow(self, mode: Mode) -> std::io::Result<Front> {
        let address = self.address;
        let socket = match (self.socket, mode) {
            (Socket::Listening(listener), Mode::Refuse) => {
                drop(listener);
                Socket::Refusing(bound(address)?)
            }
            (Socket::Refusing(socket), Mode::Ok | Mode::Error(_) | Mode::Slow(_)) => {
                Socket::Listening(socket.listen(BACKLOG)?)
            }
            (socket, _) => socket,
        };
        Ok(Front { address, socket })
    }

    /// The next connection; waits for ever while refusing.
    async fn accept(&self) -> std::io::Result<TcpStream> {
        match &self.socket {
            Socket::Listening(listener) => listener.accept().await.map(|(stream, _)| stream),
            Socket::Refusing(_) => std::future::pending().await,
        }
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

pub(super) async fn serve_front(mut front: Front, portal: Rc<Portal>) {
    let mut mode = portal.mode();
    loop {
        tokio::select! {
            Ok(stream) = front.accept() => {
                tokio::task::spawn_local(until_refusing(stream, Rc::clone(&portal)));
            }
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *mode.borrow_and_update();
                front = match front.follow(now) {
                    Ok(front) => front,
                    Err(fault) => return eprintln!("loadtest portal: cannot follow {now:?}: {fault}"),
                };
            }
        }
    }
}

pub(super) async fn serve_control(listener: TcpListener, portal: Rc<Portal>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(serve(stream, Rc::clone(&portal)));
    }
}

/// Serves a connection, and drops it when the portal begins to refuse.
async fn until_refusing(stream: TcpStream, portal: Rc<Portal>) {
    let mut mode = portal.mode();
    tokio::select! {
        () = serve(stream, Rc::clone(&portal)) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

async fn serve(stream: TcpStream, portal: Rc<Portal>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let portal = Rc::clone(&portal);
        async move { Ok::<_, std::convert::Infallible>(portal.answer(request).await) }
    });
    // A connection that breaks off is the other side's matter.
    let _ = http1::Builder::new().writev(false).serve_connection(TokioIo::new(stream), service).await;
}
