//! Debian's nginx, once as the portal (a short static answer) and once as a plain reverse proxy that makes the same
//! header edits as ours. One worker each, its own configuration, no logs, nothing of the system's.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::{Child, Command};

use super::tls::Certificate;
use crate::clock::Clock;
use crate::stage::{filled_in, until_listening};
use crate::{Context, Outcome};

const FRAME: &str = "
daemon off;
worker_processes {workers};
pid {dir}/{name}.pid;
error_log {dir}/{name}.log error;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path {dir}/{name}-body;
    proxy_temp_path {dir}/{name}-proxy;
    fastcgi_temp_path {dir}/{name}-fastcgi;
    uwsgi_temp_path {dir}/{name}-uwsgi;
    scgi_temp_path {dir}/{name}-scgi;
    keepalive_requests 100000000;
    keepalive_timeout 75s;
    client_max_body_size 16m;
    client_body_buffer_size 2m;
    ssl_protocols TLSv1.2 TLSv1.3;
    {blocks}
}
";

const PORTAL: &str = r#"
    server {
        {listens}
        default_type text/html;
        add_header Cache-Control "max-age=60";
        add_header X-Load-Portal "1";
        location / {
            return 200 "{body}";
        }
        location = /bench/16k {
            alias {dir}/16k;
            open_file_cache max=16 inactive=10m;
            open_file_cache_valid 10m;
        }
    }
"#;

/// Header by header what our proxy does on a personal route: hop-by-hop headers, what nobody outside may say,
/// forwarding headers, our own cookies and no others taken out, no conditions towards the portal, one cache policy
/// towards the visitor. Headers that are only taken away cost nginx nothing that depends on their number.
const PROXY: &str = r#"
    map $http_cookie $cookies_of_others {
        default $http_cookie;
        "~^(?<before>.*?);? ?anticamera-(ticket|turn|pass|receipt)-[^;]*(?<after>.*)$" "$before$after";
    }
    map $http_x_request_id $id {
        default $http_x_request_id;
        "" $request_id;
    }
    {log}
    upstream portal {
        server {portal};
        keepalive 128;
        keepalive_requests 100000000;
    }
    server {
        {listens}
        location / {
            proxy_pass http://portal;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header Via "1.1 proxy";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header Forwarded "for=$remote_addr;host=\"$http_host\";proto=$scheme";
            proxy_set_header X-Request-Id $id;
            proxy_set_header Cookie $cookies_of_others;
            proxy_set_header Cache-Control "no-store, no-cache";
            proxy_set_header Pragma "no-cache";
            proxy_set_header If-None-Match "";
            proxy_set_header If-Modified-Since "";
            proxy_set_header If-Range "";
            proxy_set_header Range "";
            proxy_set_header Expect "";
            proxy_set_header Proxy "";
            proxy_set_header X-Real-IP "";
            proxy_set_header X-Original-URL "";
            proxy_set_header X-Rewrite-URL "";
            proxy_set_header X-HTTP-Method-Override "";
            proxy_set_header Waiting-Room-Ticket "";
            proxy_set_header Waiting-Room-Turn "";
            proxy_set_header Waiting-Room-Pass "";
            proxy_hide_header Cache-Control;
            proxy_hide_header Pragma;
            proxy_hide_header Expires;
            proxy_hide_header ETag;
            proxy_hide_header Last-Modified;
            proxy_hide_header Accept-Ranges;
            proxy_hide_header Age;
            proxy_hide_header Warning;
            proxy_hide_header Vary;
            proxy_hide_header Surrogate-Control;
            proxy_hide_header Surrogate-Key;
            proxy_hide_header CDN-Cache-Control;
            proxy_hide_header Cloudflare-CDN-Cache-Control;
            proxy_hide_header Vercel-CDN-Cache-Control;
            proxy_hide_header Netlify-CDN-Cache-Control;
            proxy_hide_header Edge-Control;
            proxy_hide_header Waiting-Room-Command;
            proxy_hide_header Waiting-Room-Identity;
            add_header Via "1.1 proxy" always;
            add_header Vary "*" always;
            add_header Cache-Control "private, no-store, no-cache, must-revalidate, max-age=0" always;
            add_header Pragma "no-cache" always;
            add_header Expires "0" always;
            add_header Surrogate-Control "no-store" always;
            add_header CDN-Cache-Control "no-store" always;
            add_header Cloudflare-CDN-Cache-Control "no-store" always;
            add_header Vercel-CDN-Cache-Control "no-store" always;
            add_header Netlify-CDN-Cache-Control "no-store" always;
            add_header Edge-Control "no-store" always;
            add_header X-Accel-Buffering "no" always;
            add_header Age "0" always;
        }
    }
