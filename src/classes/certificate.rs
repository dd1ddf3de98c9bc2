//! Client certificates: the authorities that are believed, what was taken back, and whose certificate it is.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::{ClassFault, Peer, RequestFacts, read};
use crate::config::{CertificateFrom, CertificateProof};
use crate::domain::certificate::{Attribute, CLIENT_CERT, Shown, has_all, in_headers, only};
use crate::domain::proof::{Failure, Outcome};
use crate::domain::time::Now;

/// What proves a class by a certificate.
#[derive(Debug)]
pub(super) struct Certificates {
    settings: CertificateProof,
    trust: RwLock<Trust>,
}

/// The verifier, and the files it was made of.
#[derive(Clone, Debug)]
struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    files: [Vec<u8>; 2],
}

impl Certificates {
    pub(super) fn load(settings: &CertificateProof) -> Result<Certificates, ClassFault> {
        Ok(Certificates { settings: settings.clone(), trust: RwLock::new(Trust::load(settings)?) })
    }

    /// Takes over changed files; faulty ones change nothing.
    pub(super) fn read_again(&self) {
        let old = self.trust.read().unwrap_or_else(PoisonError::into_inner).clone();
        match files(&self.settings) {
            Ok(files) if files == old.files => {}
            _ => match Trust::load(&self.settings) {
                Ok(trust) => *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust,
                Err(error) => tracing::warn!(%error, "the old certificate authorities stay in force"),
            },
        }
    }

    /// A certificate shown to us, or to a trusted proxy where the operator says that those remove what clients write; what
    /// others write in the proxy's headers is nothing.
    pub(super) fn check(&self, facts: &RequestFacts<'_>, now: Now) -> Outcome {
        let shown = match (facts.peer, facts.certificates) {
            // What a proxy shows us is its own.
            (Peer::Trusted, _) if self.settings.taken == CertificateFrom::ConnectionOrProxy => {
                in_headers(facts.headers)
            }
            (Peer::Trusted, _) if facts.headers.contains_key(&CLIENT_CERT) => Err(Failure::Untrusted),
            (Peer::Trusted, _) => Ok(None),
            (Peer::Stranger, [client, chain @ ..]) => Ok(Some(Shown {
                client: Cow::Borrowed(client),
                chain: chain.iter().map(|issuer| Cow::Borrowed(issuer.as_ref())).collect(),
            })),
            (Peer::Stranger, []) if facts.headers.contains_key(&CLIENT_CERT) => Err(Failure::Untrusted),
            (Peer::Stranger, []) => Ok(None),
        };
        match shown {
            Ok(None) => Outcome::Absent,
            Ok(Some(shown)) => {
                self.identity(&shown, now).map_or_else(Outcome::Failed, |name| Outcome::Holds(Some(name)))
            }
            Err(failure) => Outcome::Failed(failure),
        }
    }

    fn identity(&self, shown: &Shown<'_>, now: Now) -> Result<String, Failure> {
        let (_, certificate) = X509Certificate::from_der(&shown.client).map_err(|_| Failure::Malformed)?;
        let client = CertificateDer::from(shown.client.as_ref());
        let chain: Vec<CertificateDer<'_>> = shown.chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now.unix.0));
        let verifier = self.trust.read().unwrap_or_else(PoisonError::into_inner).verifier.clone();
        verifier.verify_client_cert(&client, &chain, at).map_err(|error| failure(&error))?;
        if !has_all(&attributes(certificate.issuer()), &self.settings.issuer) {
            return Err(Failure::Issuer);
        }
        let subject = attributes(certificate.subject());
        if !has_all(&subject, &self.settings.subject) {
            return Err(Failure::Claim);
        }
        only(&subject, &self.settings.identity).map(str::to_owned).ok_or(Failure::Claim)
    }
}

impl Trust {
    fn load(settings: &CertificateProof) -> Result<Trust, ClassFault> {
        let files = files(settings)?;
        let [authorities, revocations] = &files;
        let wrong = |key, path: &Path, wrong: String| ClassFault::Content { key, path: path.to_owned(), wrong };
        let ca = |what: String| wrong("class.proof.ca", &settings.ca, what);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate =
                certificate.map_err(|error| ca(format!("not PEM: {error}; write certificates as PEM")))?;
            roots.add(certificate).map_err(|error| ca(format!("{error}; write the authorities' own certificates")))?;
        }
        if roots.is_empty() {
            return Err(ca("no certificate; write the authorities' certificates as PEM".to_owned()));
        }
        let crl = settings.crl.as_deref().unwrap_or(Path::new(""));
        let lists: Result<Vec<CertificateRevocationListDer<'static>>, _> =
            CertificateRevocationListDer::pem_slice_iter(revocations).collect();
        let lists =
            lists.map_err(|error| wrong("class.proof.crl", crl, format!("not PEM: {error}; write it as PEM")))?;
        if settings.crl.is_some() && lists.is_empty() {
            return Err(wrong("class.proof.crl", crl, "no list; write the authorities' lists as PEM".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .build()
            .map_err(|error| ca(format!("{error}; compare it with the authorities' certificates")))?;
        Ok(Trust { verifier, files })
    }
}

fn files(settings: &CertificateProof) -> Result<[Vec<u8>; 2], ClassFault> {
    let revocations = match &settings.crl {
        Some(crl) => read("class.proof.crl", crl)?,
        None => Vec::new(),
    };
    Ok([read("class.proof.ca", &settings.ca)?, revocations])
}

fn failure(error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(error) = error else { return Failure::Malformed };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Failure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Failure::NotYetValid,
        CertificateError::Revoked => Failure::Revoked,
        CertificateError::UnknownIssuer => Failure::Issuer,
        // A list was configured and says nothing about this certificate.
        CertificateError::UnknownRevocationStatus => Failure::NoKeys,
        CertificateError::BadEncoding => Failure::Malformed,
        _ => Failure::BadSignature,
    }
}

fn attributes(name: &X509Name<'_>) -> Vec<Attribute> {
    let read = name.iter_attributes().filter_map(|attribute| {
        Some(Attribute { oid: attribute.attr_type().to_id_string(), value: attribute.as_str().ok()?.to_owned() })
    });
    read.collect()
}
