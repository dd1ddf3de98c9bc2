//! TLS for visitors: which certificate is shown for a name, who may show one to us, and how a connection comes to stand.
//!
//! The files are read on a control thread, at the start and at every reload, into one [`Tls`]; a handshake uses the one
//! in force when it begins, and connections that stand never notice. Tickets of resumed sessions are sealed with keys
//! that turn over every six hours and are shared by all threads; each client-trust configuration has its own, so that
//! nobody comes in by a ticket where a certificate is asked for, nor by one from before the issuers changed. A resumed
//! session brings the client certificate of its first handshake, which is judged again.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    Acceptor, ClientHello, NoClientAuth, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::sessions::{Era, Sessions, Tickets};
use super::suites::{has_short_aes_keys, prefers_chacha};
use crate::certificates::{self, Fault, Faults, Identity, Wrong, provider};
use crate::config::{ClientAuth, Server, TlsEntry, Warning};
use crate::domain::time::Unix;
use crate::domain::tls_names::{ClientCertificates, Entries, Reach};

/// Sessions of TLS 1.2 kept for clients that take no tickets, per client-trust configuration.
const SESSIONS_KEPT: usize = 4096;
/// The protocols on offer, the preferred one first (RFC 7301).
const ALPN: [&[u8]; 2] = [H2, b"http/1.1"];
/// HTTP/2's name there.
pub(super) const H2: &[u8] = b"h2";

/// Everything that TLS needs, as read from one configuration and its files.
#[derive(Debug, Default)]
pub struct Tls {
    doors: Vec<Door>,
    trusts: Vec<Arc<Trust>>,
    expiries: Vec<(String, i64)>,
    warnings: Vec<Warning>,
}

/// What is shown at one address.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    entries: Arc<Entries>,
    configs: Vec<Shown>,
}

/// What is shown for an entry, and to whom.
#[derive(Clone, Debug)]
struct Shown {
    /// AES with short keys first.
    aes_first: Arc<ServerConfig>,
    /// In the client's order.
    as_asked: Arc<ServerConfig>,
    trust: Arc<Trust>,
}

impl Shown {
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        if prefers_chacha(hello.cipher_suites()) { self.as_asked.clone() } else { self.aes_first.clone() }
    }
}

/// One client-trust configuration.
#[derive(Debug)]
struct Trust {
    /// Whether clients are asked, and a hash of who may issue their certificates.
    key: TrustKey,
    verifier: Arc<dyn ClientCertVerifier>,
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    era: Era,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrustKey {
    Nobody,
    Optional([u8; 32]),
    Required([u8; 32]),
}

/// A connection over TLS that stands.
#[derive(Debug)]
pub(super) struct Standing<S> {
    pub(super) stream: TlsStream<S>,
    pub(super) reach: Reach,
    pub(super) client_chain: Vec<CertificateDer<'static>>,
}

impl<S> Standing<S> {
    /// Whether HTTP/2 was agreed upon.
    pub(super) fn speaks_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(H2)
    }
}

impl Tls {
    /// Reads the files that the configuration names. What has not changed since `old` keeps its session tickets.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong, each with its key and a remedy.
    pub fn load(server: &Server, old: Option<&Tls>, now: Unix) -> Result<Tls, Faults> {
        let (mut faults, mut read) = (Vec::new(), Vec::new());
        let mut tls = Tls::default();
        for (index, entry) in server.tls.iter().enumerate() {
            let key = key_of(index, entry);
            match tls.read(&key, entry, old, now) {
                Ok(config) => read.push((entry, config)),
                Err(found) => faults.extend(found.into_iter().map(|wrong| Fault { key: key.clone(), wrong })),
            }
        }
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        tls.doors = server.tls_listen().into_iter().map(|address| Door::of(address, &read)).collect();
        Ok(tls)
    }

    /// What is allowed but probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// For each name, the second (Unix time) in which its certificate expires.
    pub fn expiries(&self) -> &[(String, i64)] {
        &self.expiries
    }

    fn read(&mut self, key: &str, entry: &TlsEntry, old: Option<&Tls>, now: Unix) -> Result<Shown, Vec<Wrong>> {
        let provider = provider();
        let identity = Identity::load(&entry.certificate, &entry.private_key, &provider, now);
        let trust = self.trust(&entry.client_auth, old, &provider);
        let (identity, trust) = match (identity, trust) {
            (Ok(identity), Ok(trust)) => (identity, trust),
            (identity, trust) => return Err([identity.err(), trust.err()].into_iter().flatten().flatten().collect()),
        };
        let said = |text| Warning { key: key.to_owned(), text };
        self.warnings.extend(identity.doubts(&entry.names, now).into_iter().map(said));
        self.expiries.extend(entry.names.iter().map(|name| (name.to_string(), identity.expires)));
        shown(identity, trust, &provider).map_err(|error| vec![Wrong::Unusable(error)])
    }

