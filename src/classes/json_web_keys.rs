//! The keys of a token's issuer (RFC 7517): from a file that is read again when it changes, or from an address that is
//! asked again and again, and at once when a token names a key that is not known. What was fetched last stays good for a
//! while when the address does not answer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Empty;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{JwkSet, KeyAlgorithm, PublicKeyUse};

use super::{ClassFault, read};
use crate::config::{Algorithm, JwtProof, KeySource};
use crate::domain::proof::Failure;
use crate::domain::time::{Mono, Now};
use crate::leaks::fetch::{Side, fetch};

/// The address is asked out of turn at most so often.
const OUT_OF_TURN: Duration = Duration::from_secs(30);
/// After a failure the address is asked again this soon, or sooner if keys are refreshed more often.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Keys of a set at most.
const MOST_KEYS: usize = 64;

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    refresh: Duration,
    outage: Duration,
    held: RwLock<Arc<Held>>,
    /// A token named a key that is not among them.
    wanted: AtomicBool,
}

/// The keys that were read last.
#[derive(Debug, Default)]
struct Held {
    keys: Vec<Key>,
    /// The text they were read from.
    text: Vec<u8>,
    /// When they were read from an address.
    got_at: Option<Mono>,
    /// When that was tried last.
    tried_at: Option<Mono>,
}

/// One key.
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The keys that fit a token, behind what keeps them alive.
pub(super) struct Fitting {
    held: Arc<Held>,
    places: Vec<usize>,
}

impl Fitting {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.places.iter().filter_map(|place| self.held.keys.get(*place))
    }
}

impl Keys {
    /// The keys of a file, or none yet of an address.
    pub(super) fn open(settings: &JwtProof) -> Result<Keys, ClassFault> {
        let held = match &settings.keys {
            KeySource::File(path) => of_file(path)?,
            KeySource::Url(_) => Held::default(),
        };
        Ok(Keys {
            source: settings.keys.clone(),
            refresh: settings.refresh,
            outage: settings.outage,
            held: RwLock::new(Arc::new(held)),
            wanted: AtomicBool::new(false),
        })
    }

    /// The same keys, to be refreshed as these settings say.
    pub(super) fn at_the_pace_of(&self, settings: &JwtProof) -> Keys {
        Keys {
            source: self.source.clone(),
            refresh: settings.refresh,
            outage: settings.outage,
            held: RwLock::new(self.held()),
            wanted: AtomicBool::new(false),
        }
    }

    /// Whether these keys come from there.
    pub(super) fn come_from(&self, source: &KeySource) -> bool {
        self.source == *source
    }

    /// Whether these keys are what the settings ask for.
    pub(super) fn are_of(&self, settings: &JwtProof) -> bool {
        (&self.source, self.refresh, self.outage) == (&settings.keys, settings.refresh, settings.outage)
    }

    /// The keys that a token with this header may be signed with: the one that it names, or all of the algorithm.
    ///
    /// # Errors
    /// [`Failure::NoKeys`] when there are none or they are too old, [`Failure::UnknownKey`] when none fits.
    pub(super) fn fitting(&self, id: Option<&str>, algorithm: Algorithm, now: Mono) -> Result<Fitting, Failure> {
        let held = self.held();
        let too_old = held.got_at.is_some_and(|at| now.since(at) > self.refresh + self.outage);
        if held.keys.is_empty() || too_old {
            return Err(Failure::NoKeys);
        }
        let fits = |key: &Key| key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let places: Vec<usize> =
            held.keys.iter().enumerate().filter(|(_, key)| fits(key)).map(|(place, _)| place).collect();
        if places.is_empty() {
            self.wanted.store(true, Ordering::Relaxed);
            return Err(Failure::UnknownKey);
        }
        Ok(Fitting { held, places })
    }

    /// Reads the file or asks the address, when it is time.
    pub(super) async fn refresh(&self, now: Now) {
        match &self.source {
            KeySource::File(path) => self.read_again(path),
            KeySource::Url(url) if self.is_due(now.mono) => self.fetch(url, now.mono).await,
            KeySource::Url(_) => {}
        }
    }

    fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
    }

    fn read_again(&self, path: &Path) {
        if std::fs::read(path).is_ok_and(|text| text == self.held().text) {
            return;
        }
        match of_file(path) {
            Ok(held) => self.hold(held),
            Err(error) => {
                // Said once: the text that was refused counts as read.
                let text = std::fs::read(path).unwrap_or_default();
                let old = self.held();
                tracing::warn!(%error, "the old keys stay in force");
                self.hold(Held { keys: old.keys.iter().map(Key::again).collect(), text, ..Held::default() });
            }
        }
    }

    fn is_due(&self, now: Mono) -> bool {
        let held = self.held();
        let Some(tried_at) = held.tried_at else { return true };
        let since = now.since(tried_at);
        let wait = if held.got_at == held.tried_at { self.refresh } else { self.refresh.min(AFTER_FAILURE) };
        since >= wait || (since >= OUT_OF_TURN && self.wanted.swap(false, Ordering::Relaxed))
    }

    async fn fetch(&self, url: &str, now: Mono) {
        let fetched = of_address(url).await.and_then(|text| Ok((of_text(&text)?, text)));
        let old = self.held();
        self.hold(match fetched {
            Ok((keys, text)) => Held { keys, text, got_at: Some(now), tried_at: Some(now) },
            Err(why) => {
                tracing::warn!(url, why, "the issuer's keys cannot be fetched; those fetched last are used");
                let keys = old.keys.iter().map(Key::again).collect();
                Held { keys, text: old.text.clone(), got_at: old.got_at, tried_at: Some(now) }
            }
        });
    }
}

impl Key {
    fn again(&self) -> Key {
        Key { id: self.id.clone(), algorithm: self.algorithm, decoding: self.decoding.clone() }
    }
}

fn of_file(path: &Path) -> Result<Held, ClassFault> {
    let text = read("class.proof.keys", path)?;
    let keys = of_text(&text).map_err(|wrong| ClassFault::Content {
        key: "class.proof.keys",
        path: path.to_owned(),
        wrong: format!("{wrong}; write a JSON Web Key Set (RFC 7517)"),
    })?;
    Ok(Held { keys, text, got_at: None, tried_at: None })
}

async fn of_address(url: &str) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|_| "not an address".to_owned())?;
    let is_secure = uri.scheme_str() == Some("https");
    let authority = uri.authority().ok_or("no host")?;
    let request = Request::builder()
        .uri(uri.path_and_query().map_or("/", |target| target.as_str()))
        .header("host", authority.as_str())
        .header("accept", "application/jwk-set+json, application/json")
        .header("user-agent", "anticamera")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let side = if is_secure { Side::as_browsers_do(host).map_err(|e| e.to_string())? } else { Side::Plain };
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let answer = fetch(host, port, side, request).await.map_err(|error| error.to_string())?;
    if answer.status.is_success() { Ok(answer.body.to_vec()) } else { Err(format!("answered {}", answer.status)) }
}

/// The keys of a set with which tokens may be signed; others are passed over.
fn of_text(text: &[u8]) -> Result<Vec<Key>, String> {
    // Each key by itself: one of a kind that is not known must not spoil the others.
    let set: serde_json::Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let members = set.get("keys").and_then(serde_json::Value::as_array).ok_or("there is no list \"keys\"")?;
    let one = |member: &serde_json::Value| {
        let set = serde_json::json!({ "keys": [member] });
        serde_json::from_value::<JwkSet>(set).ok()?.keys.into_iter().next()
    };
    let keys: Vec<Key> = members.iter().take(MOST_KEYS).filter_map(one).filter_map(|jwk| key(&jwk)).collect();
    if keys.is_empty() { Err("there is no key for signatures with RS256, ES256 or EdDSA".to_owned()) } else { Ok(keys) }
}

fn key(jwk: &jsonwebtoken::jwk::Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::{AlgorithmParameters as Parameters, EllipticCurve};
    let algorithm = match &jwk.algorithm {
        Parameters::RSA(_) => Algorithm::Rs256,
        Parameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::Es256,
        Parameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDsa,
        _ => return None,
    };
    let said = match jwk.common.key_algorithm {
        None => Some(algorithm),
        Some(KeyAlgorithm::RS256) => Some(Algorithm::Rs256),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::Es256),
        Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDsa),
        Some(_) => None,
    };
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    let good = for_signatures && said == Some(algorithm);
    good.then(|| Key { id: jwk.common.key_id.clone(), algorithm, decoding })
}
