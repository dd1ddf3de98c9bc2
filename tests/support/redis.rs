//! A real Redis server of a test's own, on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the line of room `r` is kept under.
const LINE: &str = "anticamera:{r}:line";

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

    /// Kills the server.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the killed server again, with what it has on disk.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.directory, self.address);
        self.wait();
    }

    /// Starts the killed server again, on a new disk.
    pub fn start_again_empty(&mut self) {
        self.directory = tempfile::tempdir().unwrap();
        self.start_again();
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
    server(directory, &["--bind", "127.0.0.1", "--port", &address.port().to_string()])
}

/// A server that keeps what it was told on disk.
fn server(directory: &TempDir, words: &[&str]) -> Child {
    Command::new("redis-server")
        .args(words)
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

/// Asks the server on this port something.
fn ask(port: u16, words: &[&str]) -> String {
    let output =
        Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until it is so.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !holds() {
        assert!(waited < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(50));
        waited += Duration::from_millis(50);
    }
}

/// Several servers that take over from one another; dropping them ends all.
pub struct Family {
    /// What watches or names them: the sentinels, or all servers of a cluster.
    pub ports: Vec<u16>,
    members: Vec<Member>,
    _directories: Vec<TempDir>,
}

struct Member {
    port: u16,
    process: Child,
}

impl Drop for Family {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

impl Family {
    /// One primary, two replicas, and three sentinels that watch them as `line` and miss a server after a second.
    pub fn with_sentinels() -> Family {
        let mut family = Family { ports: Vec::new(), members: Vec::new(), _directories: Vec::new() };
        let primary = free_port();
        family.add(primary, &[]);
        for _ in 0..2 {
            family.add(free_port(), &["--replicaof", "127.0.0.1", &primary.to_string()]);
        }
        until("the replicas follow", || ask(primary, &["INFO", "replication"]).matches("state=online").count() == 2);
        for _ in 0..3 {
            family.add_sentinel(primary);
        }
        until("the sentinels know one another", || {
            family.ports.iter().all(|port| {
                let seen = ask(*port, &["SENTINEL", "MASTER", "line"]);
                let value = |key: &str| seen.lines().skip_while(|line| *line != key).nth(1).unwrap_or_default();
                (value("num-other-sentinels"), value("num-slaves")) == ("2", "2")
            })
        });
        family
    }

    /// Three primaries, each with a replica, that share the slots and miss one another after a second.
    pub fn cluster() -> Family {
        let mut family = Family { ports: Vec::new(), members: Vec::new(), _directories: Vec::new() };
        for _ in 0..6 {
            let (port, bus) = (free_port(), free_port());
            let words = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port"];
            family.add(port, &[words.as_slice(), &[&bus.to_string()]].concat());
            family.ports.push(port);
        }
        let addresses: Vec<String> = family.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = Command::new("redis-cli").args(&create).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        until("the cluster works", || {
            family.ports.iter().all(|port| {
                ask(*port, &["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && ask(*port, &["CLUSTER", "NODES"]).lines().filter(|line| line.contains("connected")).count() == 6
                    && (ask(*port, &["ROLE"]).starts_with("master")
                        || ask(*port, &["INFO", "replication"]).contains("master_link_status:up"))
            })
        });
        family
    }

    fn add(&mut self, port: u16, words: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let process = server(&directory, &[&["--bind", "127.0.0.1", "--port", &port.to_string()], words].concat());
        self.members.push(Member { port, process });
        self._directories.push(directory);
        until("redis-server answers", || ask(port, &["PING"]) == "PONG");
    }

    fn add_sentinel(&mut self, primary: u16) {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\nsentinel monitor line 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds line 1000\nsentinel failover-timeout line 5000\n"
        );
        std::fs::write(&file, text).unwrap();
        let process = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        self.members.push(Member { port, process });
        self.ports.push(port);
        self._directories.push(directory);
        until("a sentinel answers", || ask(port, &["PING"]) == "PONG");
    }

    /// Asks a server something.
    pub fn ask(&self, port: u16, words: &[&str]) -> String {
        ask(port, words)
    }

    /// The server that keeps the line of room `r`, and may be written to.
    pub fn keeper(&self) -> u16 {
        self.keeper_of(LINE)
    }

    /// The server that has this key, and may be written to.
    pub fn keeper_of(&self, key: &str) -> u16 {
        self.keeps(key, |_| true).expect("somebody keeps it")
    }

    fn keeps(&self, key: &str, may: impl Fn(u16) -> bool) -> Option<u16> {
        self.members.iter().map(|member| member.port).find(|port| {
            may(*port) && ask(*port, &["ROLE"]).starts_with("master") && ask(*port, &["EXISTS", key]) == "1"
        })
    }

    /// Those that have keys and may be written to.
    pub fn primaries_with_keys(&self) -> usize {
        let has = |member: &&Member| {
            ask(member.port, &["ROLE"]).starts_with("master") && ask(member.port, &["DBSIZE"]) != "0"
        };
        self.members.iter().filter(has).count()
    }

    /// Kills the server on this port, and lets nobody start it again.
    pub fn kill(&mut self, port: u16) {
        for member in self.members.iter_mut().filter(|member| member.port == port) {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }

    /// Waits until somebody else keeps the line.
    pub fn wait_for_another_keeper_than(&self, port: u16) -> u16 {
        self.wait_for_another_keeper_of(LINE, port)
    }

    /// Waits until somebody else has this key, and whoever is asked for the primary names it.
    pub fn wait_for_another_keeper_of(&self, key: &str, port: u16) -> u16 {
        let others = || self.keeps(key, |other| other != port);
        until("another takes over", || others().is_some());
        let keeper = others().expect("it did");
        until("the sentinels name it", || self.ports.iter().all(|asked| *asked == port || names(*asked, keeper)));
        keeper
    }
}

/// Whether a sentinel takes this server for the primary. Servers of a cluster have no such word.
fn names(sentinel: u16, primary: u16) -> bool {
    let told = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "line"]);
    told.contains("unknown command") || told.contains(&primary.to_string())
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