"#;

/// The same line for each request as ours, written in batches as ours.
const LOG: &str = r#"
    log_format like_ours escape=json '{"timestamp":"$time_iso8601","level":"INFO","target":"access","request_id":"$id",'
        '"client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri","status":$status,'
        '"decision":"admitted_pass","room":"bench","class":"citizen","bytes":$body_bytes_sent,'
        '"duration_ms":$request_time,"upstream_ms":$upstream_response_time}';
    access_log {dir}/access.log like_ours buffer=64k flush=1s;
"#;

/// Whether each request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessLog {
    /// One line for each.
    On,
    /// None.
    Off,
}

/// The cheapest answers nginx can give: a text of its configuration, and a file.
const ANSWERS: &str = r#"
    server {
        {listens}
        default_type application/json;
        location = /file { root {dir}; default_type text/html; }
        location / { return 200 '{body}'; }
    }
"#;

/// Bytes of the portal's answer ...
const BODY_BYTES: usize = 1024;
/// ... and of `/bench/16k`.
const LONG_BODY_BYTES: usize = 16 * 1024;

/// Where a program listens, and with how many workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front<'f> {
    /// Without TLS.
    pub(super) plain: SocketAddr,
    /// With TLS.
    pub(super) tls: Option<(SocketAddr, &'f Certificate)>,
    /// Worker processes or threads.
    pub(super) workers: usize,
}

impl Front<'_> {
    /// One worker, no TLS.
    pub(super) fn plain(plain: SocketAddr) -> Front<'static> {
        Front { plain, tls: None, workers: 1 }
    }

    fn listens(&self) -> String {
        let plain = format!("listen {} backlog=4096;", self.plain);
        let Some((tls, Certificate { certificate, key, .. })) = self.tls else { return plain };
        format!(
            "{plain} listen {tls} ssl http2 backlog=4096; ssl_certificate {}; ssl_certificate_key {};",
            certificate.display(),
            key.display()
        )
    }
}

/// Starts nginx as the portal.
///
/// # Errors
/// When it does not start.
pub(super) async fn start_portal(listen: SocketAddr, directory: &Path, clock: &Clock) -> Outcome<Child> {
    std::fs::write(directory.join("16k"), "x".repeat(LONG_BODY_BYTES)).context(|| "16k")?;
    let values = [("{body}", "x".repeat(BODY_BYTES))];
    start("portal", &filled_in(PORTAL, &values), Front::plain(listen), directory, clock).await
}

/// Starts nginx as a reverse proxy before `portal`.
///
/// # Errors
/// When it does not start.
pub(super) async fn start_proxy(
    front: Front<'_>,
    portal: SocketAddr,
    log: AccessLog,
    directory: &Path,
    clock: &Clock,
) -> Outcome<Child> {
    let log = if log == AccessLog::On { LOG } else { "" };
    let values = [("{portal}", portal.to_string()), ("{log}", log.to_owned())];
    start("proxy", &filled_in(PROXY, &values), front, directory, clock).await
}

/// Starts nginx to answer everything with `body`, and `/file` with the file of that name in `directory`.
///
/// # Errors
/// When it does not start.
pub(super) async fn start_answers(front: Front<'_>, body: &str, directory: &Path, clock: &Clock) -> Outcome<Child> {
    let body = body.replace(['\'', '$'], "_");
    start("answers", &filled_in(ANSWERS, &[("{body}", body)]), front, directory, clock).await
}

async fn start(name: &str, blocks: &str, front: Front<'_>, directory: &Path, clock: &Clock) -> Outcome<Child> {
    let file = directory.join(format!("{name}.conf"));
    let values = [
        ("{blocks}", blocks.to_owned()),
        ("{listens}", front.listens()),
        ("{workers}", front.workers.to_string()),
        ("{dir}", directory.display().to_string()),
        ("{name}", format!("nginx-{name}")),
    ];
    std::fs::write(&file, filled_in(FRAME, &values)).context(|| file.display().to_string())?;
    let mut nginx = Command::new("nginx")
        .arg("-p")
        .arg(directory)
        .arg("-e")
        .arg(directory.join("nginx-start.log"))
        .arg("-c")
        .arg(&file)
        .kill_on_drop(true)
        .spawn()
        .context(|| "start nginx (Debian's package is nginx)")?;
    until_listening(&mut nginx, front.plain, clock).await.context(|| format!("nginx as {name}"))?;
    Ok(nginx)
}

/// Asks nginx to end; its worker ends with it, as it would not if the master were killed.
pub(super) async fn end(mut nginx: Child) {
    if let Some(pid) = nginx.id() {
        // Whether the signal reached it shows in the waiting.
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), nginx.wait()).await;
    }
}
