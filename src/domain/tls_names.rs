//! Which certificate is shown for a name, and which requests may come over the connection that it was shown on.
//!
//! A browser may send requests for every host that a certificate covers over one connection (RFC 9113 section 9.1.1).
//! Where one of those hosts asks for client certificates and another does not, that would be a way around the question;
//! so a connection serves only the names of the entry that was chosen for it (421, RFC 9110 section 15.5.20).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A name for which a certificate is shown: a host, or `*.` and a domain, which covers one label more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedName(String);

impl ServedName {
    /// Reads a name; `None` for anything else, addresses and ports among them.
    pub fn parse(text: &str) -> Option<ServedName> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let labels = name.split('.').all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(plain));
        let is_address = name.parse::<IpAddr>().is_ok();
        (labels && !is_address && text.len() <= 253).then(|| ServedName(text.to_ascii_lowercase()))
    }

    /// The name as it is written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A host that the name covers.
    pub fn example(&self) -> String {
        self.0.replace('*', "a")
    }

    /// Whether a host, in lower case, is shown this certificate.
    pub fn includes(&self, host: &str) -> bool {
        self.is(host) || self.covers(host)
    }

    fn is(&self, host: &str) -> bool {
        self.0 == host
    }

    fn covers(&self, host: &str) -> bool {
        let Some(domain) = self.0.strip_prefix('*') else { return false };
        host.strip_suffix(domain).is_some_and(|label| !label.is_empty() && !label.contains('.'))
    }
}

impl fmt::Display for ServedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    NotAsked,
    /// They are.
    Asked,
}

/// The entries of one address, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Entries(Vec<(Vec<ServedName>, ClientCertificates)>);

impl Entries {
    /// The entries, with their names.
    pub fn new(entries: Vec<(Vec<ServedName>, ClientCertificates)>) -> Entries {
        Entries(entries)
    }

    /// The entry for a host in lower case: the one that has the name itself, else one that covers it.
    pub fn entry_for(&self, host: &str) -> Option<usize> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let with = |fits: fn(&ServedName, &str) -> bool| {
            self.0.iter().position(|(names, _)| names.iter().any(|name| fits(name, host)))
        };
        with(ServedName::is).or_else(|| with(ServedName::covers))
    }

    /// The entry for whoever asks for no name, or for one that nobody has: the first that asks nobody for a certificate.
    pub fn entry_for_strangers(&self) -> Option<usize> {
        self.0.iter().position(|(_, client)| *client == ClientCertificates::NotAsked)
    }
}

/// What a client asked for in its first message (RFC 6066 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A name that an entry has.
    Served(String),
    /// A name that no entry has.
    Unknown,
    /// No name: clients that were given an address send none.
    Nothing,
}

/// What a connection may be used for.
#[derive(Clone, Debug)]
pub struct Reach {
    entries: Arc<Entries>,
    chosen: usize,
    asked: Asked,
}

impl Reach {
    /// What a connection may be used for whose client asked for this name; `None` when there is nothing to show it.
    pub fn of(entries: &Arc<Entries>, name: Option<&str>) -> Option<Reach> {
        let name = name.map(str::to_ascii_lowercase);
        let known = name.as_deref().and_then(|name| entries.entry_for(name));
        let asked = match (name, known) {
            (Some(name), Some(_)) => Asked::Served(name),
            (Some(_), None) => Asked::Unknown,
            (None, _) => Asked::Nothing,
        };
        let chosen = known.or_else(|| entries.entry_for_strangers())?;
        Some(Reach { entries: entries.clone(), chosen, asked })
    }

    /// The entry that was chosen, counted from 0.
    pub fn entry(&self) -> usize {
        self.chosen
    }

    /// Whether a request for this host (lower case, without port; empty when the request names none) may come over the
    /// connection.
    pub fn includes(&self, host: &str) -> bool {
        match &self.asked {
            Asked::Served(name) if name == host => true,
            Asked::Served(_) => self.asks_nobody() && self.entries.entry_for(host) == Some(self.chosen),
            Asked::Unknown => false,
            Asked::Nothing => {
                let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
                host.is_empty()
                    || unbracketed.parse::<IpAddr>().is_ok()
                    || self.entries.entry_for(host) == Some(self.chosen)
            }
        }
    }

    fn asks_nobody(&self) -> bool {
        self.entries.0.get(self.chosen).is_some_and(|(_, client)| *client == ClientCertificates::NotAsked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Arc<Entries> {
        let names = |names: &[&str]| names.iter().map(|name| ServedName::parse(name).unwrap()).collect();
        Arc::new(Entries::new(vec![
            (names(&["office.portal.example"]), ClientCertificates::Asked),
            (names(&["*.portal.example", "portal.example"]), ClientCertificates::NotAsked),
            (names(&["other.example"]), ClientCertificates::NotAsked),
        ]))
    }

    fn reach(name: Option<&str>) -> Reach {
        Reach::of(&entries(), name).unwrap()
    }

    #[test]
    fn names_are_hosts_or_one_label_below_a_domain() {
        for good in ["portal.example", "*.portal.example", "localhost", "Portal.Example"] {
            assert!(ServedName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "*", "*.", "a..b", "portal.example:443", "127.0.0.1", "::1", "a.*.b", "**.a", "é.example"] {
            assert_eq!(ServedName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_name_itself_counts_before_one_that_covers_it() {
        let chosen = |name| reach(Some(name)).entry();
        assert_eq!(chosen("office.portal.example"), 0);
        assert_eq!(chosen("OFFICE.portal.example"), 0);
        assert_eq!(chosen("www.portal.example"), 1);
        assert_eq!(chosen("portal.example"), 1);
        assert_eq!(chosen("a.b.portal.example"), 1, "nobody has it: strangers see the first that asks for nothing");
        assert_eq!(reach(None).entry(), 1);
    }

    #[test]
    fn a_connection_serves_its_own_entry_only() {
        let citizen = reach(Some("www.portal.example"));
        assert!(citizen.includes("www.portal.example") && citizen.includes("portal.example"));
        assert!(!citizen.includes("office.portal.example"), "that would be a way around the question");
        assert!(!citizen.includes("other.example") && !citizen.includes("") && !citizen.includes("127.0.0.1"));
        let office = reach(Some("office.portal.example"));
        assert!(office.includes("office.portal.example"));
        assert!(!office.includes("www.portal.example") && !office.includes("office.portal.example."));
    }

    #[test]
    fn a_name_that_nobody_has_serves_nothing_and_no_name_serves_addresses() {
        assert!(!reach(Some("nowhere.example")).includes("nowhere.example"));
        let by_address = reach(None);
        assert!(by_address.includes("127.0.0.1") && by_address.includes("[::1]") && by_address.includes(""));
        assert!(by_address.includes("portal.example") && !by_address.includes("office.portal.example"));
    }

    #[test]
    fn where_everybody_is_asked_strangers_see_nothing() {
        let names = vec![ServedName::parse("office.example").unwrap()];
        let entries = Arc::new(Entries::new(vec![(names, ClientCertificates::Asked)]));
        assert!(Reach::of(&entries, None).is_none() && Reach::of(&entries, Some("x.example")).is_none());
        assert!(Reach::of(&entries, Some("office.example")).is_some());
    }
}
