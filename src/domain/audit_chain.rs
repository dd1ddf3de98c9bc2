//! The audit log's chain: each line names the one before it by its hash, so that a line that was changed, left out or put in
//! shows. Whoever can write the file can write a new chain from any line on; a hash that was noted elsewhere (the program's
//! own log carries each one) shows that too.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What stands before a line's text in what is hashed, so that a hash of this log is a hash of nothing else.
const PURPOSE: &[u8] = b"anticamera audit line 1\n";

/// The hash that the first line names.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of a chain: what the next line is hung on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last line's number; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Head {
        Head { number: 0, hash: BEGINNING.to_owned() }
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is not what the program writes.
    #[error("is no line of an audit log")]
    NoLine,
    /// Its text has another hash than it says.
    #[error("was changed after it was written")]
    Changed,
    /// It does not follow the line before it.
    #[error("does not follow the line before it: one was taken out, put in or moved")]
    OutOfPlace,
}

impl Head {
    /// The next line, without the line break at its end, and the head that it makes.
    pub fn next(&self, at: &str, what: &str, details: &impl Serialize) -> (String, Head) {
        let number = self.number + 1;
        let mut fields = Map::new();
        fields.insert("details".to_owned(), serde_json::to_value(details).unwrap_or(Value::Null));
        let details = Value::Object(fields).to_string();
        // Written by hand so that number and hash stand where people look for them.
        let details = details.strip_prefix('{').unwrap_or_default();
        let (at, what) = (Value::from(at), Value::from(what));
        let text = format!("{{\"n\":{number},\"at\":{at},\"what\":{what},\"previous\":\"{}\",{details}", self.hash);
        let hash = hash_of(&text);
        let line = format!("{},\"hash\":\"{hash}\"}}", text.strip_suffix('}').unwrap_or(&text));
        (line, Head { number, hash })
    }

    /// Checks that a line follows this head, and gives the head that it makes.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn follow(&self, line: &str) -> Result<Head, Broken> {
        let (next, previous) = read(line)?;
        if previous == self.hash && next.number == self.number + 1 { Ok(next) } else { Err(Broken::OutOfPlace) }
    }
}

/// The head that a line makes, whatever comes before it.
///
/// # Errors
/// [`Broken`]
pub fn head_of(line: &str) -> Result<Head, Broken> {
    read(line).map(|(head, _)| head)
}

/// The head that a line makes, and the hash of the line before it as it says.
fn read(line: &str) -> Result<(Head, String), Broken> {
    let rest = line.strip_suffix("\"}").ok_or(Broken::NoLine)?;
    let (text, hash) = rest.rsplit_once(",\"hash\":\"").ok_or(Broken::NoLine)?;
    let is_hash = hash.len() == BEGINNING.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hash {
        return Err(Broken::NoLine);
    }
    if hash_of(&format!("{text}}}")) != hash {
        return Err(Broken::Changed);
    }
    let fields: Value = serde_json::from_str(line).map_err(|_| Broken::NoLine)?;
    let number = fields.get("n").and_then(Value::as_u64).ok_or(Broken::NoLine)?;
    let previous = fields.get("previous").and_then(Value::as_str).ok_or(Broken::NoLine)?;
    Ok((Head { number, hash: hash.to_owned() }, previous.to_owned()))
}

fn hash_of(text: &str) -> String {
    let hash: [u8; 32] = Sha256::new().chain_update(PURPOSE).chain_update(text).finalize().into();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn chain(details: &[Value]) -> Vec<String> {
        let mut head = Head::default();
        details
            .iter()
            .map(|details| {
                let (line, next) = head.next("2026-03-01T08:00:00Z", "rate", details);
                head = next;
                line
            })
            .collect()
    }

    fn first_broken(lines: &[String]) -> Option<(usize, Broken)> {
        let mut head = Head::default();
        for (index, line) in lines.iter().enumerate() {
            match head.follow(line) {
                Ok(next) => head = next,
                Err(broken) => return Some((index, broken)),
            }
        }
        None
    }

    #[test]
    fn a_line_is_json_and_follows() {
        let lines = chain(&[json!({"by": "ann"}), json!({"by": "bob \"x\"}"})]);
        let fields: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((fields["n"].as_u64(), fields["details"]["by"].as_str()), (Some(2), Some("bob \"x\"}")));
        assert_eq!(first_broken(&lines), None);
    }

    #[test]
    fn every_kind_of_tampering_shows() {
        let lines = chain(&[json!(1), json!(2), json!(3), json!(4)]);
        let mut changed = lines.clone();
        changed[2] = changed[2].replace("\"details\":3", "\"details\":7");
        assert_eq!(first_broken(&changed), Some((2, Broken::Changed)));
        let taken: Vec<String> = [0, 2, 3].map(|index: usize| lines[index].clone()).to_vec();
        assert_eq!(first_broken(&taken), Some((1, Broken::OutOfPlace)));
        let swapped: Vec<String> = [0, 2, 1, 3].map(|index: usize| lines[index].clone()).to_vec();
        assert_eq!(first_broken(&swapped), Some((1, Broken::OutOfPlace)));
        assert_eq!(first_broken(&["{}".to_owned()]), Some((0, Broken::NoLine)));
        let torn = vec![lines[0].clone(), lines[1][..40].to_owned()];
        assert_eq!(first_broken(&torn), Some((1, Broken::NoLine)));
    }

    proptest! {
        #[test]
        fn a_changed_byte_shows(details in ".{0,40}", at in 0usize..300, byte in 32u8..127) {
            let lines = chain(&[json!({"text": details})]);
            let mut bytes = lines[0].clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte && bytes[at] < 128);
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            // A digit of the hash in the other case is the same digit.
            if !text.eq_ignore_ascii_case(&lines[0]) {
                prop_assert!(Head::default().follow(&text).is_err());
            }
        }
    }
}
