//! Certificates made for a test, and clients that speak TLS, HTTP/1.1 and HTTP/2 over it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long, in real time, anything may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who issues certificates, and a directory for them.
pub struct Authority {
    directory: tempfile::TempDir,
    name: &'static str,
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// From when to when a certificate is valid, in years.
#[derive(Clone, Copy, Debug)]
pub struct Years(pub i32, pub i32);

impl Authority {
    /// A new one; its own certificate lies in `ca.pem`.
    pub fn new(name: &'static str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), own.pem()).unwrap();
        Authority { directory, name, params, key, certificate: own.der().clone() }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A server's certificate for these names.
    pub fn server(&self, file: &str, names: &[&str]) -> Pair {
        self.server_valid(file, names, Years(2020, 2060))
    }

    /// The same with another validity.
    pub fn server_valid(&self, file: &str, names: &[&str], years: Years) -> Pair {
        self.issue(file, names, ExtendedKeyUsagePurpose::ServerAuth, years)
    }

    /// A client's certificate.
    pub fn client(&self, file: &str) -> Pair {
        self.issue(file, &[], ExtendedKeyUsagePurpose::ClientAuth, Years(2020, 2060))
    }

    /// The same with another validity.
    pub fn client_valid(&self, file: &str, years: Years) -> Pair {
        self.issue(file, &[], ExtendedKeyUsagePurpose::ClientAuth, years)
    }

    /// A list of the certificates that it took back.
    pub fn revoke(&self, file: &str, revoked: &[&Pair]) -> PathBuf {
        let entry = |pair: &&Pair| rcgen::RevokedCertParams {
            serial_number: SerialNumber::from_slice(
                x509_parser::parse_x509_certificate(&pair.der()).unwrap().1.raw_serial(),
            ),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2060, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let path = self.directory.path().join(format!("{file}.crl"));
        let list = list.signed_by(&Issuer::from_params(&self.params, &self.key)).unwrap();
        fs::write(&path, list.pem().unwrap()).unwrap();
        path
    }

    fn issue(&self, file: &str, names: &[&str], usage: ExtendedKeyUsagePurpose, Years(from, to): Years) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{file} by {}", self.name));
        params.extended_key_usages.push(usage);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let path = |ending: &str| self.directory.path().join(format!("{file}.{ending}"));
        let pair = Pair { certificate: path("pem"), key: path("key") };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// A client that believes it.
    pub fn browser(&self) -> Browser {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Browser { roots, config }
    }
}

impl Pair {
    /// The certificate itself.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.certificate).unwrap()
    }

    /// An `[[server.tls]]` with it; `more` are whole lines.
    pub fn entry(&self, listen: &str, names: &[&str], more: &str) -> String {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        format!(
            "[[server.tls]]\nlisten = [\"{listen}\"]\nnames = [{}]\ncertificate = {:?}\nprivate_key = {:?}\n{more}\n",
            names.join(", "),
            self.certificate,
            self.key
        )
    }

    /// Puts this one's files in the place of that one's.
    pub fn replace(&self, other: &Pair) {
        fs::copy(&self.certificate, &other.certificate).unwrap();
        fs::copy(&self.key, &other.key).unwrap();
    }
}

/// A client of TLS.
#[derive(Clone)]
pub struct Browser {
    roots: RootCertStore,
    config: ClientConfig,
}

impl Browser {
    /// The same with a certificate to show.
    pub fn showing(&self, pair: &Pair) -> Browser {
        self.showing_over(pair, rustls::ALL_VERSIONS)
    }

    /// The same with these versions only.
    pub fn showing_over(&self, pair: &Pair, versions: &[&'static SupportedProtocolVersion]) -> Browser {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(vec![pair.der()], PrivateKeyDer::from_pem_file(&pair.key).unwrap())
            .unwrap();
        Browser { roots: self.roots.clone(), config }
    }

    /// The same with one version only.
    pub fn speaking(&self, version: &'static SupportedProtocolVersion) -> Browser {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        Browser { roots: self.roots.clone(), config }
    }

    /// The same with these suites, the preferred one first.
    pub fn offering(&self, suites: &[SupportedCipherSuite]) -> Browser {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = suites.to_vec();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        Browser { roots: self.roots.clone(), config }
    }

    /// Opens a connection and offers these protocols.
    pub async fn connect(&self, to: SocketAddr, name: &str, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        self.over(stream, name, alpn).await
    }

    /// Begins TLS on a connection.
    pub async fn over(&self, stream: TcpStream, name: &str, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
    }

    /// A connection that speaks HTTP/1.1.
    pub async fn http1(&self, to: SocketAddr, name: &str) -> io::Result<http1::SendRequest<Full<Bytes>>> {
        let stream = self.connect(to, name, &["http/1.1"]).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// A connection that speaks HTTP/2.
    pub async fn http2(&self, to: SocketAddr, name: &str) -> io::Result<http2::SendRequest<Full<Bytes>>> {
        let stream = self.connect(to, name, &["h2", "http/1.1"]).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Got {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `Set-Cookie` lines.
    pub fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect()
    }
}

/// Reads an answer to its end.
pub async fn whole(response: Response<hyper::body::Incoming>) -> Got {
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("the body's end").unwrap().to_bytes();
    Got { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A page of a host, as a browser asks for it over HTTP/2.
pub fn page(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{host}{path}")).header("accept", "text/html").body(Full::default()).unwrap()
}

/// The same over HTTP/1.1.
pub fn page1(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).header("accept", "text/html").body(Full::default()).unwrap()
}

/// Asks over HTTP/2 and reads the answer to its end.
pub async fn ask(sender: &mut http2::SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Got {
    whole(timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap()).await
}

/// Asks over HTTP/1.1 and reads the answer to its end.
pub async fn ask1(sender: &mut http1::SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Got {
    whole(timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap()).await
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
