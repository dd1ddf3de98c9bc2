//! What is known of a visitor's connection before the first request on it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body::Body;
use rustls::pki_types::CertificateDer;

use crate::domain::proxy_protocol::ForWhom;
use crate::domain::tls_names::Reach;

/// A visitor's connection.
#[derive(Debug)]
pub struct Connection {
    /// Its other end.
    pub peer: IpAddr,
    /// For whom a trusted proxy says it opened the connection.
    pub for_whom: Option<ForWhom>,
    /// What TLS told, when it ended here.
    pub tls: Option<Tls>,
    has_insider: AtomicBool,
    brings_body: AtomicBool,
}

/// What TLS told about a connection.
#[derive(Debug)]
pub struct Tls {
    /// Which hosts may be asked for.
    pub reach: Reach,
    /// The client's certificate, verified against those who may issue one, and its issuers as the client sent them;
    /// empty when it showed none.
    pub client_chain: Vec<CertificateDer<'static>>,
}

impl Connection {
    /// A connection without TLS.
    pub fn plain(peer: IpAddr, for_whom: Option<ForWhom>) -> Connection {
        Connection {
            peer,
            for_whom,
            tls: None,
            has_insider: AtomicBool::new(false),
            brings_body: AtomicBool::new(false),
        }
    }

    /// A connection over TLS that ended here.
    pub fn over_tls(peer: IpAddr, for_whom: Option<ForWhom>, tls: Tls) -> Connection {
        Connection { tls: Some(tls), ..Connection::plain(peer, for_whom) }
    }

    /// The client's verified certificate (what RFC 9440 calls `Client-Cert`), if it showed one.
    pub fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.client_chain().first()
    }

    /// The client's verified certificate and, after it, its issuers as the client sent them (RFC 9440's
    /// `Client-Cert-Chain`); empty when it showed none.
    pub fn client_chain(&self) -> &[CertificateDer<'static>] {
        self.tls.as_ref().map(|tls| tls.client_chain.as_slice()).unwrap_or_default()
    }

    /// Whether a request for this host (lower case, without port) may come over it.
    pub fn includes(&self, host: &str) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.reach.includes(host))
    }

    /// Whether somebody inside used it: such connections are kept when others are closed to make room.
    pub fn has_insider(&self) -> bool {
        self.has_insider.load(Ordering::Relaxed)
    }

    /// Whether the body of its last request may not have been read to its end: what comes next is then no new request.
    pub fn brings_body(&self) -> bool {
        self.brings_body.load(Ordering::Relaxed)
    }

    /// Notes whether the request that has just begun has a body.
    pub fn note_request(&self, body: &impl Body) {
        self.brings_body.store(!body.is_end_stream(), Ordering::Relaxed);
    }

    /// Notes that the last request's body was read to its end.
    pub(super) fn note_end_of_body(&self) {
        self.brings_body.store(false, Ordering::Relaxed);
    }

    /// Notes that somebody inside used it.
    pub(super) fn note_insider(&self) {
        self.has_insider.store(true, Ordering::Relaxed);
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client, or a proxy that nobody trusts.
    Client,
    /// A trusted proxy, which brings many clients.
    Proxy,
    /// A trusted proxy that begins each connection by saying for whom it is.
    Announcing,
}
