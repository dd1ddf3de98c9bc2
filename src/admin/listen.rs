//! The private listener's socket: TCP, or a Unix socket that only the program's own account can open.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::AdminListen;

/// A bound private listener. A Unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct AdminListener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

/// The private listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen {address}: {error}")]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl AdminListener {
    /// Binds the address. A Unix socket gets mode 0600 before anybody can reach it, and replaces one on which nobody
    /// listens any more. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when the system refuses, or when another process listens there.
    pub async fn bind(listen: &AdminListen) -> Result<AdminListener, BindError> {
        let (address, socket) = match listen {
            AdminListen::Tcp(address) => (address.to_string(), TcpListener::bind(address).await.map(Socket::Tcp)),
            AdminListen::Unix(path) => {
                let socket = bind_unix(path).map(|listener| Socket::Unix { listener, path: path.clone() });
                (format!("unix:{}", path.display()), socket)
            }
        };
        socket.map(AdminListener).map_err(|error| BindError { address, error })
    }

    /// The TCP address bound, with the port that the system chose if port 0 was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<AdminStream> {
        match &self.0 {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| AdminStream::Tcp(stream)),
            Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| AdminStream::Unix(stream)),
        }
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        if let Socket::Unix { path, .. } = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds in a directory that nobody else may enter, sets the mode there, and then moves the socket to its place:
/// between `bind` and `chmod` others could connect otherwise.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    refuse_to_replace_what_is_in_use(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A short name: the path of a Unix socket has at most 107 bytes.
    let private = parent.join(format!(".a{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let inside = private.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    bound
}

fn refuse_to_replace_what_is_in_use(path: &Path) -> io::Result<()> {
    let in_the_way = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !in_the_way.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in the way"));
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(_) => Ok(()),
    }
}

/// One operator's connection.
#[derive(Debug)]
pub(super) enum AdminStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for AdminStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AdminStream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            AdminStream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for AdminStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            AdminStream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            AdminStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AdminStream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            AdminStream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AdminStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            AdminStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_private_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = AdminListener::bind(&AdminListen::Unix(path.clone())).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(BlockingUnixStream::connect(&path).is_ok());
        drop(listener);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _listener = AdminListener::bind(&AdminListen::Unix(path.clone())).await.unwrap();
        assert!(BlockingUnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_socket_in_use_and_a_file_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = AdminListener::bind(&AdminListen::Unix(path.clone())).await.unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");

        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(AdminListener::bind(&AdminListen::Unix(file.clone())).await.is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_port_is_chosen_when_none_is_given() {
        let listener = AdminListener::bind(&AdminListen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }
}
