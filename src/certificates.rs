//! Certificates and keys as they lie in files: what is wrong with them, in words for the operator, and what is doubtful.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::config::ServedName;
use crate::domain::time::Unix;

/// A larger file is refused unread.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// How long before its end a certificate is worth a warning, in seconds.
const EXPIRES_SOON: i64 = 14 * 24 * 3600;

/// A certificate, its issuers and its key.
#[derive(Debug)]
pub struct Identity {
    pub(crate) certified: CertifiedKey,
    /// The second, in Unix time, after which the certificate is not valid any more.
    pub(crate) expires: i64,
    begins: i64,
    key_file: PathBuf,
    key_mode: u32,
}

/// Everything that is wrong with the files, at once.
#[derive(Debug)]
pub struct Faults(pub(crate) Vec<Fault>);

/// One thing that is wrong with a file.
#[derive(Debug)]
pub struct Fault {
    /// The table that names it.
    pub key: String,
    /// What is wrong, and what to do about it.
    pub wrong: Wrong,
}

/// What may be wrong with certificates and keys.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}; name an existing file that the program's user may read")]
    Unreadable(PathBuf, io::Error),
    /// A file has no certificate.
    #[error("{0} holds no certificate: name a PEM file that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate(PathBuf),
    /// A certificate is damaged.
    #[error("{0} holds a certificate that cannot be understood: get it anew from whoever issued it")]
    Damaged(PathBuf),
    /// A file has no key.
    #[error(
        "{0} holds no private key without a password: name a PEM file that begins with -----BEGIN PRIVATE KEY-----"
    )]
    NoKey(PathBuf),
    /// A key of a kind that is not supported.
    #[error("the key in {0} is of no supported kind: make one for ECDSA (P-256), Ed25519 or RSA of 2048 bits or more")]
    KeyKind(PathBuf),
    /// A key belongs to another certificate.
    #[error(
        "the key in {key} does not belong to the certificate in {certificate}: name the two that were made together"
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate is over.
    #[error("the certificate in {0} expired on {1}: renew it")]
    Expired(PathBuf, String),
    /// The issuers of client certificates cannot be used.
    #[error("the issuers of client certificates cannot be used: {0}; check client_ca")]
    Issuers(String),
    /// Anything else.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(Error),
}

impl Faults {
    /// What is wrong with the files named in `[portal]`.
    pub fn of_portal(wrong: Wrong) -> Faults {
        Faults(vec![Fault { key: "portal".to_owned(), wrong }])
    }

    /// The faults, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Fault { key, wrong }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{key}: {wrong}")?;
        }
        Ok(())
    }
}

impl Identity {
    /// Reads a certificate with its issuers, and its key.
    ///
    /// # Errors
    /// Everything that is [`Wrong`].
    pub fn load(certificate: &Path, key: &Path, provider: &CryptoProvider, now: Unix) -> Result<Identity, Vec<Wrong>> {
        let (chain, signing) = (certificates(certificate), private_key(key));
        let (chain, (key_der, key_mode)) = match (chain, signing) {
            (Ok(chain), Ok(signing)) => (chain, signing),
            (chain, signing) => return Err([chain.err(), signing.err()].into_iter().flatten().collect()),
        };
        let one = |wrong| vec![wrong];
        let (begins, expires) = validity(&chain).ok_or_else(|| one(Wrong::Damaged(certificate.to_owned())))?;
        let signing = provider.key_provider.load_private_key(key_der);
        let signing = signing.map_err(|_| one(Wrong::KeyKind(key.to_owned())))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            // A key that cannot tell which certificate it belongs to is believed.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(one(Wrong::Mismatch { key: key.to_owned(), certificate: certificate.to_owned() }));
            }
            Err(_) => return Err(one(Wrong::Damaged(certificate.to_owned()))),
        }
        if expires < i64::from(now.seconds()) {
            return Err(one(Wrong::Expired(certificate.to_owned(), date(expires))));
        }
        Ok(Identity { certified, expires, begins, key_file: key.to_owned(), key_mode })
    }

    /// What is allowed but probably not meant.
    pub(crate) fn doubts(&self, names: &[ServedName], now: Unix) -> Vec<String> {
        let now = i64::from(now.seconds());
        let mut doubts: Vec<String> = names.iter().filter_map(|name| self.lacks(name)).collect();
        if self.begins > now {
            doubts.push(format!("the certificate is valid only from {} on; browsers refuse it", date(self.begins)));
        }
        if self.expires - now < EXPIRES_SOON {
            doubts.push(format!("the certificate expires on {}; renew it", date(self.expires)));
        }
        if self.key_mode & 0o007 != 0 {
            doubts.push(format!("every user of this machine can read {}; chmod 600 it", self.key_file.display()));
        }
        doubts
    }

    fn lacks(&self, name: &ServedName) -> Option<String> {
        let leaf = self.certified.cert.first()?;
        let parsed = ParsedCertificate::try_from(leaf).ok()?;
        let example = ServerName::try_from(name.example()).ok()?;
        let lacks = verify_server_name(&parsed, &example).is_err();
        lacks.then(|| format!("{name} is not in the certificate, so browsers refuse it; get one that has the name"))
    }
}

/// The certificates of those who may issue client certificates.
///
/// # Errors
/// What is [`Wrong`] with the file.
pub(crate) fn issuers(path: &Path) -> Result<Vec<CertificateDer<'static>>, Vec<Wrong>> {
    certificates(path).map_err(|wrong| vec![wrong])
}

/// All certificates of a PEM file, in their order.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let (bytes, _) = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Wrong::NoCertificate(path.to_owned())),
        Err(_) => Err(Wrong::Damaged(path.to_owned())),
    }
}

/// The first key of a PEM file, and the file's mode.
pub(crate) fn private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, u32), Wrong> {
    let (bytes, mode) = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| Wrong::NoKey(path.to_owned()))?;
    Ok((key, mode))
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), Wrong> {
    let unreadable = |error| Wrong::Unreadable(path.to_owned(), error);
    // Asked before opening, because opening a named pipe would wait for a writer.
    let facts = fs::metadata(path).map_err(unreadable)?;
    if !facts.is_file() || facts.len() > LARGEST_FILE {
        return Err(unreadable(io::Error::other("it is no file of less than 4 MiB")));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok((bytes, facts.mode()))
}

/// From when to when the first certificate is valid, in seconds of Unix time.
fn validity(chain: &[CertificateDer<'_>]) -> Option<(i64, i64)> {
    let (_, certificate) = parse_x509_certificate(chain.first()?).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// The provider of all cryptography of TLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
