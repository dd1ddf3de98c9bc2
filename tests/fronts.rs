//! Servers that end TLS in front of the waiting room, configured as docs/install.md says: visitors are told apart by their
//! own addresses, cookies are bound to the host, protocols change.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::caches::cache;
use crate::support::app::{Running, room_of};
use crate::support::portal::{Script, Step};

const DOCUMENTATION: &str = include_str!("../docs/install.md");

/// What the documentation shows in this language, for other addresses and files.
fn example(language: &str, changes: &[(&str, &str)]) -> String {
    let block = DOCUMENTATION.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    changes.iter().fold(block.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} stands in the example");
        text.replace(from, to)
    })
}

/// A server in front; dropping it ends it.
struct Front {
    address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Front {
    /// Starts it with a certificate of its own making; `configured` says its program, arguments and configuration.
    async fn start(configured: impl FnOnce(&str, SocketAddr) -> (&'static str, Vec<String>)) -> Front {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let place = directory.path().to_str().unwrap().to_owned();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=portal.example"])
            .args(["-addext", "subjectAltName=DNS:portal.example", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{place}/key.pem"), "-out", &format!("{place}/cert.pem")])
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "openssl makes a certificate");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (program, arguments) = configured(&place, address);
        let mut command = cache::program(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(fs::File::create(directory.path().join("output")).unwrap()).spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            let output = || fs::read_to_string(directory.path().join("output")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "{program} ended: {}", output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Front { address, child, directory }
    }

    /// What curl gets, head and body.
    async fn curl(&self, from: &str, arguments: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "20", "--interface", from]);
        curl.arg("--cacert").arg(self.directory.path().join("cert.pem"));
        curl.args(["--connect-to", &format!("portal.example:443:127.0.0.1:{}", self.address.port())]).args(arguments);
        let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It has children of its own, which a proper end takes along.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn nginx(running: &Running) -> impl FnOnce(&str, SocketAddr) -> (&'static str, Vec<String>) {
    let to = running.address;
    move |place, address| {
        let servers = example(
            "nginx",
            &[
                ("127.0.0.1:8080", &to.to_string()),
                ("listen 443", &format!("listen {address}")),
                ("/etc/ssl/portal.pem", &format!("{place}/cert.pem")),
                ("/etc/ssl/portal.key", &format!("{place}/key.pem")),
            ],
        );
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .collect();
        let text = format!(
            "daemon off; worker_processes 1; pid {place}/pid; error_log stderr;\nevents {{}}\n\
             http {{ access_log off;\n{folders}{servers} }}"
        );
        fs::write(format!("{place}/nginx.conf"), text).unwrap();
        ("nginx", vec!["-e".into(), "stderr".into(), "-c".into(), format!("{place}/nginx.conf")])
    }
}

fn haproxy(running: &Running) -> impl FnOnce(&str, SocketAddr) -> (&'static str, Vec<String>) {
    let to = running.address;
    move |place, address| {
        let pem = format!("{place}/both.pem");
        let parts = ["cert.pem", "key.pem"].map(|part| fs::read_to_string(format!("{place}/{part}")).unwrap());
        fs::write(&pem, parts.concat()).unwrap();
        let changes = [
            ("127.0.0.1:8080", to.to_string()),
            ("bind :443", format!("bind {address}")),
            ("/etc/ssl/portal-with-key.pem", pem),
        ];
        let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
        fs::write(format!("{place}/haproxy.cfg"), example("haproxy", &changes)).unwrap();
        ("haproxy", vec!["-db".into(), "-f".into(), format!("{place}/haproxy.cfg")])
    }
}

/// The program, as the documentation configures it behind another server.
async fn behind_a_server() -> Running {
    let server = example("toml", &[("[server]\n", ""), ("listen = [\"127.0.0.1:8080\"]\n", "")]);
    room_of("100/s").with_server(&server).start().await
}

async fn visitors_are_told_apart(running: &Running, front: &Front) {
    for last in [7, 8] {
        let from = Ipv4Addr::new(127, 0, 0, last).to_string();
        let page = front.curl(&from, &["--header", "Accept: text/html", "https://portal.example/fair/"]).await;
        assert!(page.contains(" 200"), "{page}");
        assert!(page.to_ascii_lowercase().contains("set-cookie: __host-anticamera-pass-fair="), "{page}");
        let seen = running.portal.seen();
        let seen = seen.iter().rfind(|seen| seen.target == "/fair/").unwrap();
        assert_eq!(
            seen.header("x-forwarded-for"),
            Some(format!("{from}, 127.0.0.1").as_str()),
            "visitor, server in front"
        );
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("host"), Some("portal.example"));
    }
}

/// Key and answer of RFC 6455 section 1.3; servers in front look at them.
async fn protocols_change(running: &Running, front: &Front) {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
    running.portal.script("/socket", [Script::new([Step::Send(switching.into()), Step::Close])]);
    let headers = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut arguments = vec!["--http1.1", "https://portal.example/socket"];
    arguments.extend(headers.iter().flat_map(|header| ["--header", header]));
    let answer = front.curl("127.0.0.1", &arguments).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn behind_nginx_as_documented() {
    let running = behind_a_server().await;
    let front = Front::start(nginx(&running)).await;
    visitors_are_told_apart(&running, &front).await;
    protocols_change(&running, &front).await;
}

#[tokio::test]
async fn behind_haproxy_as_documented() {
    let running = behind_a_server().await;
    let front = Front::start(haproxy(&running)).await;
    visitors_are_told_apart(&running, &front).await;
    protocols_change(&running, &front).await;
}
