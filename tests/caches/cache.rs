//! Real caches from Debian's packages, each with the configuration that its manual begins with, and with a careless one:
//! cookies ignored, a lifetime forced on everything.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Varnish,
    Haproxy,
    Squid,
    Apache,
}

/// How it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    Default,
    Careless,
}

/// All set-ups.
pub const ALL: [(Kind, Care); 10] = [
    (Kind::Nginx, Care::Default),
    (Kind::Varnish, Care::Default),
    (Kind::Haproxy, Care::Default),
    (Kind::Squid, Care::Default),
    (Kind::Apache, Care::Default),
    (Kind::Nginx, Care::Careless),
    (Kind::Varnish, Care::Careless),
    (Kind::Haproxy, Care::Careless),
    (Kind::Squid, Care::Careless),
    (Kind::Apache, Care::Careless),
];

/// A cache that runs. Dropping it ends its process.
pub struct Cache {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Cache {
    /// Starts it in front of this address and waits until it listens.
    pub fn start(kind: Kind, care: Care, upstream: SocketAddr) -> Cache {
        let directory = tempfile::tempdir().unwrap();
        // Some of them give up their privileges and write here all the same.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let address = free_address();
        let place = directory.path().to_str().unwrap().to_owned();
        let careless = care == Care::Careless;
        let mut command = match kind {
            Kind::Nginx => nginx(&place, address, upstream, careless),
            Kind::Varnish => varnish(&place, address, upstream, careless),
            Kind::Haproxy => haproxy(&place, address, upstream, careless),
            Kind::Squid => squid(&place, address, upstream, careless),
            Kind::Apache => apache(&place, address, upstream, careless),
        };
        let log = fs::File::create(directory.path().join("output")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut cache = Cache { address, child, directory };
        cache.wait_until_it_listens(kind, &place);
        cache
    }

    fn wait_until_it_listens(&mut self, kind: Kind, place: &str) {
        for _ in 0..3000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            let over = self.child.try_wait().unwrap();
            let output = || fs::read_to_string(format!("{place}/output")).unwrap_or_default();
            assert!(over.is_none(), "{kind:?} ended: {}", output());
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{kind:?} does not listen");
    }
}

impl Cache {
    /// A HAProxy that keeps visitors with one of two servers by a cookie of its own, and caches nothing.
    pub fn start_sticky_balancer(servers: [SocketAddr; 2]) -> Cache {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap().to_owned();
        let address = free_address();
        let [one, two] = servers;
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend f\n  bind {address}\n  default_backend b\n\
             backend b\n  balance roundrobin\n  cookie SERVERID insert indirect nocache\n\
             \x20 server one {one} cookie one\n  server two {two} cookie two\n"
        );
        let mut command = program("haproxy");
        command.args(["-db", "-f", &write(&place, "haproxy.cfg", &text)]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut cache = Cache { address, child, directory };
        cache.wait_until_it_listens(Kind::Haproxy, &place);
        cache
    }

    /// An nginx that keeps style sheets and pictures for ten minutes, whoever asks, and nothing else; it says of every
    /// answer whether it had it.
    pub fn start_for_files(upstream: SocketAddr) -> Cache {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let place = directory.path().to_str().unwrap().to_owned();
        let address = free_address();
        let mut command = nginx(&place, address, upstream, true);
        let file = format!("{place}/nginx.conf");
        let text = fs::read_to_string(&file).unwrap();
        let text = text
            .replace("access_log off;", &format!("log_format h $upstream_cache_status; access_log {place}/hits h;"));
        let text = text.replace(
            "proxy_cache c;",
            "set $page 1; if ($uri ~ \\.(css|png)$) { set $page 0; }\n\
                                                   proxy_cache c; proxy_cache_bypass $page; proxy_no_cache $page;",
        );
        // Variables in a condition: nothing but 0 and the empty text is false.
        fs::write(&file, text).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut cache = Cache { address, child, directory };
        cache.wait_until_it_listens(Kind::Nginx, &place);
        cache
    }

    /// Answers that a cache for files had, so far.
    pub fn hits(&self) -> usize {
        let hits = fs::read_to_string(self.directory.path().join("hits")).unwrap();
        hits.lines().filter(|line| *line == "HIT").count()
    }

