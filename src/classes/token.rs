//! JSON web tokens of the portal's own sign-on (RFC 7515, RFC 7519): where they stand, and by whom they are signed. What
//! they must say is in [`domain::jwt_claims`](crate::domain::jwt_claims).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::COOKIE;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde_json::Value;

use super::ClassFault;
use super::json_web_keys::Keys;
use crate::config::{Algorithm, JwtProof, TokenPlace};
use crate::domain::jwt_claims;
use crate::domain::proof::{Failure, Outcome};
use crate::domain::time::Now;

/// Bytes of a token at most.
const LONGEST: usize = 8 << 10;
/// Cookies of one name that are tried.
const MOST_TRIED: usize = 4;
/// Keys without a name that are tried on one token.
const MOST_KEYS_TRIED: usize = 8;

/// What proves a class by a token.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: JwtProof,
    keys: Arc<Keys>,
}

impl Tokens {
    pub(super) fn load(settings: &JwtProof, known: Option<Arc<Keys>>) -> Result<Tokens, ClassFault> {
        let keys = match known {
            Some(keys) if keys.are_of(settings) => keys,
            // The same keys at another pace: what was fetched stays good.
            Some(keys) => Arc::new(keys.at_the_pace_of(settings)),
            None => Arc::new(Keys::open(settings)?),
        };
        Ok(Tokens { settings: settings.clone(), keys })
    }

    /// The keys, if other settings want them from the same place.
    pub(super) fn keys_of(&self, settings: &JwtProof) -> Option<Arc<Keys>> {
        self.keys.come_from(&settings.keys).then(|| self.keys.clone())
    }

    pub(super) async fn refresh(&self, now: Now) {
        self.keys.refresh(now).await;
    }

    /// The first token that holds, or else why the first one does not.
    pub(super) fn check(&self, headers: &HeaderMap, now: Now) -> Outcome {
        let tokens: Vec<&str> = match &self.settings.place {
            TokenPlace::Cookie(name) => in_cookies(headers, name).take(MOST_TRIED).collect(),
            TokenPlace::Header(name) => in_header(headers, name).into_iter().collect(),
        };
        let mut first_failure = None;
        for token in tokens {
            match self.identity(token, now) {
                Ok(identity) => return Outcome::Holds(Some(identity)),
                Err(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        first_failure.map_or(Outcome::Absent, Outcome::Failed)
    }

    fn identity(&self, token: &str, now: Now) -> Result<String, Failure> {
        let header = header(token)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Failure::Malformed)?;
        let accepted = self.settings.algorithms.iter().find(|algorithm| algorithm.name() == name);
        let algorithm = *accepted.ok_or(Failure::Algorithm)?;
        // Extensions that must be understood are not (RFC 7515 section 4.1.11).
        if header.get("crit").is_some() {
            return Err(Failure::Malformed);
        }
        let fitting = self.keys.fitting(header.get("kid").and_then(Value::as_str), algorithm, now.mono)?;
        let mut failure = Failure::BadSignature;
        for key in fitting.keys().take(MOST_KEYS_TRIED) {
            match jsonwebtoken::decode::<Value>(token, &key.decoding, &only_signature(algorithm)) {
                Ok(genuine) => return jwt_claims::check(&genuine.claims, &self.settings.expected, now.unix),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {}
                Err(_) => failure = Failure::Malformed,
            }
        }
        Err(failure)
    }
}

impl Algorithm {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

/// The claims are checked by rules of our own, with the program's clock.
fn only_signature(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    });
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn header(token: &str) -> Result<Value, Failure> {
    if token.len() > LONGEST || token.split('.').count() != 3 {
        return Err(Failure::Malformed);
    }
    let encoded = token.split('.').next().unwrap_or_default();
    let text = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Failure::Malformed)?;
    serde_json::from_slice(&text).map_err(|_| Failure::Malformed)
}

fn in_cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'))
}

/// `Bearer TOKEN` (RFC 6750 section 2.1) or the token alone. Of `Authorization` other schemes are no token.
fn in_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        Some(_) => None,
        None => Some(text),
    }
}
