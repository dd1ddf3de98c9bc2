//! Load over HTTP/2: `h2load` where every request is the same, and a client of our own for polls, whose cookies differ.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::joined::STATUS;
use super::wrk::Load;
use crate::clock::{Clock, Moment};
use crate::measures::Durations;
use crate::{Context, Failure, Outcome};

/// Requests under way on one connection.
const STREAMS: usize = 4;
/// Connections of our own client.
const CONNECTIONS: usize = 16;

/// Runs `h2load` for `span`.
///
/// # Errors
/// When it is missing, or any answer was an error.
pub(super) async fn h2load(
    address: SocketAddr,
    path: &str,
    cookie: Option<&str>,
    connections: usize,
    span: Duration,
) -> Outcome<Load> {
    let log = tempfile::NamedTempFile::new().context(|| "make a file")?;
    let mut command = Command::new("h2load");
    command.args(["--threads=1", &format!("--duration={}", span.as_secs().max(1)), "--warm-up-time=0"]);
    command.args([
        &format!("--clients={}", (connections / STREAMS).max(1)),
        &format!("--max-concurrent-streams={STREAMS}"),
    ]);
    command.args(["--header=accept: text/html", "--header=accept-language: it"]);
    command.arg("--header=user-agent: Mozilla/5.0 (X11; Linux x86_64)");
    if let Some(cookie) = cookie {
        command.arg(format!("--header=cookie: {cookie}"));
    }
    command.arg(format!("--log-file={}", log.path().display()));
    let output = command.arg(format!("https://{address}{path}")).kill_on_drop(true).output().await;
    let output = output.context(|| "start h2load (Debian's package is nghttp2-client)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = std::fs::read_to_string(log.path()).context(|| "h2load's log")?;
    read(&lines, span).ok_or_else(|| Failure::new(format!("h2load: {said}{}", String::from_utf8_lossy(&output.stderr))))
}

/// Reads h2load's log: start in microseconds, status, duration in microseconds; `None` when there are errors or nothing.
fn read(lines: &str, span: Duration) -> Option<Load> {
    let mut durations = Durations::default();
    let mut requests = 0;
    for line in lines.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let status: u16 = fields.next()?.parse().ok()?;
        let micros: u64 = fields.next()?.parse().ok()?;
        if !(200..300).contains(&status) {
            return None;
        }
        requests += 1;
        durations.add(Duration::from_micros(micros));
    }
    (requests > 0).then(|| load(requests, &durations, span))
}

fn load(requests: u64, durations: &Durations, span: Duration) -> Load {
    let figures = durations.figures();
    let per_second = requests as f64 / span.as_secs_f64().max(1.0);
    Load { requests, per_second, p50_ms: figures.p50_ms, p99_ms: figures.p99_ms }
}

/// Whose polls, and where.
#[derive(Clone, Debug)]
pub(super) struct Polls {
    /// The server.
    pub(super) address: SocketAddr,
    /// The `Cookie` headers; one after the other.
    pub(super) cookies: Rc<[String]>,
}

/// Polls over HTTP/2 for `span`, as fast as answers come.
///
/// # Errors
/// When a connection cannot be made, or an answer is an error.
pub(super) async fn poll(polls: &Polls, span: Duration) -> Outcome<Load> {
    tokio::task::LocalSet::new().run_until(poll_all(polls, span)).await
}

async fn poll_all(polls: &Polls, span: Duration) -> Outcome<Load> {
    let clock = Clock::new();
    let connector = TlsConnector::from(Arc::new(client_config()?));
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let sender = connect(&connector, polls.address).await?;
        for stream in 0..STREAMS {
            let from = (number * STREAMS + stream) * polls.cookies.len() / (CONNECTIONS * STREAMS);
            let (polls, sender, until) = (polls.clone(), sender.clone(), clock.now() + span);
            tasks.push(tokio::task::spawn_local(poll_on(polls, sender, from, clock, until)));
        }
    }
    let (mut all, mut requests) = (Durations::default(), 0);
    for task in tasks {
        for duration in task.await.context(|| "poll")?? {
            requests += 1;
            all.add(duration);
        }
    }
    Ok(load(requests, &all, span))
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> Outcome<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await.context(|| address.to_string())?;
    stream.set_nodelay(true).context(|| "TCP_NODELAY")?;
    let stream = connector.connect(ServerName::from(address.ip()), stream).await.context(|| "TLS")?;
    let (sender, connection) = h2::client::handshake(stream).await.context(|| "HTTP/2")?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn poll_on(
    polls: Polls,
    mut sender: SendRequest<Bytes>,
    from: usize,
    clock: Clock,
    until: Moment,
) -> Outcome<Vec<Duration>> {
    let mut durations = Vec::new();
    for cookie in polls.cookies.iter().cycle().skip(from) {
        let begun = clock.now();
        if begun >= until {
            break;
        }
        sender = sender.ready().await.context(|| "HTTP/2")?;
        let request = request(polls.address, cookie)?;
        let (answer, mut body) = sender.send_request(request, false).context(|| "HTTP/2")?;
        body.send_data(Bytes::from_static(b"{\"shown_ahead\":1000000}"), true).context(|| "HTTP/2")?;
        let answer = answer.await.context(|| "HTTP/2")?;
        if !answer.status().is_success() {
            return Err(Failure::new(format!("a poll over HTTP/2: {}", answer.status())));
        }
        let mut body = answer.into_body();
        while let Some(data) = body.data().await {
            let data = data.context(|| "HTTP/2")?;
            // Capacity that was just taken can be given back.
            let _ = body.flow_control().release_capacity(data.len());
        }
        durations.push(clock.now().since(begun));
    }
    Ok(durations)
}

fn request(address: SocketAddr, cookie: &str) -> Outcome<Request<()>> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("https://{address}{STATUS}"))
        .header("cookie", cookie)
        .header("accept", "application/json")
        .header("accept-language", "it")
        .header("content-type", "application/json")
        .header("sec-fetch-site", "same-origin")
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-dest", "empty")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
    request.body(()).context(|| "a poll")
}

fn client_config() -> Outcome<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.context(|| "TLS")?.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes every certificate: the programs measured here were started by us, with one made for the moment.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_h2load_logs() {
        let second = Duration::from_secs(1);
        let found = read("1700000000000000\t200\t900\n1700000000000010\t200\t1100\n", second);
        assert_eq!(found.map(|load| (load.requests, load.per_second)), Some((2, 2.0)));
        assert_eq!(read("1700000000000000\t503\t900\n", second), None);
        assert_eq!(read("", second), None);
    }
}
