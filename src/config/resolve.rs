//! From the tables of the file to the configuration, table by table. Each function first reads every key, so that every
//! fault is found, and only then builds its part.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::class;
use super::fault::Wrong;
use super::guard;
use super::resolved::{
    Admin, AdminListen, ClientAddressHeader, Config, Limits, Log, Portal, PortalUrl, Probes, Server, Tokens,
};
use super::room;
use super::section::Section;
use super::value::{self, DELAY, LIFE, Read, WAIT};
use crate::domain::portal_health::{Bearable, Thresholds};

/// Reads the whole file. `None` when anything is wrong; the section's findings say what.
pub(super) fn config(file: &Section<'_>, base: &Path) -> Option<Config> {
    let server_section = file.table("server");
    let listen = visitors_listen(&server_section);
    let server = server(&server_section, listen, base);
    let visitors = server.as_ref().map(Server::all_listen).unwrap_or_default();
    let admin = admin(&file.table("admin"), base, &visitors);
    let portal = portal(&file.table("portal"), base);
    let tokens = tokens(&file.table("tokens"), base);
    let store = super::store::store(&file.table("store"), base);
    let classes = class::classes(&file.tables("class"), base);
    let names = classes.as_deref().map(class::names);
    let rooms = room::rooms(&file.tables("room"), names.as_deref());
    let page = super::page::page(&file.table("page"), base);
    let leak_guard = guard::leak_guard(&file.table("leak_guard"), base);
    let log = log(&file.table("log"));
    Some(Config {
        server: server?,
        portal: portal?,
        admin: admin?,
        tokens: tokens?,
        store: store?,
        classes: classes?,
        rooms: rooms?.into_iter().map(Arc::new).collect(),
        page: page?,
        leak_guard: leak_guard?,
        log: log?,
    })
}

/// Where visitors come without TLS; may be empty where they come with it.
fn visitors_listen(section: &Section<'_>) -> Option<Vec<SocketAddr>> {
    if section.has("tls") {
        section.list("listen", value::socket)
    } else {
        section.list_of_some("listen", value::socket)
    }
}

impl Server {
    /// Every address on which visitors are served.
    fn all_listen(&self) -> Vec<SocketAddr> {
        self.listen.iter().chain(&self.redirect_listen).copied().chain(self.tls_listen()).collect()
    }
}

fn server(section: &Section<'_>, listen: Option<Vec<SocketAddr>>, base: &Path) -> Option<Server> {
    let said_in = [
        ("x-forwarded-for", ClientAddressHeader::XForwardedFor),
        ("forwarded", ClientAddressHeader::Forwarded),
        ("proxy-protocol", ClientAddressHeader::ProxyProtocol),
    ];
    let client_address = value::one_of(&said_in);

    let redirect_listen = section.list("redirect_listen", value::socket);
    let tls = super::tls::entries(section, base);
    check_listeners(section, "listen", listen.as_deref().unwrap_or_default(), &[]);
    check_listeners(
        section,
        "redirect_listen",
        redirect_listen.as_deref().unwrap_or_default(),
        listen.as_deref().unwrap_or_default(),
    );
    let plain = [listen.as_deref().unwrap_or_default(), redirect_listen.as_deref().unwrap_or_default()].concat();
    super::tls::check_listeners(section, tls.as_deref().unwrap_or_default(), |address| {
        plain.iter().any(|taken| collide(*taken, address))
    });
    let hsts = section.read("hsts", value::unless_empty(value::hsts));
    let threads = section.read("threads", value::whole(0..=1024));
    let trusted_proxies = section.list("trusted_proxies", value::network);
    let client_address = section.read("client_address", client_address);
    let public_url = section.read("public_url", value::unless_empty(value::public_url));
    let own_path = section.read("own_path", value::own_path);
    let watch = section.read("watch", value::flag);
    let cors_origins = section.list("cors_origins", value::origin);
    let limits = limits(&section.table("limits"));
    Some(Server {
        listen: listen?,
        threads: threads?,
        trusted_proxies: trusted_proxies?,
        client_address: client_address?,
        public_url: public_url?,
        own_path: own_path?,
        watch: watch?,
        cors_origins: cors_origins?,
        redirect_listen: redirect_listen?,
        hsts: hsts?,
        tls: tls?,
        limits: limits?,
    })
}

