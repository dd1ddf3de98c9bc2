//! A real Redis server of a test's own, on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server; dropping it ends it.
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
    directory: TempDir,
}

impl Redis {
    /// Starts a server that keeps what it was told on disk.
    pub fn start() -> Redis {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let process = spawn(&directory, address);
        let redis = Redis { address, process, directory };
        redis.wait();
        redis
    }

    /// Kills the server and starts it again, with what it has on disk.
    pub fn kill_and_start(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = spawn(&self.directory, self.address);
        self.wait();
    }

    /// Asks the server something.
    pub fn ask(&self, words: &[&str]) -> String {
        let port = self.address.port().to_string();
        let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait(&self) {
        let mut waited = Duration::ZERO;
        while self.ask(&["PING"]) != "PONG" {
            assert!(waited < PATIENCE, "redis-server does not answer");
            thread::sleep(Duration::from_millis(20));
            waited += Duration::from_millis(20);
        }
    }
}

fn spawn(directory: &TempDir, address: SocketAddr) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
