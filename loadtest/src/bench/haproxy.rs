//! Debian's HAProxy as a plain reverse proxy that makes the same header edits as ours and as nginx here.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::{Child, Command};

use super::tls::Certificate;
use crate::clock::Clock;
use crate::stage::{filled_in, until_listening};
use crate::{Context, Outcome};

const CONFIG: &str = r#"
global
    nbthread {workers}
    maxconn 4096
    tune.ssl.default-dh-param 2048
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 60s
    timeout http-keep-alive 75s
    option http-keep-alive
    http-reuse always

frontend visitors
    bind {listen} backlog 4096
    bind {tls} ssl crt {certificate} alpn h2,http/1.1
    default_backend portal

backend portal
    option forwardfor
    http-request set-header Via "1.1 proxy"
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header Forwarded "for=%[src];host=\"%[req.hdr(Host)]\";proto=%[ssl_fc,iif(https,http)]"
    http-request set-header X-Request-Id %[uuid()] unless { req.hdr(X-Request-Id) -m found }
    http-request replace-header Cookie (.*?);?\ ?(?:__Host-)?anticamera-(?:ticket|turn|pass|receipt)-[^;]*(.*) \1\2
    http-request set-header Cache-Control "no-store, no-cache"
    http-request set-header Pragma "no-cache"
    http-request del-header If-None-Match
    http-request del-header If-Modified-Since
    http-request del-header If-Range
    http-request del-header Range
    http-request del-header Expect
    http-request del-header Proxy
    http-request del-header X-Real-IP
    http-request del-header X-Original-URL
    http-request del-header X-Rewrite-URL
    http-request del-header X-HTTP-Method-Override
    http-request del-header Waiting-Room- -m beg
    http-response del-header Cache-Control
    http-response del-header Pragma
    http-response del-header Expires
    http-response del-header ETag
    http-response del-header Last-Modified
    http-response del-header Accept-Ranges
    http-response del-header Age
    http-response del-header Warning
    http-response del-header Vary
    http-response del-header Surrogate- -m beg
    http-response del-header CDN-Cache-Control -m end
    http-response del-header Edge-Control
    http-response del-header Waiting-Room- -m beg
    http-response set-header Via "1.1 proxy"
    http-response set-header Vary "*"
    http-response set-header Cache-Control "private, no-store, no-cache, must-revalidate, max-age=0"
    http-response set-header Pragma "no-cache"
    http-response set-header Expires "0"
    http-response set-header Surrogate-Control "no-store"
    http-response set-header CDN-Cache-Control "no-store"
    http-response set-header Cloudflare-CDN-Cache-Control "no-store"
    http-response set-header Vercel-CDN-Cache-Control "no-store"
    http-response set-header Netlify-CDN-Cache-Control "no-store"
    http-response set-header Edge-Control "no-store"
    http-response set-header X-Accel-Buffering "no"
    http-response set-header Age "0"
    server portal {portal}
"#;

/// Where it listens and what it stands before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Without TLS.
    pub(super) plain: SocketAddr,
    /// With TLS.
    pub(super) tls: SocketAddr,
    /// The portal.
    pub(super) portal: SocketAddr,
}

/// Starts HAProxy.
///
/// # Errors
/// When it does not start.
pub(super) async fn start(
    places: Places,
    workers: usize,
    certificate: &Certificate,
    directory: &Path,
    clock: &Clock,
) -> Outcome<Child> {
    let values = [
        ("{workers}", workers.to_string()),
        ("{listen}", places.plain.to_string()),
        ("{tls}", places.tls.to_string()),
        ("{portal}", places.portal.to_string()),
        ("{certificate}", certificate.both.display().to_string()),
    ];
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, filled_in(CONFIG, &values)).context(|| file.display().to_string())?;
    let log = std::fs::File::create(directory.join("haproxy.log")).context(|| "haproxy.log")?;
    let mut haproxy = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&file)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context(|| "start haproxy (Debian's package is haproxy)")?;
    until_listening(&mut haproxy, places.plain, clock).await.context(|| "haproxy")?;
    Ok(haproxy)
}
