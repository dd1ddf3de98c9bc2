//! The header that a gateway signs: its key, and the nonces that were shown.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::{ClassFault, RequestFacts, read};
use crate::config::SignedHeaderProof;
use crate::domain::proof::{Failure, Outcome};
use crate::domain::signed_header::{GatewayKey, Shown, Signed};
use crate::domain::time::Now;

/// A shorter key could be found by trying.
const SHORTEST_KEY: usize = 16;

/// What proves a class by a signed header.
#[derive(Debug)]
pub(super) struct GatewayHeader {
    settings: SignedHeaderProof,
    key: GatewayKey,
    shown: Arc<Mutex<Shown>>,
}

/// The headers of one request that were believed and noted as shown: by which memory, and what they said.
#[derive(Debug, Default)]
pub(super) struct Noted(Vec<(Arc<Mutex<Shown>>, String)>);

impl Noted {
    fn has(&self, memory: &Arc<Mutex<Shown>>, text: &str) -> bool {
        self.0.iter().any(|(noted, said)| Arc::ptr_eq(noted, memory) && said == text)
    }
}

impl GatewayHeader {
    pub(super) fn load(settings: &SignedHeaderProof, shown: Option<Arc<Mutex<Shown>>>) -> Result<Self, ClassFault> {
        let text = Zeroizing::new(read("class.proof.key_file", &settings.key_file)?);
        // An editor's newline at the end is not part of the key.
        let bytes = text.strip_suffix(b"\n").unwrap_or(&text);
        let key = Some(bytes).filter(|bytes| bytes.len() >= SHORTEST_KEY).and_then(GatewayKey::new);
        let key = key.ok_or_else(|| ClassFault::Content {
            key: "class.proof.key_file",
            path: settings.key_file.clone(),
            wrong: format!(
                "a key of less than {SHORTEST_KEY} bytes; write 32 random ones, such as `openssl rand -hex 32`"
            ),
        })?;
        Ok(GatewayHeader { settings: settings.clone(), key, shown: shown.unwrap_or_default() })
    }

    /// The nonces shown under these settings so far.
    pub(super) fn shown_of(&self, settings: &SignedHeaderProof) -> Option<Arc<Mutex<Shown>>> {
        (self.settings.key_file == settings.key_file).then(|| self.shown.clone())
    }

    /// Believed from whomever it comes: who can sign is the gateway. What this very request has shown to another class of
    /// the same key is no replay.
    pub(super) fn check(&self, facts: &RequestFacts<'_>, noted: &mut Noted, now: Now) -> Outcome {
        let mut lines = facts.headers.get_all(&self.settings.header).iter();
        let Some(line) = lines.next() else { return Outcome::Absent };
        let Some(text) = line.to_str().ok().filter(|_| lines.next().is_none()) else {
            return Outcome::Failed(Failure::Malformed);
        };
        let signed = Signed { method: facts.method, host: facts.host, target: facts.target };
        let window = self.settings.window;
        let believed = self.key.verify(text, signed, window, now.unix).and_then(|genuine| {
            if noted.has(&self.shown, text) {
                return Ok(genuine.identity);
            }
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.note(&genuine, window, now.unix)?;
            noted.0.push((self.shown.clone(), text.to_owned()));
            Ok(genuine.identity)
        });
        believed.map_or_else(Outcome::Failed, |identity| Outcome::Holds(Some(identity)))
    }
}
