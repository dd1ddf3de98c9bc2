//! Who belongs to which class: looks at what a request shows, and says which class it proves. The rules are in
//! [`domain::proof`](crate::domain::proof) and its neighbours; here are the files, keys and codes that they need.
//!
//! Proofs are looked at when a visitor joins, or goes straight through; after that the ticket carries the class. Whatever
//! does not hold leaves the visitor a citizen, and is counted by its reason: nobody sees an error page for it.

mod certificate;
pub mod codes;
mod gateway_header;
mod held;
mod held_everywhere;
mod json_web_keys;
mod token;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use self::certificate::Certificates;
use self::codes::{Codes, CodesFault, Reservation};
use self::gateway_header::{GatewayHeader, Noted};
pub use self::held::{HeldTickets, Owner, Permit};
pub use self::held_everywhere::{Claim, Claimed, claim};
use self::token::Tokens;
use crate::config::{self, Proof};
use crate::domain::client::ClientPrefix;
use crate::domain::names::{ClassId, ClassName};
use crate::domain::proof::{Checked, Failure, Identity, IdentityHash, Kind, Outcome, Proven, Strength, weigh};
use crate::domain::quota::Quota;
use crate::domain::time::Now;
use crate::domain::wrong_codes::WrongCodes;
use crate::gateway::snapshot::Snapshot;
use crate::leaks::{Hashes, KeyFault};
use crate::telemetry::metrics::Metrics;

/// How often files and addresses are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the proofs of a class cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ClassFault {
    /// A file cannot be read.
    #[error("{key} {path}: {why}; make it readable for the user anticamera runs as")]
    File {
        /// Its key in the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// A file says nothing that can be used.
    #[error("{key} {path}: {wrong}")]
    Content {
        /// Its key in the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        wrong: String,
    },
    /// The directory of codes.
    #[error(transparent)]
    Codes(#[from] CodesFault),
    /// The key of the hashes of identities.
    #[error(transparent)]
    Hashes(#[from] KeyFault),
}

/// What of a request may prove a class.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a str,
    /// The host asked for, with its port if it has one.
    pub host: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The client behind trusted proxies.
    pub client: IpAddr,
    /// Whether the connection comes from a trusted proxy.
    pub peer: Peer,
    /// The certificate that whoever opened the connection showed to us, and after it its issuers; empty without.
    pub certificates: &'a [CertificateDer<'static>],
    /// The code that was typed in.
    pub code: Option<&'a str>,
}

/// Who stands at the other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A proxy whose statements are believed.
    Trusted,
    /// Anybody.
    Stranger,
}

/// What a request proves.
#[derive(Debug)]
pub struct Verdict {
    /// The class, the citizens' when nothing else holds.
    pub proven: Proven,
    /// A use of an invitation code, which is given back unless it is confirmed.
    pub reserved: Option<Reservation>,
    /// Why a code that was typed in is not accepted.
    pub refused: Option<Failure>,
    /// What one identity of the class may have.
    pub quota: Quota,
}

/// The classes in force.
#[derive(Debug)]
pub struct Classes {
    classes: Vec<ClassInForce>,
    hashes: Option<Arc<Hashes>>,
    metrics: Arc<Metrics>,
    wrong_codes: Arc<Mutex<WrongCodes>>,
}

#[derive(Debug)]
struct ClassInForce {
    name: ClassName,
    id: ClassId,
    proofs: Vec<ProofInForce>,
    quota: Quota,
}

#[derive(Debug)]
enum ProofInForce {
    Network(config::NetworkProof),
    Certificate(Certificates),
    Token(Tokens),
    Header(GatewayHeader),
    Codes(Arc<Codes>),
}

impl Classes {
    /// Reads what the classes' proofs need. What was remembered under the old configuration goes on being remembered.
    ///
    /// # Errors
    /// The first [`ClassFault`].
    pub fn load(
        classes: &[config::Class],
        audit_key: &Path,
        metrics: Arc<Metrics>,
        old: Option<&Classes>,
    ) -> Result<Classes, ClassFault> {
        let hashes = match old.and_then(|old| old.hashes.clone()) {
            Some(hashes) => Some(hashes),
            None if classes.is_empty() => None,
            None => Some(Arc::new(Hashes::load_or_create(audit_key)?)),
        };
        let mut in_force: Vec<ClassInForce> = Vec::new();
        for class in classes {
            let mut proofs = Vec::new();
            for proof in &class.proofs {
                proofs.push(ProofInForce::load(proof, old, &in_force)?);
            }
            let (name, id) = (class.name.clone(), class.name.id());
            in_force.push(ClassInForce { name, id, proofs, quota: class.quota });
        }
        let wrong_codes = old.map(|old| old.wrong_codes.clone()).unwrap_or_default();
        Ok(Classes { classes: in_force, hashes, metrics, wrong_codes })
    }

