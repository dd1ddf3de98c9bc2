//! `[store]`: where the line lives, and how to log in there.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::fault::Wrong;
use super::resolved::{Login, Servers, SharedStore, Store, StoreTls};
use super::section::Section;
use super::value::{self, Read};

/// What the example shows; beside another way to name the servers it means nothing.
const DEFAULT_URL: &str = "redis://127.0.0.1:6379";

/// How long a node may go on alone: at least until it has begun to.
const SHARE_FOR: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

/// Reads the section.
pub(super) fn store(section: &Section<'_>, base: &Path) -> Option<Store> {
    let is_shared = section.read("kind", value::one_of(&[("embedded", false), ("valkey", true)]));
    let path = section.read("path", value::file_path(base));
    let shared = shared(section, base);
    let (path, shared) = (path?, shared?);
    Some(if is_shared? { Store::Valkey(Box::new(shared)) } else { Store::Embedded { path } })
}

fn shared(section: &Section<'_>, base: &Path) -> Option<SharedStore> {
    let servers = servers(section, base);
    let login = login(section, base, "user", "password_file");
    let tls = tls(section, base, servers.as_ref());
    let prefix = section.read("prefix", value::key_prefix);
    let shares = section.read("on_store_loss", value::one_of(&[("hold", false), ("share", true)]));
    let share_for = section.read("share_for", value::duration(SHARE_FOR));
    let (shares, share_for) = (shares?, share_for?);
    let share_for = shares.then_some(share_for);
    Some(SharedStore { servers: servers?, login: login?, tls: tls?, prefix: prefix?, share_for })
}

/// One server, sentinels that name it, or a cluster.
fn servers(section: &Section<'_>, base: &Path) -> Option<Servers> {
    let url = section.read("url", value::store_url);
    let sentinels = section.list("sentinels", value::store_url);
    let primary = section.read("primary", value::unless_empty(value::plain_text));
    let at_sentinels = login(section, base, "sentinel_user", "sentinel_password_file");
    let cluster = section.list("cluster", value::store_url);
    let (url, sentinels, primary, cluster, at_sentinels) = (url?, sentinels?, primary?, cluster?, at_sentinels?);
    let named = [
        ("url", section.has("url") && url != DEFAULT_URL),
        ("sentinels", !sentinels.is_empty()),
        ("cluster", !cluster.is_empty()),
    ];
    if let [_, (second, _), ..] = named.iter().filter(|(_, is_named)| *is_named).collect::<Vec<_>>().as_slice() {
        section.fault(second, Wrong::new("stands beside another way to name the servers", "keep one of the two"));
    }
    for (name, urls) in [("sentinels", &sentinels), ("cluster", &cluster)] {
        let first = urls.first().map(|url| is_tls(url));
        if urls.iter().any(|url| Some(is_tls(url)) != first) {
            section.fault(name, Wrong::new("TLS with some and not with others", "begin all with rediss://, or none"));
        }
    }
    let said = [
        ("primary", primary.is_some()),
        ("sentinel_user", at_sentinels.user.is_some()),
        ("sentinel_password_file", at_sentinels.password_file.is_some()),
    ];
    match (sentinels.is_empty(), primary) {
        (true, _) => {
            for (name, _) in said.iter().filter(|(_, is_said)| *is_said) {
                section.fault(name, Wrong::new("means nothing without store.sentinels", "name them, or remove it"));
            }
            Some(if cluster.is_empty() { Servers::One(url) } else { Servers::Cluster(cluster) })
        }
        (false, None) => {
            let remedy = "write the name under which the sentinels watch the server, such as \"mymaster\"";
            section.fault("primary", Wrong::new("missing beside sentinels", remedy));
            None
        }
        (false, Some(primary)) => Some(Servers::Sentinels { urls: sentinels, primary, login: at_sentinels }),
    }
}

fn is_tls(url: &str) -> bool {
    url.starts_with("rediss://")
}

fn login(section: &Section<'_>, base: &Path, user: &str, password_file: &str) -> Option<Login> {
    let user = section.read(user, value::unless_empty(value::plain_text));
    let password_file = section.read(password_file, value::unless_empty(value::file_path(base)));
    Some(Login { user: user?, password_file: password_file? })
}

fn tls(section: &Section<'_>, base: &Path, servers: Option<&Servers>) -> Option<StoreTls> {
    let file = |value: &DeValue<'_>| -> Read<Option<PathBuf>> { value::unless_empty(value::file_path(base))(value) };
    let ca = section.read("ca", file);
    let certificate = section.read("client_certificate", file);
    let key = section.read("client_key", file);
    let (ca, certificate, key) = (ca?, certificate?, key?);
    let said = [("ca", ca.is_some()), ("client_certificate", certificate.is_some()), ("client_key", key.is_some())];
    if servers.is_some_and(|servers| !servers.are_tls()) {
        for (name, _) in said.iter().filter(|(_, is_said)| *is_said) {
            let remedy = "begin the addresses of the servers with rediss://, or remove it";
            section.fault(name, Wrong::new("means nothing without TLS towards the store", remedy));
        }
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.fault("client_certificate", Wrong::new("has no key", "name its key in store.client_key"));
            None
        }
        (None, Some(_)) => {
            let remedy = "name the certificate in store.client_certificate";
            section.fault("client_key", Wrong::new("has no certificate", remedy));
            None
        }
    };
    Some(StoreTls { ca, client })
}