    /// The trust configuration for an entry: one that is known already, or a new one.
    fn trust(
        &mut self,
        client_auth: &ClientAuth,
        old: Option<&Tls>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Trust>, Vec<Wrong>> {
        let (key, issuers) = match client_auth {
            ClientAuth::None => (TrustKey::Nobody, None),
            ClientAuth::Optional(ca) => {
                let issuers = certificates::issuers(ca)?;
                (TrustKey::Optional(hash(&issuers)), Some(issuers))
            }
            ClientAuth::Required(ca) => {
                let issuers = certificates::issuers(ca)?;
                (TrustKey::Required(hash(&issuers)), Some(issuers))
            }
        };
        let known = self.trusts.iter().chain(old.iter().flat_map(|old| &old.trusts)).find(|trust| trust.key == key);
        let trust = match known {
            Some(trust) => trust.clone(),
            None => Arc::new(Trust::new(key, issuers, provider).map_err(|wrong| vec![wrong])?),
        };
        if self.trusts.iter().all(|known| known.key != key) {
            self.trusts.push(trust.clone());
        }
        Ok(trust)
    }

    /// Brings a connection to stand that came to this address.
    ///
    /// # Errors
    /// Whatever the other side did wrong, or that there is nothing to show for the name it asked for, or that the client
    /// certificate of a resumed session is no longer good.
    pub(super) async fn accept<S>(
        &self,
        address: SocketAddr,
        stream: S,
        wall: impl Fn() -> Unix,
    ) -> io::Result<Standing<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nothing = |what| io::Error::new(ErrorKind::NotFound, what);
        let door = self.doors.iter().find(|door| door.address == address);
        let door = door.ok_or_else(|| nothing("no certificate for this address"))?;
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let reach = Reach::of(&door.entries, begun.client_hello().server_name());
        let reach = reach.ok_or_else(|| nothing("no certificate for this name"))?;
        let shown = door.configs.get(reach.entry()).ok_or_else(|| nothing("no certificate for this name"))?;
        let config = shown.config_for(&begun.client_hello());
        let stream = begun.into_stream(config).await?;
        let session = stream.get_ref().1;
        let brought = session.peer_certificates().unwrap_or_default();
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            shown.trust.judge_again(brought, wall()).map_err(io::Error::other)?;
        }
        let client_chain = brought.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Standing { stream, reach, client_chain })
    }
}

impl Door {
    fn of(address: SocketAddr, read: &[(&TlsEntry, Shown)]) -> Door {
        let here = || read.iter().filter(|(entry, _)| entry.listen.contains(&address));
        let asks = |entry: &TlsEntry| match entry.client_auth {
            ClientAuth::None => ClientCertificates::NotAsked,
            ClientAuth::Optional(_) | ClientAuth::Required(_) => ClientCertificates::Asked,
        };
        Door {
            address,
            entries: Arc::new(Entries::new(here().map(|(entry, _)| (entry.names.clone(), asks(entry))).collect())),
            configs: here().map(|(_, shown)| shown.clone()).collect(),
        }
    }
}

impl Trust {
    fn new(
        key: TrustKey,
        issuers: Option<Vec<CertificateDer<'static>>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Trust, Wrong> {
        let verifier = match issuers {
            None => Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>,
            Some(issuers) => verifier(key, issuers, provider)?,
        };
        let era = Era::default();
        let sealed = aws_lc_rs::Ticketer::new().map_err(Wrong::Unusable)?;
        Ok(Trust {
            key,
            verifier,
            ticketer: Arc::new(Tickets { sealed, era: era.clone() }),
            sessions: Arc::new(Sessions { kept: ServerSessionMemoryCache::new(SESSIONS_KEPT), era: era.clone() }),
            era,
        })
    }

    /// Judges the certificate of a resumed session as if it were shown now.
    fn judge_again(&self, shown: &[CertificateDer<'_>], now: Unix) -> Result<(), rustls::Error> {
        let Some((client, chain)) = shown.split_first() else { return Ok(()) };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        self.verifier.verify_client_cert(client, chain, now).map(drop).inspect_err(|_| self.era.forget())
    }
}

fn verifier(
    key: TrustKey,
    issuers: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(issuer).map_err(Wrong::Unusable)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if matches!(key, TrustKey::Required(_)) { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| Wrong::Issuers(error.to_string()))
}

fn shown(identity: Identity, trust: Arc<Trust>, provider: &CryptoProvider) -> Result<Shown, rustls::Error> {
    let mut provider = provider.clone();
    provider.cipher_suites.sort_by_key(|suite| !has_short_aes_keys(suite.suite()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(trust.verifier.clone())
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)));
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    config.ticketer = trust.ticketer.clone();
    config.session_storage = trust.sessions.clone();
    let as_asked = Arc::new(config.clone());
    config.ignore_client_order = true;
    Ok(Shown { aes_first: Arc::new(config), as_asked, trust })
}

fn hash(issuers: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for issuer in issuers {
        hash.update((issuer.len() as u64).to_be_bytes());
        hash.update(issuer);
    }
    hash.finalize().into()
}

/// The key of an entry as one would say it.
fn key_of(index: usize, entry: &TlsEntry) -> String {
    let name = entry.names.first().map(|name| format!(" {:?}", name.as_str())).unwrap_or_default();
    format!("server.tls[{}]{name}", index + 1)
}
