//! A private Apache Tomcat 10 from Debian's packages with its examples web application, or with pages of a test's own: a
//! real portal to stand in front of, with sessions, forms and WebSockets.
//!
//! Each instance has its own directory and a port that the system chose, and ends with the test that started it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

const HOME: &str = "/usr/share/tomcat10";
const EXAMPLES: &str = "/usr/share/tomcat10-examples/examples";
/// What compiles pages; Debian installs it with Tomcat, but not among its libraries.
const COMPILER: &str = "/usr/share/java/eclipse-jdt-core.jar";
/// Time between two lines of the log while it starts, on a slow and busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running Tomcat; dropping it ends the process and removes its directory.
pub struct Tomcat {
    address: SocketAddr,
    process: Child,
    _base: tempfile::TempDir,
}

impl Tomcat {
    /// Starts an instance and waits until it answers on its port.
    ///
    /// # Panics
    /// When Tomcat is not installed or does not start; the message says what it wrote.
    pub fn start() -> Tomcat {
        Tomcat::start_in(tempfile::tempdir().expect("a directory for Tomcat"), |_| {
            format!(
                r#"<Context path="/examples" docBase="{EXAMPLES}" useRelativeRedirects="false"><Manager pathname=""/></Context>"#
            )
        })
    }

    /// Starts one of several servers, with these pages (name and JSP) below `/portal`; sessions carry its name.
    ///
    /// # Panics
    /// As [`Tomcat::start`].
    pub fn start_with_pages(name: &str, pages: &[(&str, &str)]) -> Tomcat {
        Tomcat::start_in(tempfile::tempdir().expect("a directory for Tomcat"), |base| {
            let place = base.join("portal");
            fs::create_dir(&place).expect("a directory for pages");
            for (file, text) in pages {
                fs::write(place.join(file), text).expect("a page");
            }
            fs::create_dir(base.join("lib")).expect("a directory for libraries");
            std::os::unix::fs::symlink(COMPILER, base.join("lib/compiler.jar")).expect("a link to the compiler");
            let server = base.join("conf/server.xml");
            let text = fs::read_to_string(&server).expect("Tomcat's server.xml");
            let named = format!("<Engine name=\"Catalina\" jvmRoute=\"{name}\"");
            fs::write(&server, text.replace("<Engine name=\"Catalina\"", &named)).expect("Tomcat's server.xml");
            format!(r#"<Context path="/portal" docBase="{}"><Manager pathname=""/></Context>"#, place.display())
        })
    }

    fn start_in(base: tempfile::TempDir, context: impl FnOnce(&Path) -> String) -> Tomcat {
        assert!(
            Path::new(HOME).join("bin/bootstrap.jar").exists() && Path::new(EXAMPLES).exists(),
            "Tomcat is missing: install tomcat10 and tomcat10-examples, or run tests/run, which does"
        );
        lay_out(base.path());
        let server = base.path().join("conf/server.xml");
        let context = context(base.path());
        let text = fs::read_to_string(&server).expect("Tomcat's server.xml");
        fs::write(&server, text.replace("CONTEXT", &context)).expect("Tomcat's server.xml");
        let mut process = java(base.path()).spawn().expect("java, which comes with the package tomcat10");
        let log = follow(process.stderr.take().expect("a pipe from Tomcat"));
        // From here on the process ends with this value, whatever happens.
        let mut tomcat = Tomcat { address: (Ipv4Addr::LOCALHOST, 0).into(), process, _base: base };
        match port_announced(&log) {
            Ok(port) => tomcat.address.set_port(port),
            Err(log) => panic!("Tomcat did not start:\n{log}"),
        }
        TcpStream::connect_timeout(&tomcat.address, START_TIMEOUT).expect("Tomcat's port");
        tomcat
    }

    /// One instance for all tests of a process that run at the same time; it ends with the last of them.
    pub fn shared() -> Arc<Tomcat> {
        static SHARED: Mutex<Weak<Tomcat>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let tomcat = Arc::new(Tomcat::start());
            *shared = Arc::downgrade(&tomcat);
            tomcat
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tomcat {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `CATALINA_BASE`: Debian's settings, but a server of our own.
fn lay_out(base: &Path) {
    for directory in ["conf", "logs", "temp", "webapps", "work"] {
        fs::create_dir(base.join(directory)).expect("Tomcat's directories");
    }
    for file in ["catalina.properties", "context.xml", "web.xml"] {
        let from = Path::new(HOME).join("etc").join(file);
        fs::copy(&from, base.join("conf").join(file)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    fs::write(base.join("conf/server.xml"), SERVER_XML).expect("Tomcat's server.xml");
    fs::write(base.join("conf/logging.properties"), LOGGING).expect("Tomcat's logging.properties");
}

/// Port 0 is chosen by the system, and the log names it. There is no shutdown port. Redirects name the host asked for,
/// as older portals do, so that rewriting has something to rewrite.
const SERVER_XML: &str = r#"<Server port="-1">
  <Service name="Catalina">
    <Connector port="0" address="127.0.0.1" protocol="HTTP/1.1" connectionTimeout="20000" maxThreads="64"
               maxPostSize="-1" maxSwallowSize="-1"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false" deployOnStartup="false">
        CONTEXT
      </Host>
    </Engine>
  </Service>
</Server>
"#;

/// Everything to the console, which is our pipe.
const LOGGING: &str = "handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = INFO
java.util.logging.ConsoleHandler.formatter = org.apache.juli.OneLineFormatter
";

fn java(base: &Path) -> Command {
    let property = |name: &str, value: &Path| format!("-D{name}={}", value.display());
    let mut java = Command::new("java");
    java.args(["-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(property("catalina.home", Path::new(HOME)))
        .arg(property("catalina.base", base))
        .arg(property("java.io.tmpdir", &base.join("temp")))
        .arg(property("java.util.logging.config.file", &base.join("conf/logging.properties")))
        .arg("-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager")
        .args(["-classpath", &format!("{HOME}/bin/bootstrap.jar:{HOME}/bin/tomcat-juli.jar")])
        .args(["org.apache.catalina.startup.Bootstrap", "start"])
        .current_dir(base)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // The log goes to standard error.
        .stderr(Stdio::piped());
    java
}

/// Reads the log until the process ends, so that it never blocks on a full pipe.
fn follow(log: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (lines, followed) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    followed
}

/// The port in `Starting ProtocolHandler ["http-nio-127.0.0.1-auto-1-40403"]`, which comes once everything is
/// deployed; or else the log so far.
fn port_announced(log: &mpsc::Receiver<String>) -> Result<u16, String> {
    let mut so_far = String::new();
    while let Ok(line) = log.recv_timeout(START_TIMEOUT) {
        if let Some((_, handler)) = line.split_once("Starting ProtocolHandler [\"http-nio-") {
            let port = handler.trim_end_matches("\"]").rsplit('-').next().and_then(|port| port.parse().ok());
            return port.ok_or(line);
        }
        so_far.push_str(&line);
        so_far.push('\n');
    }
    Err(so_far)
}