fn limits(section: &Section<'_>) -> Option<Limits> {
    let handshake_timeout = section.read("handshake_timeout", value::duration(WAIT));
    let first_byte_timeout = section.read("first_byte_timeout", value::duration(WAIT));
    let head_timeout = section.read("head_timeout", value::duration(WAIT));
    let body_idle_timeout = section.read("body_idle_timeout", value::duration(WAIT));
    let min_body_rate = section.read("min_body_rate", value::size(0..=1024 * 1024));
    let write_idle_timeout = section.read("write_idle_timeout", value::duration(WAIT));
    let keep_alive_timeout = section.read("keep_alive_timeout", value::duration(WAIT));
    let http2_idle_timeout = section.read("http2_idle_timeout", value::duration(WAIT));
    let held_poll_timeout = section.read("held_poll_timeout", value::duration(WAIT));
    let max_connection_age = section.read("max_connection_age", value::duration(LIFE));
    // hyper reads heads into a buffer of at least 8 KiB.
    let max_head_bytes = section.read("max_head_bytes", value::size(8 * 1024..=1024 * 1024));
    let max_headers = section.read("max_headers", value::whole(10..=1000));
    let max_cookie_bytes = section.read("max_cookie_bytes", value::size(1024..=1024 * 1024));
    let max_connections = section.read("max_connections", value::whole(1..=10_000_000));
    let max_connections_per_client = section.read("max_connections_per_client", value::whole(0..=10_000_000));
    let idle_watermark = section.read("idle_watermark", value::whole(1..=100));
    let http2_max_streams = section.read("http2_max_streams", value::whole(1..=1000));
    let http2_window = section.read("http2_window", value::size(64 * 1024..=16 * 1024 * 1024));
    let drain_notice = section.read("drain_notice", value::duration(Duration::ZERO..=Duration::from_mins(10)));
    let drain_timeout = section.read("drain_timeout", value::duration(DELAY));
    Some(Limits {
        handshake_timeout: handshake_timeout?,
        first_byte_timeout: first_byte_timeout?,
        head_timeout: head_timeout?,
        body_idle_timeout: body_idle_timeout?,
        min_body_rate: min_body_rate?,
        write_idle_timeout: write_idle_timeout?,
        keep_alive_timeout: keep_alive_timeout?,
        http2_idle_timeout: http2_idle_timeout?,
        held_poll_timeout: held_poll_timeout?,
        max_connection_age: max_connection_age?,
        max_head_bytes: max_head_bytes?,
        max_headers: max_headers?,
        max_cookie_bytes: max_cookie_bytes?,
        max_connections: max_connections?,
        max_connections_per_client: max_connections_per_client?,
        idle_watermark: idle_watermark?,
        http2_max_streams: http2_max_streams?,
        http2_window: http2_window?,
        drain_notice: drain_notice?,
        drain_timeout: drain_timeout?,
    })
}

fn portal(section: &Section<'_>, base: &Path) -> Option<Portal> {
    let urls = portal_urls(section);
    let tls = super::tls::portal(section, base, urls.as_deref().unwrap_or_default());
    let max_in_flight = section.read("max_in_flight", value::whole(1..=1_000_000));
    let queue_timeout = section.read("queue_timeout", value::duration(WAIT));
    let preserve_host = section.read("preserve_host", value::flag);
    let connect_timeout = section.read("connect_timeout", value::duration(WAIT));
    let first_byte_timeout = section.read("first_byte_timeout", value::duration(WAIT));
    let idle_timeout = section.read("idle_timeout", value::duration(WAIT));
    let keep_alive = section.read("keep_alive", value::duration(WAIT));
    let request_buffer = section.read("request_buffer", value::size(0..=64 * 1024 * 1024));
    let response_buffer = section.read("response_buffer", value::size(0..=64 * 1024 * 1024));
    let ramp = section.read("ramp", value::duration(WAIT));
    let probes = probes(section);
    let errors_percent = section.read("max_errors", value::whole(0..=100u8));
    let latency = section.read("max_latency", value::unless_empty(value::duration(WAIT)));
    Some(Portal {
        urls: urls?,
        tls: tls?,
        max_in_flight: max_in_flight?,
        queue_timeout: queue_timeout?,
        preserve_host: preserve_host?,
        connect_timeout: connect_timeout?,
        first_byte_timeout: first_byte_timeout?,
        idle_timeout: idle_timeout?,
        keep_alive: keep_alive?,
        request_buffer: request_buffer?,
        response_buffer: response_buffer?,
        ramp: ramp?,
        probes: probes?,
        bearable: Bearable { errors_percent: errors_percent?, latency: latency? },
    })
}

/// How the portal, and the login providers, are asked whether they are well.
fn probes(section: &Section<'_>) -> Option<Probes> {
    let path = section.read("health", value::unless_empty(value::same_origin_path));
    let interval = section.read("health_interval", value::duration(WAIT));
    let timeout = section.read("health_timeout", value::duration(WAIT));
    let failures = section.read("health_failures", value::whole(1..=100u32));
    let successes = section.read("health_successes", value::whole(1..=100u32));
    let thresholds = Thresholds { failures: failures?, successes: successes? };
    Some(Probes { path: path?, interval: interval?, timeout: timeout?, thresholds })
}

