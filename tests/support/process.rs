//! The released program as a process of its own: a configuration in a directory that vanishes, ports that the system
//! chose, its log read line by line, signals by process id.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration: what every test needs stands there, the rest is added to its sections as text.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The portal's addresses.
    pub portals: Vec<SocketAddr>,
    /// What the one room, `r`, protects.
    pub paths: &'static str,
    /// Admissions.
    pub rate: &'static str,
    /// Visitors' address; port 0 is chosen by the system.
    pub listen: String,
    /// More of `[server]`.
    pub server: String,
    /// More of `[server.limits]`.
    pub limits: String,
    /// More of `[portal]`.
    pub portal: String,
    /// More of `[[room]]`.
    pub room: String,
    /// More of `[leak_guard]`.
    pub leak_guard: String,
}

impl Setup {
    /// A room over everything below `/r`, with more admissions than any test needs.
    pub fn in_front_of(portals: &[SocketAddr]) -> Setup {
        Setup {
            portals: portals.to_vec(),
            paths: "/r/**",
            rate: "1000/s",
            listen: "127.0.0.1:0".to_owned(),
            server: String::new(),
            limits: String::new(),
            portal: String::new(),
            room: String::new(),
            leak_guard: String::new(),
        }
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let urls: Vec<String> = self.portals.iter().map(|address| format!("\"http://{address}\"")).collect();
        let Setup { paths, rate, listen, server, limits, portal, room, leak_guard, .. } = self;
        format!(
            "[server]\nlisten = [\"{listen}\"]\n{server}\n\n[server.limits]\n{limits}\n\n\
             [portal]\nurls = [{}]\n{portal}\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
             [[room]]\nname = \"r\"\npaths = [\"{paths}\"]\nadmission_rate = \"{rate}\"\n{room}\n\n\
             [leak_guard]\n{leak_guard}\n",
            urls.join(", ")
        )
    }

    /// Starts the program and waits until it serves.
    pub fn start(&self) -> Proxy {
        Proxy::start(&self.text())
    }
}

/// The running program; dropping it kills the process.
pub struct Proxy {
    /// Where visitors come.
    pub address: SocketAddr,
    /// Where operators come.
    pub admin: SocketAddr,
    child: Child,
    log: Log,
    directory: TempDir,
}

impl Proxy {
    /// Starts the program with this configuration and waits until it serves.
    ///
    /// # Panics
    /// When it does not; the message has its log.
    pub fn start(configuration: &str) -> Proxy {
        Proxy::start_as(configuration, program())
    }

    /// The same by this command, which has to run the program.
    pub fn start_as(configuration: &str, command: Command) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.toml"), configuration).unwrap();
        let (child, log) = spawn(command, &directory);
        let mut proxy = Proxy { address: ([0; 4], 0).into(), admin: ([0; 4], 0).into(), child, log, directory };
        proxy.wait_until_it_serves();
        proxy
    }

    fn wait_until_it_serves(&mut self) {
        let line = self.log.wait_for(|line| line.contains("anticamera serves"));
        let event: Value = serde_json::from_str(&line).unwrap();
        let address = |field: &str| {
            let digits = |c: char| c.is_ascii_digit() || c == ':' || c == '.';
            event[field].as_str().unwrap().trim_matches(|c| !digits(c)).parse().unwrap()
        };
        (self.address, self.admin) = (address("listen"), address("admin"));
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).unwrap_or_else(|| panic!("still running:\n{}", self.log.text()))
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same file and state, on ports that may differ.
    pub fn restart(&mut self) {
        self.restart_as(program());
    }

    /// The same by this command, which has to run the program.
    pub fn restart_as(&mut self, command: Command) {
        (self.child, self.log) = spawn(command, &self.directory);
        self.wait_until_it_serves();
    }

    /// Resident memory now and at its highest, in bytes.
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        Memory { now: field("VmRSS"), peak: field("VmHWM") }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// At present.
    pub now: u64,
    /// The most there ever was.
    pub peak: u64,
}

/// The program, to be run with arguments.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_anticamera"))
}

/// The program, to be started as systemd does: the socket is descriptor 3, and two variables say so.
pub fn activated(socket: &TcpListener) -> Command {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new("bash");
    let script = format!(
        "exec 3<&{0}; [ {0} = 3 ] || exec {0}<&-; export LISTEN_PID=$$ LISTEN_FDS=1; exec {1} \"$@\"",
        socket.as_raw_fd(),
        env!("CARGO_BIN_EXE_anticamera")
    );
    command.args(["-c", &script, "bash"]);
    command
}

fn spawn(mut program: Command, directory: &TempDir) -> (Child, Log) {
    program.args(["run", "--config"]).arg(directory.path().join("config.toml")).stdin(Stdio::null());
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Log::default();
    log.follow(child.stdout.take().unwrap());
    log.follow(child.stderr.take().unwrap());
    (child, log)
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// What a process wrote so far, line by line.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    streams_ended: usize,
}

impl Log {
    fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.0.0.lock().unwrap().lines.push(line);
                log.0.1.notify_all();
            }
            log.0.0.lock().unwrap().streams_ended += 1;
            log.0.1.notify_all();
        });
    }

    /// The first line that fits, as soon as it is there.
    ///
    /// # Panics
    /// When none comes; the message has the whole log.
    pub fn wait_for(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.lines.iter().find(|line| fits(line)) {
                return line.clone();
            }
            let over = lines.streams_ended == 2;
            let (next, waited) = self.0.1.wait_timeout(lines, PATIENCE).unwrap();
            lines = next;
            assert!(!over && !waited.timed_out(), "no such line in the log:\n{}", lines.lines.join("\n"));
        }
    }

    /// The line of the request with this id.
    pub fn access(&self, request_id: &str) -> Value {
        let line = self.wait_for(|line| line.contains(request_id) && line.contains("\"method\""));
        serde_json::from_str(&line).unwrap()
    }

    /// Everything so far; after the process's end, everything.
    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.join("\n")
    }
}

/// What a run that ends by itself leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs the program with these arguments to its end, which must come by itself.
pub fn run(arguments: &[&str]) -> Finished {
    let mut program = program();
    program.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let (output, errors) = (Log::default(), Log::default());
    output.follow(child.stdout.take().unwrap());
    errors.follow(child.stderr.take().unwrap());
    let Some(status) = ended(&mut child) else {
        let _ = child.kill();
        panic!("anticamera {} did not end by itself:\n{}\n{}", arguments.join(" "), output.text(), errors.text());
    };
    let whole = |log: Log| {
        let mut lines = log.0.0.lock().unwrap();
        while lines.streams_ended == 0 {
            lines = log.0.1.wait(lines).unwrap();
        }
        lines.lines.join("\n")
    };
    Finished { code: status.code().unwrap_or(-1), output: whole(output), errors: whole(errors) }
}
