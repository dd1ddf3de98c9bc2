//! The configuration: what was typed in the file becomes what the program needs ([`Config`]), with all faults at once,
//! or nothing. A changed file is compared with the configuration in force before it replaces it ([`Reload`]).
//!
//! Reading: `keys` lists every key and its default; `section` takes a table of the file apart by that list; `value`
//! turns single values into what they mean; `resolve` and `room` put them together and refuse what does not fit.

mod class;
mod closing;
mod fault;
mod guard;
mod keys;
mod opening;
mod operator;
mod page;
mod reload;
mod resolve;
mod resolved;
mod room;
mod section;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod value;
mod warning;
pub mod watch;
mod window;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

pub use class::{
    Algorithm, CertificateFrom, CertificateProof, Class, CodeProof, JwtProof, KeySource, NetworkProof, Proof,
    SignedHeaderProof, TokenPlace,
};
pub use fault::{Fault, Faults, Place};
pub use operator::ADMIN as ADMIN_NAME;
pub use page::{Colours, LocalText, PALETTE, Page, RoomPage};
pub use reload::{Reload, restart_needed};
pub use resolved::{
    Admin, AdminListen, ArmourRule, AuditFile, BreakerAction, ByHandTerms, CanaryAction, ClientAddressHeader,
    ClientAuth, Config, DetectorAction, Detectors, Ending, Entry, LeakBreaker, LeakGuard, Limits, Log, Login,
    LoginHealth, OperatorToken, Portal, PortalTls, PortalUrl, Probes, PublicUrl, Room, RoomState, ServedName, Server,
    Servers, SharedStore, Store, StoreTls, TlsEntry, Tokens, Wears,
};
pub use warning::Warning;

use fault::Findings;
use section::Section;

/// A larger file is refused unread.
const LARGEST_FILE: u64 = 1024 * 1024;

/// How many places are shown at which a text is not TOML: one slip often makes the rest unreadable.
const SYNTAX_FAULTS_SHOWN: usize = 10;

/// Reads the configuration file. Relative paths in it are relative to its directory.
///
/// # Errors
/// [`Faults`]: everything that is wrong with it, or why it cannot be read.
pub fn load(path: &Path) -> Result<Config, Faults> {
    load_with_text(path).map(|(config, _)| config)
}

/// The same, with the file's text.
///
/// # Errors
/// [`Faults`]: everything that is wrong with it, or why it cannot be read.
pub fn load_with_text(path: &Path) -> Result<(Config, String), Faults> {
    let text = text_of(path)?;
    parse(&text, path.parent().unwrap_or(Path::new(""))).map(|config| (config, text))
}

/// Reads the text of a configuration file that lies in the directory `base`.
///
/// # Errors
/// [`Faults`]: everything that is wrong with it.
pub fn parse(text: &str, base: &Path) -> Result<Config, Faults> {
    let findings = Findings::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    add_syntax(&errors, text, &findings);
    let readable = errors.iter().all(fault::is_repetition);
    let config = if readable { resolve::config(&Section::file(document.get_ref(), &findings), base) } else { None };
    match (findings.into_faults(text), config) {
        (None, Some(config)) => Ok(config),
        (Some(faults), _) => Err(faults),
        (None, None) => {
            Err(Faults::of_file("the file cannot be understood".to_owned(), "compare it with config.example.toml"))
        }
    }
}

/// Notes where the text is not TOML: the first place of each line, because the others mostly follow from it.
fn add_syntax(errors: &[toml::de::Error], text: &str, findings: &Findings) {
    let mut last_line = 0;
    for error in errors.iter().take(SYNTAX_FAULTS_SHOWN) {
        let line = Place::of(error.span().map_or(0, |span| span.start), text).line;
        if line != last_line {
            findings.add_syntax(error);
        }
        last_line = line;
    }
}

fn text_of(path: &Path) -> Result<String, Faults> {
    let bytes = bytes_of(path).map_err(|why| {
        let remedy = match why.kind() {
            io::ErrorKind::NotFound => "name an existing file with --config; config.example.toml is one to begin with",
            io::ErrorKind::PermissionDenied => "let the program's user read it",
            _ => "name a readable file with --config",
        };
        Faults::of_file(format!("cannot read the configuration file {}: {why}", path.display()), remedy)
    })?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_FILE) {
        let what = format!("the configuration file {} is larger than 1 MiB", path.display());
        return Err(Faults::of_file(what, "name the right file with --config"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let readable = String::from_utf8_lossy(error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or(&[]))
            .into_owned();
        let place = Place::of(readable.len(), &readable);
        let what = format!("the configuration file {} is not UTF-8 at {place}", path.display());
        Faults::of_file(what, "save it as UTF-8")
    })
}

/// The beginning of the file, one byte more than may be read, so that a larger one shows.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