/// `url` or `urls`: one of them, not both.
fn portal_urls(section: &Section<'_>) -> Option<Vec<PortalUrl>> {
    let url = section.optional("url", value::portal_url);
    let urls = if section.has("urls") { section.list_of_some("urls", value::portal_url) } else { Some(Vec::new()) };
    match (section.has("url"), section.has("urls")) {
        (true, true) => section.fault("urls", Wrong::new("stands beside url", "keep one of the two")),
        (false, false) if !section.is_no_table() => {
            let remedy = "write the portal's address, such as url = \"http://127.0.0.1:9000\"";
            section.fault("url", Wrong::new("missing", remedy));
        }
        _ => {}
    }
    let urls = urls.unwrap_or_default();
    for (index, repeated) in repetitions(&urls, |one, other| (&one.host, one.port) == (&other.host, other.port)) {
        let what = format!("{} stands there twice", value::shown(&repeated.authority));
        section.fault_in_list("urls", index, Wrong::new(what, "remove one of the two"));
    }
    url?.map(|url| vec![url]).or(Some(urls)).filter(|urls| !urls.is_empty())
}

fn admin(section: &Section<'_>, base: &Path, visitors: &[SocketAddr]) -> Option<Admin> {
    let listen = section.read("listen", |value| admin_listen(value, base));
    let hosts = section.list("hosts", value::host_name);
    let token_file = section.read("token_file", value::file_path(base));
    let view_needs_token = section.read("view_needs_token", value::flag);
    let state_dir = section.read("state_dir", value::unless_empty(value::file_path(base)));
    let tokens = super::operator::tokens(&section.tables("token"), base);
    check_private_listener(section, listen.as_ref(), visitors);
    let token_file = token_file?;
    let beside_token = || token_file.with_file_name("operators");
    Some(Admin {
        listen: listen?,
        hosts: hosts?,
        view_needs_token: view_needs_token?,
        state_dir: state_dir?.unwrap_or_else(beside_token),
        tokens: tokens?,
        token_file,
    })
}

fn admin_listen(value: &DeValue<'_>, base: &Path) -> Read<AdminListen> {
    let remedy = "write an address and a port such as \"127.0.0.1:9090\", or \"unix:\" and a path";
    match value.as_str().and_then(|text| text.strip_prefix("unix:")) {
        Some("") => Err(Wrong::new("\"unix:\" has no path", remedy)),
        Some(path) => Ok(AdminListen::Unix(base.join(path))),
        None => value::socket(value).map(AdminListen::Tcp).map_err(|wrong| Wrong::new(wrong.what, remedy)),
    }
}

fn tokens(section: &Section<'_>, base: &Path) -> Option<Tokens> {
    let key_dir = section.read("key_dir", value::file_path(base));
    let activate_after = section.read("activate_after", value::duration(DELAY));
    let pass_dir = section.read("pass_dir", value::file_path(base));
    Some(Tokens { key_dir: key_dir?, activate_after: activate_after?, pass_dir: pass_dir? })
}

fn log(section: &Section<'_>) -> Option<Log> {
    let json = section.read("format", value::one_of(&[("json", true), ("text", false)]));
    let access = section.read("access", value::flag);
    let truncate_addresses = section.read("client_address", value::one_of(&[("truncated", true), ("full", false)]));
    Some(Log { json: json?, access: access?, truncate_addresses: truncate_addresses? })
}

fn check_listeners(section: &Section<'_>, name: &str, listen: &[SocketAddr], taken: &[SocketAddr]) {
    for (index, repeated) in repetitions(listen, |one, other| collide(*one, *other)) {
        let what = format!("{repeated} is taken by another address of the list");
        section.fault_in_list(name, index, Wrong::new(what, "give each its own address and port"));
    }
    let is_taken = |address: &SocketAddr| taken.iter().any(|taken| collide(*taken, *address));
    for (index, address) in listen.iter().enumerate().filter(|(_, address)| is_taken(address)) {
        let what = format!("{address} is taken by server.listen");
        section.fault_in_list(name, index, Wrong::new(what, "give each its own address and port"));
    }
}

fn check_private_listener(section: &Section<'_>, listen: Option<&AdminListen>, visitors: &[SocketAddr]) {
    let Some(AdminListen::Tcp(private)) = listen else { return };
    if visitors.iter().any(|visitors| collide(*visitors, *private)) {
        let remedy = "give operators an address or port of their own, such as \"127.0.0.1:9090\"";
        section.fault("listen", Wrong::new(format!("{private} is where visitors are served"), remedy));
    }
}

/// Whether two sockets cannot both be listened on. Port 0 is a different port each time.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |address: IpAddr| address.is_unspecified();
    let same_address = one.ip() == other.ip() || everywhere(one.ip()) || everywhere(other.ip());
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && same_address
}

/// Members that are the same as an earlier one, with their index.
fn repetitions<T>(members: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<(usize, &T)> {
    let repeated = |(index, member): &(usize, &T)| members.iter().take(*index).any(|earlier| same(earlier, member));
    members.iter().enumerate().filter(repeated).collect()
}