    /// Reads what the proofs need, for its faults alone.
    ///
    /// # Errors
    /// The first [`ClassFault`].
    pub fn check(classes: &[config::Class]) -> Result<(), ClassFault> {
        let proofs = classes.iter().flat_map(|class| &class.proofs);
        proofs.into_iter().try_for_each(|proof| ProofInForce::load(proof, None, &[]).map(drop))
    }

    /// Which class a request proves: the first in the order of the configuration.
    pub fn prove(&self, facts: &RequestFacts<'_>, now: Now) -> Verdict {
        let client = ClientPrefix::of(facts.client);
        if facts.code.is_some() && self.wrong_codes().may_try(client, now.mono).is_err() {
            self.count_code(Failure::Throttled);
            return Verdict { refused: Some(Failure::Throttled), ..Verdict::citizen() };
        }
        let mut code = facts.code.map(|_| Outcome::Failed(Failure::UnknownCode));
        let mut winner = None;
        let mut noted = Noted::default();
        for class in &self.classes {
            let mut reserved = None;
            let mut checked: Vec<Checked> =
                class.proofs.iter().map(|proof| proof.check(class, facts, now, (&mut reserved, &mut noted))).collect();
            let proven = weigh(&mut checked);
            self.count(class, &checked);
            code = checked.iter().find_map(of_known_code).or(code);
            if let Some((kind, identity)) = proven {
                let identity = self.hash(class, identity);
                let proven = Proven { class: class.id, kind: Some(kind), identity };
                let reserved = reserved.filter(|_| kind == Kind::InvitationCode);
                winner = Some(Verdict { proven, reserved, refused: None, quota: class.quota });
                break;
            }
        }
        let refused = code.and_then(|outcome| match outcome {
            // Whoever is of a class by another proof needs none that goes behind it.
            Outcome::Failed(Failure::UnknownCode) if winner.is_some() => None,
            Outcome::Failed(failure) => Some(failure),
            Outcome::Holds(_) | Outcome::Absent => None,
        });
        if refused.is_some() {
            self.wrong_codes().count(client, now.mono);
        }
        if refused == Some(Failure::UnknownCode) {
            self.count_code(Failure::UnknownCode);
        }
        Verdict { refused, ..winner.unwrap_or_else(Verdict::citizen) }
    }

    /// Counts that a proof was good but its identity has all it may have.
    pub fn count_over_quota(&self, proven: &Proven) {
        let class = self.classes.iter().find(|class| class.id == proven.class);
        if let (Some(class), Some(kind)) = (class, proven.kind) {
            self.metrics.count_class_proof(&class.name, kind, Some(Failure::Quota));
        }
    }

    fn wrong_codes(&self) -> MutexGuard<'_, WrongCodes> {
        self.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a code that belongs to no class, once for each that takes codes.
    fn count_code(&self, failure: Failure) {
        let takes_codes =
            |class: &&ClassInForce| class.proofs.iter().any(|proof| matches!(proof, ProofInForce::Codes(_)));
        for class in self.classes.iter().filter(takes_codes) {
            self.metrics.count_class_proof(&class.name, Kind::InvitationCode, Some(failure));
        }
    }

    fn count(&self, class: &ClassInForce, checked: &[Checked]) {
        for proof in checked {
            match &proof.outcome {
                // A code of another class may yet be found there.
                Outcome::Absent | Outcome::Failed(Failure::UnknownCode) => {}
                Outcome::Failed(failure) => {
                    self.metrics.count_class_proof(&class.name, proof.kind, Some(*failure));
                    tracing::debug!(
                        class = class.name.as_str(),
                        kind = proof.kind.as_str(),
                        reason = failure.as_str(),
                        "a proof does not hold"
                    );
                }
                Outcome::Holds(_) if proof.strength == Strength::Sufficient => {
                    self.metrics.count_class_proof(&class.name, proof.kind, None);
                }
                Outcome::Holds(_) => {}
            }
        }
    }

    fn hash(&self, class: &ClassInForce, identity: Identity) -> Option<IdentityHash> {
        let hashes = self.hashes.as_ref()?;
        identity.map(|identity| IdentityHash(hashes.of_class(class.name.as_str(), identity.trim())))
    }

