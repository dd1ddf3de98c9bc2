//! What becomes of a changed configuration: taken over, refused for its faults, or refused as a whole because a part of
//! it needs a restart.

use std::sync::Arc;

use super::fault::Faults;
use super::resolved::Config;

/// The outcome of a reload. Only [`Reload::Applied`] changes anything.
#[derive(Debug)]
pub enum Reload {
    /// The new configuration is to be used from now on.
    Applied(Arc<Config>),
    /// The file says what it said before. (The files it names, such as keys, may have changed all the same.)
    Unchanged,
    /// The file is faulty; the old configuration stays.
    Refused(Faults),
    /// These keys cannot change while the program runs; the old configuration stays, whole.
    NeedsRestart(Vec<String>),
}

impl Reload {
    /// Compares what was just loaded with the configuration in force.
    pub fn of(in_force: &Config, loaded: Result<Config, Faults>) -> Reload {
        let new = match loaded {
            Ok(new) => new,
            Err(faults) => return Reload::Refused(faults),
        };
        if new == *in_force {
            return Reload::Unchanged;
        }
        let keys = restart_needed(in_force, &new);
        if keys.is_empty() { Reload::Applied(Arc::new(new)) } else { Reload::NeedsRestart(keys) }
    }
}

/// The keys that differ and take effect only at the next start; everything else can be reloaded.
///
/// `server.own_path` is one of them, because the pages of those who wait go on asking under the old one.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let differences = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.redirect_listen", old.server.redirect_listen != new.server.redirect_listen),
        ("server.tls.listen", old.server.tls_listen() != new.server.tls_listen()),
        ("server.threads", old.server.threads != new.server.threads),
        ("server.own_path", old.server.own_path != new.server.own_path),
        ("server.watch", old.server.watch != new.server.watch),
        ("server.limits.max_connections", old.server.limits.max_connections != new.server.limits.max_connections),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.token_file", old.admin.token_file != new.admin.token_file),
        ("admin.state_dir", old.admin.state_dir != new.admin.state_dir),
        ("tokens.key_dir", old.tokens.key_dir != new.tokens.key_dir),
        ("store", old.store != new.store),
        ("leak_guard.audit_file", old.leak_guard.audit.file != new.leak_guard.audit.file),
        ("leak_guard.audit_key", old.leak_guard.audit.key != new.leak_guard.audit.key),
        ("log.format", old.log.json != new.log.json),
    ];
    differences.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    const FILE: &str = r#"
        server.listen = ["127.0.0.1:8080"]
        portal.url = "http://127.0.0.1:9000"
        [[room]]
        name = "bonus-600"
        paths = ["/bonus-600/**"]
        admission_rate = "100/s"
    "#;

    fn config(text: &str) -> Config {
        parse(text, Path::new("/etc/anticamera")).unwrap()
    }

    /// The outcome when `from` becomes `to` in the file.
    fn reload(from: &str, to: &str) -> Reload {
        Reload::of(&config(FILE), parse(&FILE.replace(from, to), Path::new("/etc/anticamera")))
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert!(matches!(reload("100/s", "100/s"), Reload::Unchanged));
    }

    #[test]
    fn a_changed_rate_is_applied() {
        let Reload::Applied(new) = reload("100/s", "200/s") else { panic!("not applied") };
        assert_eq!(new.rooms.first().unwrap().admission_rate.count(), 200);
    }

    #[test]
    fn a_faulty_file_is_refused() {
        assert!(matches!(reload("100/s", "100/day"), Reload::Refused(_)));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_is_applied() {
        let changed = FILE.replace("8080", "8081").replace("100/s", "7/s") + "\n[store]\npath = \"elsewhere\"";
        let outcome = Reload::of(&config(FILE), parse(&changed, Path::new("/etc/anticamera")));
        let Reload::NeedsRestart(keys) = outcome else { panic!("{outcome:?}") };
        assert_eq!(keys, ["server.listen", "store"]);
    }

    #[test]
    fn every_key_that_needs_a_restart_is_found() {
        let changed = r#"
            server.listen = ["127.0.0.1:1"]
            server.redirect_listen = ["127.0.0.1:2"]
            server.tls = [{ listen = ["127.0.0.1:3"], names = ["a"], certificate = "c", private_key = "k" }]
            server.threads = 3
            server.own_path = "/waiting"
            server.watch = false
            server.limits.max_connections = 5
            portal.url = "http://127.0.0.1:9001"
            admin.listen = "unix:/run/anticamera.sock"
            admin.token_file = "token"
            admin.state_dir = "elsewhere"
            tokens.key_dir = "keys"
            store.path = "elsewhere"
            leak_guard.audit_file = "elsewhere.jsonl"
            leak_guard.audit_key = "elsewhere.key"
            log.format = "text"
        "#;
        let keys = restart_needed(&config(FILE), &config(changed));
        assert_eq!(
            keys,
            [
                "server.listen",
                "server.redirect_listen",
                "server.tls.listen",
                "server.threads",
                "server.own_path",
                "server.watch",
                "server.limits.max_connections",
                "admin.listen",
                "admin.token_file",
                "admin.state_dir",
                "tokens.key_dir",
                "store",
                "leak_guard.audit_file",
                "leak_guard.audit_key",
                "log.format"
            ]
        );
    }
}
