//! Every key of the file and its default, written as in the file. The one list of them: the reader takes defaults and
//! known keys from here, and the example file is held against it.

/// A key and what is to be done when the file does not have it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Must be there.
    Required,
    /// May be left out, and then means something of its own.
    Optional,
    /// May be left out, and then has this value, written as in the file.
    Default(&'static str),
    /// `[name]`
    Table(&'static [Key]),
    /// `[[name]]`
    Tables(&'static [Key]),
    /// `[[name]]`, whose keys depend on its key `kind`
    Variants(&'static [(&'static str, &'static [Key])]),
    /// Belongs to a later version.
    Later,
}

const fn required(name: &'static str) -> Key {
    Key { name, kind: Kind::Required }
}

const fn optional(name: &'static str) -> Key {
    Key { name, kind: Kind::Optional }
}

const fn key(name: &'static str, default: &'static str) -> Key {
    Key { name, kind: Kind::Default(default) }
}

#[expect(dead_code, reason = "just now there is none")]
const fn later(name: &'static str) -> Key {
    Key { name, kind: Kind::Later }
}

const fn table(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, kind: Kind::Table(keys) }
}

/// The file.
pub(super) const FILE: &[Key] = &[
    table("server", SERVER),
    table("portal", PORTAL),
    table("admin", ADMIN),
    table("tokens", TOKENS),
    table("store", STORE),
    Key { name: "room", kind: Kind::Tables(ROOM) },
    table("page", PAGE),
    table("leak_guard", LEAK_GUARD),
    table("log", LOG),
    Key { name: "class", kind: Kind::Tables(CLASS) },
];

const CLASS: &[Key] = &[
    required("name"),
    Key { name: "proof", kind: Kind::Variants(PROOF) },
    key("max_tickets", "0"),
    key("max_admissions_per_hour", "0"),
];

const PROOF: &[(&str, &[Key])] = &[
    ("client_certificate", CLIENT_CERTIFICATE),
    ("jwt", JWT),
    ("signed_header", SIGNED_HEADER),
    ("invitation_code", INVITATION_CODE),
    ("network", NETWORK),
];

const CLIENT_CERTIFICATE: &[Key] = &[
    required("kind"),
    required("ca"),
    key("crl", r#""""#),
    key("issuer", "{}"),
    key("subject", "{}"),
    key("identity", r#""CN""#),
    key("forwarded", "false"),
];

const JWT: &[Key] = &[
    required("kind"),
    optional("cookie"),
    optional("header"),
    required("keys"),
    required("issuer"),
    required("audience"),
    key("algorithms", r#"["RS256", "ES256", "EdDSA"]"#),
    key("claims", "{}"),
    key("identity", r#""sub""#),
    key("leeway", r#""60s""#),
    key("refresh", r#""10m""#),
    key("outage", r#""24h""#),
];

const SIGNED_HEADER: &[Key] =
    &[required("kind"), key("header", r#""waiting-room-proof""#), required("key_file"), key("window", r#""60s""#)];

const INVITATION_CODE: &[Key] = &[required("kind"), key("dir", r#""state/codes""#)];

const NETWORK: &[Key] = &[required("kind"), required("ranges"), key("sufficient", "false")];

const SERVER: &[Key] = &[
    required("listen"),
    key("threads", "0"),
    key("trusted_proxies", "[]"),
    key("client_address", r#""x-forwarded-for""#),
    key("public_url", r#""""#),
    key("own_path", r#""/.waiting-room""#),
    key("watch", "true"),
    key("cors_origins", "[]"),
    key("redirect_listen", "[]"),
    key("hsts", r#""""#),
    table("limits", LIMITS),
    Key { name: "tls", kind: Kind::Tables(TLS) },
];

const TLS: &[Key] = &[
    required("listen"),
    required("names"),
    required("certificate"),
    required("private_key"),
    key("client_auth", r#""none""#),
    optional("client_ca"),
];

const LIMITS: &[Key] = &[
    key("handshake_timeout", r#""10s""#),
    key("first_byte_timeout", r#""10s""#),
    key("head_timeout", r#""10s""#),
    key("body_idle_timeout", r#""30s""#),
    key("min_body_rate", r#""100B""#),
    key("write_idle_timeout", r#""60s""#),
    key("keep_alive_timeout", r#""75s""#),
    key("http2_idle_timeout", r#""3m""#),
    key("held_poll_timeout", r#""20s""#),
    key("max_connection_age", r#""1h""#),
    key("max_head_bytes", r#""64KiB""#),
    key("max_headers", "100"),
    key("max_cookie_bytes", r#""16KiB""#),
    key("max_connections", "20000"),
    key("max_connections_per_client", "2000"),
    key("idle_watermark", "80"),
    key("http2_max_streams", "100"),
    key("http2_window", r#""256KiB""#),
    key("drain_notice", r#""0s""#),
    key("drain_timeout", r#""30s""#),
];

const PORTAL: &[Key] = &[
    optional("url"),
    optional("urls"),
    key("ca", r#""""#),
    key("server_name", r#""""#),
    key("client_certificate", r#""""#),
    key("client_key", r#""""#),
    key("max_in_flight", "512"),
    key("queue_timeout", r#""5s""#),
    key("preserve_host", "true"),
    key("connect_timeout", r#""2s""#),
    key("first_byte_timeout", r#""60s""#),
    key("idle_timeout", r#""60s""#),
    key("keep_alive", r#""4s""#),
    key("request_buffer", r#""64KiB""#),
    key("response_buffer", r#""256KiB""#),
    key("ramp", r#""60s""#),
    key("health", r#""""#),
    key("health_interval", r#""5s""#),
    key("health_timeout", r#""3s""#),
    key("health_failures", "3"),
    key("health_successes", "2"),
    key("max_errors", "50"),
    key("max_latency", r#""""#),
];

const ADMIN: &[Key] = &[
    key("listen", r#""127.0.0.1:9090""#),
    key("hosts", "[]"),
    key("token_file", r#""state/admin-token""#),
    key("view_needs_token", "false"),
    key("state_dir", r#""""#),
    Key { name: "token", kind: Kind::Tables(ADMIN_TOKEN) },
];

const ADMIN_TOKEN: &[Key] = &[required("name"), required("role"), required("file"), optional("expires")];

const TOKENS: &[Key] =
    &[key("key_dir", r#""state/keys""#), key("activate_after", r#""5m""#), key("pass_dir", r#""state/passes""#)];

const STORE: &[Key] = &[
    key("kind", r#""embedded""#),
    key("path", r#""state""#),
    key("url", r#""redis://127.0.0.1:6379""#),
    key("sentinels", "[]"),
    key("primary", r#""""#),
    key("sentinel_user", r#""""#),
    key("sentinel_password_file", r#""""#),
    key("cluster", "[]"),
    key("user", r#""""#),
    key("password_file", r#""""#),
    key("ca", r#""""#),
    key("client_certificate", r#""""#),
    key("client_key", r#""""#),
    key("prefix", r#""anticamera""#),
    key("on_store_loss", r#""hold""#),
    key("share_for", r#""10m""#),
];

const ROOM: &[Key] = &[
    required("name"),
    key("hosts", r#"["*"]"#),
    required("paths"),
    optional("start"),
    required("admission_rate"),
    key("max_active_sessions", "0"),
    key("session_duration", r#""20m""#),
    key("session_limit", r#""""#),
    key("session_limit_extensions", "0"),
    key("claim_window", r#""20m""#),
    key("ticket_lifetime", r#""24h""#),
    key("gate_wait", r#""5s""#),
    key("joins_per_client", r#""1200/min""#),
    key("joins_in_all", r#""600000/min""#),
    key("requests_per_pass", r#""unlimited""#),
    key("requests_at_once_per_pass", "512"),
    key("forked_pass", r#""overlap""#),
    key("time_zone", r#""Europe/Rome""#),
    key("state", r#""open""#),
    key("entry", r#""direct""#),
    key("message", r#""""#),
    key("page_status", "503"),
    key("bypass", "[]"),
    key("login_callbacks", "[]"),
    key("logout", "[]"),
    key("login_health", r#""""#),
    optional("adaptive"),
    table("page", ROOM_PAGE),
    Key { name: "window", kind: Kind::Tables(WINDOW) },
    table("opening", OPENING),
    table("closing", CLOSING),
];

const OPENING: &[Key] = &[required("at"), key("order", r#""arrival""#), optional("gather_from")];

const CLOSING: &[Key] = &[required("at"), key("then", r#""serve""#), key("message", r#""""#)];

const WINDOW: &[Key] = &[
    required("from"),
    required("to"),
    key("days", "[]"),
    key("dates", "[]"),
    optional("share"),
    key("borrow", "false"),
    key("floor", "[]"),
    key("closed", "false"),
    optional("admission_rate"),
    optional("max_active_sessions"),
    key("message", r#""""#),
];

const ROOM_PAGE: &[Key] = &[
    key("service", r#""""#),
    key("hours", r#""""#),
    key("prepare", r#""""#),
    key("help", r#""""#),
    key("help_url", r#""""#),
    key("accessibility_url", r#""""#),
    key("privacy_url", r#""""#),
    key("colours", "{}"),
    key("dark_colours", "{}"),
];

const PAGE: &[Key] = &[
    key("assets", r#""""#),
    key("languages", r#"["it", "de", "sl", "fr", "en", "es", "ro", "sq", "uk", "ar", "zh"]"#),
];

const LEAK_GUARD: &[Key] = &[
    key("mode", r#""enforce""#),
    key("public", "[]"),
    key("downloads", "[]"),
    key("keep_cookies", "[]"),
    key("public_max_age", r#""""#),
    key("back_paths", "[]"),
    key("etag_paths", "[]"),
    key("cache_behind", r#""distrusted""#),
    key("upstream_bust", "false"),
    key("session_cookies", r#"["JSESSIONID", "PHPSESSID", "ASP.NET_SessionId"]"#),
    key("ignore_hit_headers", "[]"),
    key("remember_sessions", "200000"),
    key("remember_for", r#""2h""#),
    key("breaker", r#""stop""#),
    key("breaker_visitors", "3"),
    key("breaker_networks", "2"),
    key("breaker_within", r#""60s""#),
    key("breaker_quiet", r#""10m""#),
    key("audit_file", r#""state/leak-guard.jsonl""#),
    key("audit_key", r#""state/leak-guard.key""#),
    key("audit_retention", r#""180d""#),
    key("audit_max_size", r#""64MiB""#),
    key("audit_max_files", "200"),
    key("canary", r#""stop""#),
    key("canary_interval", r#""20s""#),
    key("scan_fiscal_codes", "false"),
    table("armour", ARMOUR),
    table("detectors", DETECTORS),
];

const ARMOUR: &[Key] = &[
    key("x_accel_buffering", "true"),
    key("x_accel_buffering_except", "[]"),
    key("vary", "true"),
    key("vary_except", "[]"),
    key("age", "true"),
    key("age_except", "[]"),
];

const DETECTORS: &[Key] = &[
    key("session_reissued", r#""block""#),
    key("cache_hit", r#""block""#),
    key("identity_mismatch", r#""block""#),
    key("session_identities", r#""block""#),
    key("identity_sessions", r#""alarm""#),
    key("session_presented", r#""alarm""#),
];

const LOG: &[Key] = &[key("format", r#""json""#), key("access", "true"), key("client_address", r#""truncated""#)];

/// The key of that name, if the table has it.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// What somebody who wrote the unknown key `name` in a table with these `keys` probably wanted.
pub(super) fn advice(keys: &'static [Key], name: &str) -> String {
    if let Some(near) = nearest(keys, name) {
        return format!("write {near}, if that is meant");
    }
    if let Some(home) = home(name) {
        return format!("{name} belongs in {home}");
    }
    format!("remove it; known here are {}", names(keys))
}

/// A key that differs by a slip, or of which only a part was written.
fn nearest(keys: &'static [Key], name: &str) -> Option<&'static str> {
    let slip = |key: &&Key| steps_apart(key.name, name) <= (key.name.len() / 4).max(1);
    let part = |key: &&Key| name.len() >= 3 && key.name.contains(name);
    let closest = supported(keys).filter(slip).min_by_key(|key| steps_apart(key.name, name));
    closest.or_else(|| supported(keys).find(part)).map(|key| key.name)
}

/// The table, as its heading is written, in which a key of this name stands.
fn home(name: &str) -> Option<String> {
    let limits = ("[server.limits]".to_owned(), LIMITS);
    let top_level = FILE.iter().filter_map(|key| match key.kind {
        Kind::Table(keys) => Some((format!("[{}]", key.name), keys)),
        Kind::Tables(keys) => Some((format!("[[{}]]", key.name), keys)),
        _ => None,
    });
    top_level.chain([limits]).find(|(_, keys)| supported(keys).any(|key| key.name == name)).map(|(heading, _)| heading)
}

fn names(keys: &'static [Key]) -> String {
    supported(keys).map(|key| key.name).collect::<Vec<_>>().join(", ")
}

fn supported(keys: &'static [Key]) -> impl Iterator<Item = &'static Key> {
    keys.iter().filter(|key| !matches!(key.kind, Kind::Later))
}

/// How many letters must be added, removed or replaced to get from one word to the other (Levenshtein's distance).
fn steps_apart(known: &str, typed: &str) -> usize {
    if typed.len() > 2 * known.len() {
        return typed.len();
    }
    let mut row: Vec<usize> = (0..=typed.chars().count()).collect();
    for (deleted, letter) in known.chars().enumerate() {
        let mut next = vec![deleted + 1];
        for (other, pair) in typed.chars().zip(row.windows(2)) {
            let &[replaced, added] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            next.push((replaced + usize::from(letter != other)).min(added + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (known, typed, steps) in
            [("listen", "listen", 0), ("listen", "lisen", 1), ("paths", "path", 1), ("url", "", 3)]
        {
            assert_eq!(steps_apart(known, typed), steps, "{known} {typed}");
        }
    }

    #[test]
    fn advice_names_the_nearest_key_or_its_home() {
        assert_eq!(advice(SERVER, "lisen"), "write listen, if that is meant");
        assert_eq!(advice(ROOM, "rate"), "write admission_rate, if that is meant");
        assert_eq!(advice(SERVER, "max_in_flight"), "max_in_flight belongs in [portal]");
        assert_eq!(advice(FILE, "admission_rate"), "admission_rate belongs in [[room]]");
        assert_eq!(advice(SERVER, "max_headers"), "max_headers belongs in [server.limits]");
        assert!(advice(LOG, "colour").starts_with("remove it; known here are format, access"));
    }
}