    /// Reads changed files again, and fetches keys from their addresses.
    async fn refresh(&self, now: Now) {
        for proof in self.classes.iter().flat_map(|class| &class.proofs) {
            match proof {
                ProofInForce::Token(tokens) => tokens.refresh(now).await,
                ProofInForce::Codes(codes) => {
                    let codes = codes.clone();
                    // A panic there has been logged.
                    let _ = tokio::task::spawn_blocking(move || codes.read_again()).await;
                }
                ProofInForce::Certificate(certificates) => certificates.read_again(),
                ProofInForce::Network(_) | ProofInForce::Header(_) => {}
            }
        }
    }
}

/// Keeps what the classes in force need up to date. Files and other people's servers live in real time, so this does not
/// run on the program's clock.
pub async fn look_after(snapshot: watch::Receiver<Arc<Snapshot>>, clock: crate::clock::Clock) {
    loop {
        let classes = snapshot.borrow().classes.clone();
        classes.refresh(clock.now()).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a code came to that is known.
fn of_known_code(proof: &Checked) -> Option<Outcome> {
    let known = !matches!(proof.outcome, Outcome::Absent | Outcome::Failed(Failure::UnknownCode));
    (proof.kind == Kind::InvitationCode && known).then(|| proof.outcome.clone())
}

impl Verdict {
    fn citizen() -> Verdict {
        let proven = Proven { class: ClassId::CITIZEN, kind: None, identity: None };
        Verdict { proven, reserved: None, refused: None, quota: Quota::default() }
    }
}

impl ProofInForce {
    fn load(proof: &Proof, old: Option<&Classes>, so_far: &[ClassInForce]) -> Result<ProofInForce, ClassFault> {
        let before = || old.into_iter().flat_map(|old| &old.classes).chain(so_far).flat_map(|class| &class.proofs);
        Ok(match proof {
            Proof::Network(network) => ProofInForce::Network(network.clone()),
            Proof::Certificate(settings) => ProofInForce::Certificate(Certificates::load(settings)?),
            Proof::Jwt(settings) => {
                let known = before().find_map(|proof| match proof {
                    ProofInForce::Token(tokens) => tokens.keys_of(settings),
                    _ => None,
                });
                ProofInForce::Token(Tokens::load(settings, known)?)
            }
            Proof::SignedHeader(settings) => {
                let known = before().find_map(|proof| match proof {
                    ProofInForce::Header(header) => header.shown_of(settings),
                    _ => None,
                });
                ProofInForce::Header(GatewayHeader::load(settings, known)?)
            }
            Proof::InvitationCode(settings) => {
                let known = before().find_map(|proof| match proof {
                    ProofInForce::Codes(codes) if codes.dir() == settings.dir => Some(codes.clone()),
                    _ => None,
                });
                ProofInForce::Codes(match known {
                    Some(codes) => codes,
                    None => Arc::new(Codes::open(&settings.dir)?),
                })
            }
        })
    }

    fn check(
        &self,
        class: &ClassInForce,
        facts: &RequestFacts<'_>,
        now: Now,
        (reserved, noted): (&mut Option<Reservation>, &mut Noted),
    ) -> Checked {
        let (kind, outcome) = match self {
            ProofInForce::Network(network) => {
                let inside = network.ranges.iter().any(|range| range.contains(&facts.client.to_canonical()));
                let outcome = if inside { Outcome::Holds(None) } else { Outcome::Absent };
                return Checked { kind: Kind::Network, strength: network.strength, outcome };
            }
            ProofInForce::Certificate(certificates) => (Kind::ClientCertificate, certificates.check(facts, now)),
            ProofInForce::Token(tokens) => (Kind::Jwt, tokens.check(facts.headers, now)),
            ProofInForce::Header(header) => (Kind::SignedHeader, header.check(facts, noted, now)),
            ProofInForce::Codes(codes) => {
                let outcome = match facts.code.map(|code| codes.reserve(code, &class.name, now)) {
                    None => Outcome::Absent,
                    Some(Ok((identity, reservation))) => {
                        *reserved = Some(reservation);
                        Outcome::Holds(Some(identity))
                    }
                    Some(Err(failure)) => Outcome::Failed(failure),
                };
                (Kind::InvitationCode, outcome)
            }
        };
        Checked { kind, strength: Strength::Sufficient, outcome }
    }
}

/// Reads a file that a key of the configuration names.
fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ClassFault> {
    std::fs::read(path).map_err(|why| ClassFault::File { key, path: path.to_owned(), why })
}