    /// An nginx that ends TLS and keeps nothing, or everything; with a certificate of its own making.
    pub fn start_with_tls(care: Care, upstream: SocketAddr) -> (Cache, String) {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap().to_owned();
        let (key, certificate) = (format!("{place}/key.pem"), format!("{place}/certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &key, "-out", &certificate])
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "openssl makes a certificate");
        let address = free_address();
        let mut command = nginx(&place, address, upstream, care == Care::Careless);
        let file = format!("{place}/nginx.conf");
        let text = fs::read_to_string(&file).unwrap();
        let tls = format!("listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};");
        fs::write(&file, text.replace(&format!("listen {address};"), &tls)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut cache = Cache { address, child, directory };
        cache.wait_until_it_listens(Kind::Nginx, &place);
        (cache, certificate)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // They have children of their own, which a proper end takes along.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        for _ in 0..300 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn write(place: &str, name: &str, text: &str) -> String {
    let path = format!("{place}/{name}");
    fs::write(&path, text).unwrap();
    path
}

/// A program of Debian, which may be where only administrators look.
pub fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/usr/bin"].map(|place| format!("{place}/{name}"));
    Command::new(places.iter().find(|path| std::path::Path::new(path).exists()).map_or(name, String::as_str))
}

fn nginx(place: &str, address: SocketAddr, upstream: SocketAddr, careless: bool) -> Command {
    let careless = if careless {
        "proxy_cache_valid any 10m; proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;\n\
         proxy_cache_methods GET HEAD;"
    } else {
        ""
    };
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/t;\n\
         fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         proxy_cache_path {place}/cache keys_zone=c:10m;\n\
         server {{ listen {address}; location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
         proxy_set_header Host $host; proxy_set_header Connection \"\"; proxy_buffer_size 32k; proxy_buffers 8 32k;\n\
         proxy_cache c; add_header X-Cache-Status $upstream_cache_status; {careless} }} }} }}\n"
    );
    let mut command = program("nginx");
    command.args(["-p", place, "-c", &write(place, "nginx.conf", &text)]);
    command
}

fn varnish(place: &str, address: SocketAddr, upstream: SocketAddr, careless: bool) -> Command {
    let careless = if careless {
        "sub vcl_recv { if (req.method == \"GET\" || req.method == \"HEAD\") { return (hash); } }\n\
         sub vcl_backend_response { set beresp.ttl = 10m; set beresp.uncacheable = false; return (deliver); }\n"
    } else {
        ""
    };
    let text = format!(
        "vcl 4.1;\nbackend default {{ .host = \"{}\"; .port = \"{}\"; }}\n{careless}",
        upstream.ip(),
        upstream.port()
    );
    let mut command = program("varnishd");
    command.args(["-F", "-j", "none", "-n", &format!("{place}/v"), "-a", &address.to_string(), "-T", "none"]);
    command.args(["-p", "http_resp_hdr_len=16k", "-s", "malloc,32m", "-f", &write(place, "default.vcl", &text)]);
    command
}

fn haproxy(place: &str, address: SocketAddr, upstream: SocketAddr, careless: bool) -> Command {
    let careless = if careless {
        "  http-response del-header Vary\n  http-response del-header Pragma\n  http-response del-header Expires\n\
         \x20 http-response set-header Cache-Control \"public, max-age=600\"\n"
    } else {
        ""
    };
    let text = format!(
        "global\n  maxconn 500\n  tune.bufsize 32768\ncache c\n  total-max-size 16\n  max-object-size 1000000\n  max-age 600\n  process-vary on\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend f\n  bind {address}\n  default_backend b\n\
         backend b\n  http-request cache-use c\n{careless}  http-response cache-store c\n  server s {upstream}\n"
    );
    let mut command = program("haproxy");
    command.args(["-db", "-f", &write(place, "haproxy.cfg", &text)]);
    command
}

fn squid(place: &str, address: SocketAddr, upstream: SocketAddr, careless: bool) -> Command {
    let pattern = if careless {
        "refresh_pattern . 10 100% 10 override-expire override-lastmod ignore-no-store ignore-private ignore-reload"
    } else {
        "refresh_pattern . 0 20% 4320"
    };
    let text = format!(
        "http_port {address} accel defaultsite=portal.example\n\
         cache_peer {} parent {} 0 no-query originserver name=p\n\
         http_access allow all\ncache_peer_access p allow all\ncache_mem 16 MB\n{pattern}\n\
         access_log none\ncache_log {place}/cache.log\ncache_store_log none\npid_filename none\n\
         coredump_dir {place}\nshutdown_lifetime 0 seconds\nvisible_hostname squid.example\nnetdb_filename none\n\
         pinger_enable off\nreply_header_max_size 64 KB\n",
        upstream.ip(),
        upstream.port()
    );
    let mut command = program("squid");
    command.args(["-N", "-f", &write(place, "squid.conf", &text)]);
    command
}

fn apache(place: &str, address: SocketAddr, upstream: SocketAddr, careless: bool) -> Command {
    let modules = [
        ("mpm_event", "mpm_event"),
        ("proxy", "proxy"),
        ("proxy_http", "proxy_http"),
        ("cache", "cache"),
        ("cache_disk", "cache_disk"),
        ("authz_core", "authz_core"),
    ];
    let modules: Vec<String> = modules
        .iter()
        .map(|(name, file)| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{file}.so\n"))
        .collect();
    let careless = if careless {
        "CacheIgnoreCacheControl On\nCacheIgnoreNoLastMod On\nCacheStoreNoStore On\nCacheStorePrivate On\n\
         CacheDefaultExpire 600\nCacheMinExpire 600\n"
    } else {
        ""
    };
    fs::create_dir(format!("{place}/cache")).unwrap();
    fs::set_permissions(format!("{place}/cache"), fs::Permissions::from_mode(0o777)).unwrap();
    let text = format!(
        "ServerRoot {place}\nServerName portal.example\nDefaultRuntimeDir {place}\nPidFile {place}/pid\nListen {address}\n\
         User www-data\nGroup www-data\nErrorLog {place}/error.log\n{}\
         LimitRequestFieldSize 32768\nProxyPreserveHost On\nProxyPass / http://{upstream}/ nocanon\n\
         CacheRoot {place}/cache\nCacheEnable disk /\n{careless}",
        modules.concat()
    );
    let mut command = program("apache2");
    command.args(["-DFOREGROUND", "-f", &write(place, "apache.conf", &text)]);
    command
}
