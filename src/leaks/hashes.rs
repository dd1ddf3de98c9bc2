//! Keyed hashes: what stands in the memory and in the audit file instead of sessions, people and visitors.
//!
//! The key is a file of its own, so that whoever gets the audit file alone learns nothing, and removing the key makes
//! what was written meaningless.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::leak_detectors::{IdentityKey, SessionCookie, SessionKey, VisitorKey};
use crate::domain::recent::KeyIsHash;
use crate::entropy::{self, NoEntropy};

/// Bytes of the key.
const KEY_LEN: usize = 32;

/// Why there is no key for the hashes.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file cannot be read or written.
    #[error("the leak guard's key {0}: {1}; check leak_guard.audit_key and the directory's permissions")]
    Io(PathBuf, io::Error),
    /// Others could read the key.
    #[error("the leak guard's key {0} has mode {1:04o}, so that others can read it: chmod 600 it")]
    Exposed(PathBuf, u32),
    /// The file has another size than a key.
    #[error(
        "the leak guard's key {0} is not {KEY_LEN} bytes long: restore it, or move it away so that a new one is made"
    )]
    Length(PathBuf),
    /// The key cannot be drawn.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// Makes keyed hashes.
pub struct Hashes {
    mac: Hmac<Sha256>,
    lately: Lately,
}

/// Hashes made lately, by a short hash that only this process can make: every request of a visitor brings the same
/// session, and an HMAC costs more than everything else that is done about it where the processor has no SHA of its own.
#[derive(Default)]
struct Lately {
    short: RandomState,
    made: [Mutex<HashMap<u64, [u8; 16], KeyIsHash>>; SHARDS],
}

/// Locks among which the hashes made lately are divided.
const SHARDS: usize = 16;
/// Hashes remembered behind each of them; then all are forgotten.
const MOST: usize = 4096;

impl Lately {
    fn hash(&self, purpose: &str, parts: &[&[u8]], make: impl FnOnce() -> [u8; 16]) -> [u8; 16] {
        // Two of 65,536 meet once in ten thousand million times, and nobody outside can make them.
        let mut short = self.short.build_hasher();
        for part in [purpose.as_bytes()].iter().chain(parts) {
            short.write(part);
            short.write_usize(part.len());
        }
        let key = short.finish();
        // The remainder has as many values as there are shards. The map goes by the other bits.
        let shard = &self.made[(key >> 32) as usize % SHARDS];
        let mut made = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST {
            made.clear();
        }
        *made.entry(key).or_insert_with(make)
    }
}

impl std::fmt::Debug for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashes(..)")
    }
}

impl Hashes {
    /// Reads the key; where there is none it is made, readable by its owner only.
    ///
    /// # Errors
    /// [`KeyFault`]
    pub fn load_or_create(path: &Path) -> Result<Hashes, KeyFault> {
        match Hashes::load(path) {
            Err(KeyFault::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                Hashes::load(path)
            }
            loaded => loaded,
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyFault`]
    pub fn load(path: &Path) -> Result<Hashes, KeyFault> {
        let fault = |error| KeyFault::Io(path.to_owned(), error);
        let metadata = fs::metadata(path).map_err(fault)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyFault::Exposed(path.to_owned(), metadata.mode() & 0o7777));
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        if metadata.len() != KEY_LEN as u64 {
            return Err(KeyFault::Length(path.to_owned()));
        }
        fs::File::open(path).and_then(|mut file| file.read_exact(&mut *key)).map_err(fault)?;
        // A key of any length makes an HMAC (RFC 2104).
        let mac = Hmac::new_from_slice(&*key).map_err(|_| KeyFault::Length(path.to_owned()))?;
        Ok(Hashes { mac, lately: Lately::default() })
    }

    /// The hash of a portal's session.
    pub fn session(&self, cookie: &SessionCookie<'_>) -> SessionKey {
        SessionKey(self.of_frequent("session", &[cookie.name.as_bytes(), cookie.id]))
    }

    /// The hash of a person whom the portal names. Blanks around it and the case of letters make no difference, so that
    /// an institution's own list finds it.
    pub fn identity(&self, name: &[u8]) -> IdentityKey {
        let name = name.trim_ascii();
        if name.iter().any(u8::is_ascii_lowercase) {
            return IdentityKey(self.of_frequent("identity", &[&name.to_ascii_uppercase()]));
        }
        IdentityKey(self.of_frequent("identity", &[name]))
    }

    /// The hash of whom a proof of a class names.
    pub fn of_class(&self, class: &str, identity: &str) -> [u8; 16] {
        self.of("class", &[class.as_bytes(), identity.as_bytes()])
    }

    /// The hash of a visitor, for the audit file.
    pub fn visitor(&self, visitor: VisitorKey) -> [u8; 16] {
        self.of("visitor", &[&visitor.0])
    }

    /// The key of one note that is left in the store.
    pub(super) fn for_note(&self, salt: &[u8; 16]) -> [u8; 16] {
        self.of("note", &[salt])
    }

    fn of_frequent(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        self.lately.hash(purpose, parts, || self.of(purpose, parts))
    }

    /// A hash under its purpose, so that none can pass for another; every part but the last with its length.
    fn of(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.mac.clone();
        for part in [purpose.as_bytes()].into_iter().chain(parts.iter().copied()) {
            mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        short.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        short
    }
}

fn create(path: &Path) -> Result<(), KeyFault> {
    let fault = |error| KeyFault::Io(path.to_owned(), error);
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
    }
    let key = Zeroizing::new(entropy::bytes::<KEY_LEN>()?);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&*key).and_then(|()| file.sync_all()));
    match written {
        // Somebody else made it in the meantime.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written.map_err(fault),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/leak-guard.key");
        let first = Hashes::load_or_create(&path).unwrap();
        let again = Hashes::load_or_create(&path).unwrap();
        assert_eq!(first.identity(b"RSSMRA85T10A562S"), again.identity(b" rssmra85t10a562s "));
        assert_ne!(first.visitor(VisitorKey([1; 16])), first.visitor(VisitorKey([2; 16])));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Hashes::load(&path), Err(KeyFault::Exposed(..))));
    }

    #[test]
    fn a_session_is_no_identity() {
        let directory = tempfile::tempdir().unwrap();
        let hashes = Hashes::load_or_create(&directory.path().join("key")).unwrap();
        let session = |name, id| hashes.session(&SessionCookie { name, id }).0;
        assert_ne!(session("A", b"BC"), session("AB", b"C"));
        assert_ne!(hashes.identity(b"A").0, hashes.visitor(VisitorKey([0; 16])));
    }
}
