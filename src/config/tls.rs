//! `[[server.tls]]`, and TLS towards the portal. Only what is written is judged here; the files that are named are read
//! when the program starts, at a reload and by `anticamera check`.

use std::net::SocketAddr;
use std::path::Path;

use super::fault::Wrong;
use super::resolve::collide;
use super::resolved::{ClientAuth, PortalTls, PortalUrl, TlsEntry};
use super::section::Section;
use super::value;

/// How `client_auth` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nobody,
    WhoeverHasOne,
    Everybody,
}

/// Reads all `[[server.tls]]`.
pub(super) fn entries(server: &Section<'_>, base: &Path) -> Option<Vec<TlsEntry>> {
    let sections = server.tables("tls");
    let read: Vec<Option<TlsEntry>> = sections.iter().map(|section| entry(section, base)).collect();
    for (index, section) in sections.iter().enumerate() {
        let (earlier, this) = (read.get(..index).unwrap_or_default(), read.get(index).and_then(Option::as_ref));
        if let Some(this) = this {
            earlier.iter().flatten().for_each(|earlier| check_beside(section, earlier, this));
        }
    }
    read.into_iter().collect()
}

fn entry(section: &Section<'_>, base: &Path) -> Option<TlsEntry> {
    let listen = section.list_of_some("listen", value::socket);
    let names = section.list_of_some("names", value::served_name);
    let certificate = section.read("certificate", value::file_path(base));
    let private_key = section.read("private_key", value::file_path(base));
    let client_auth = client_auth(section, base);
    Some(TlsEntry {
        listen: listen?,
        names: names?,
        certificate: certificate?,
        private_key: private_key?,
        client_auth: client_auth?,
    })
}

/// `client_auth` and `client_ca`: both or neither.
fn client_auth(section: &Section<'_>, base: &Path) -> Option<ClientAuth> {
    let words = [("none", Asks::Nobody), ("optional", Asks::WhoeverHasOne), ("required", Asks::Everybody)];
    let asks = section.read("client_auth", value::one_of(&words));
    let ca = section.optional("client_ca", value::file_path(base));
    match (asks?, ca?) {
        (Asks::Nobody, None) => Some(ClientAuth::None),
        (Asks::WhoeverHasOne, Some(ca)) => Some(ClientAuth::Optional(ca)),
        (Asks::Everybody, Some(ca)) => Some(ClientAuth::Required(ca)),
        (Asks::Nobody, Some(_)) => {
            let remedy = "write client_auth = \"optional\" or \"required\", or remove client_ca";
            section.fault("client_ca", Wrong::new("nobody is asked for a certificate", remedy));
            None
        }
        (_, None) => {
            let remedy = "name the file with the certificates of those who issue client certificates";
            section.fault("client_ca", Wrong::new("missing where client certificates are asked for", remedy));
            None
        }
    }
}

/// One name leads to one certificate on each address, and where client certificates are asked for, to one in all:
/// which visitors see the browser's question must not depend on the port.
fn check_beside(section: &Section<'_>, earlier: &TlsEntry, this: &TlsEntry) {
    let same_address = this.listen.iter().any(|address| earlier.listen.contains(address));
    let same_trust = this.client_auth == earlier.client_auth;
    for (index, name) in this.names.iter().enumerate().filter(|(_, name)| earlier.names.contains(name)) {
        if same_address {
            let what = format!("{name} stands in another [[server.tls]] of this address");
            section.fault_in_list("names", index, Wrong::new(what, "keep one of the two"));
        } else if !same_trust {
            let what = format!("{name} stands in a [[server.tls]] with another client_auth");
            let remedy = "give whoever is asked for a client certificate a name of its own";
            section.fault_in_list("names", index, Wrong::new(what, remedy));
        }
    }
}

/// Notes addresses that something else listens on.
pub(super) fn check_listeners(server: &Section<'_>, entries: &[TlsEntry], is_taken: impl Fn(SocketAddr) -> bool) {
    let addresses: Vec<SocketAddr> = entries.iter().flat_map(|entry| entry.listen.iter().copied()).collect();
    let collides = |address: &SocketAddr| {
        is_taken(*address) || addresses.iter().any(|other| other != address && collide(*other, *address))
    };
    if let Some(address) = addresses.iter().find(|address| collides(address)) {
        let what = format!("{address} is taken by another address");
        server.fault("tls", Wrong::new(what, "give each its own address and port"));
    }
}

/// TLS towards the portal.
pub(super) fn portal(section: &Section<'_>, base: &Path, urls: &[PortalUrl]) -> Option<PortalTls> {
    let ca = section.read("ca", value::unless_empty(value::file_path(base)));
    let server_name = section.read("server_name", value::unless_empty(value::server_name));
    let certificate = section.read("client_certificate", value::unless_empty(value::file_path(base)));
    let key = section.read("client_key", value::unless_empty(value::file_path(base)));
    let (ca, server_name, certificate, key) = (ca?, server_name?, certificate?, key?);
    let said = [
        ("ca", ca.is_some()),
        ("server_name", server_name.is_some()),
        ("client_certificate", certificate.is_some()),
        ("client_key", key.is_some()),
    ];
    if !urls.is_empty() && urls.iter().all(|url| !url.https) {
        for (name, _) in said.iter().filter(|(_, is_said)| *is_said) {
            let remedy = "write https:// in the portal's address, or remove it";
            section.fault(name, Wrong::new("means nothing without TLS towards the portal", remedy));
        }
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.fault("client_certificate", Wrong::new("has no key", "name its key in portal.client_key"));
            None
        }
        (None, Some(_)) => {
            let remedy = "name the certificate in portal.client_certificate";
            section.fault("client_key", Wrong::new("has no certificate", remedy));
            None
        }
    };
    Some(PortalTls { ca, server_name, client })
}
