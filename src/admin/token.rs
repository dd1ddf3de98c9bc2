//! The operators' token: 32 random bytes in a file that only the program's own account can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::time::Mono;
use crate::entropy::{self, NoEntropy};

/// Characters that a token must have at least; the program's own have 43.
const MIN_LENGTH: usize = 32;
/// Bytes of a token's file that are read at most.
const MAX_FILE: u64 = 4096;

/// The operators' token. Never shown.
pub struct AdminToken(Zeroizing<Vec<u8>>);

/// The token's file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// Reading or writing failed.
    #[error("admin.token_file {}: {error}: make its directory writable for the program, or the file readable", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The content is too short or has other characters.
    #[error(
        "admin.token_file {}: not a token: it must hold one line of at least 32 visible ASCII characters; remove the \
         file to have a new one made", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// No randomness for a new token.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl AdminToken {
    /// Reads the token, or makes one with mode 0600 when there is no file yet. Blocks on the disk.
    ///
    /// # Errors
    /// [`AdminTokenError`] when the file cannot be read or made, or holds no token.
    pub fn load_or_create(path: &Path) -> Result<AdminToken, AdminTokenError> {
        let failed = |error| AdminTokenError::File { path: path.to_owned(), error };
        match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, &fresh()?).map_err(failed)?;
                tracing::info!(file = %path.display(), "made a new token for operators");
                AdminToken::parse(path, read(path).map_err(failed)?)
            }
            content => AdminToken::parse(path, content.map_err(failed)?),
        }
    }

    fn parse(path: &Path, content: Zeroizing<Vec<u8>>) -> Result<AdminToken, AdminTokenError> {
        let token = content.trim_ascii();
        if token.len() < MIN_LENGTH || !token.iter().all(u8::is_ascii_graphic) {
            return Err(AdminTokenError::Unusable { path: path.to_owned() });
        }
        Ok(AdminToken(Zeroizing::new(token.to_vec())))
    }

    /// Whether the value of an `Authorization` header carries this token as `Bearer` (RFC 6750, section 2.1). Takes
    /// the same time wherever two tokens differ.
    pub(super) fn is_in(&self, authorization: &[u8]) -> bool {
        let Some((scheme, rest)) = authorization.split_at_checked(b"Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(rest.trim_ascii().ct_eq(&self.0))
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

fn fresh() -> Result<Zeroizing<String>, NoEntropy> {
    let secret = Zeroizing::new(entropy::bytes::<32>()?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret)))
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "other accounts may read the operators' token: chmod it to 0600");
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes the whole token beside its place and then links it there, so that nobody ever reads half of it, and a token
/// made by another process in the meantime stays.
fn create(path: &Path, token: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let linked = writeln!(file, "{token}").and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// How many wrong tokens are still answered as such: ten at once, then one every two seconds. The right token is
/// always accepted, so that nobody can lock operators out.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When the last failure allowed would have been due if they came evenly.
    due: Mono,
}

impl Failures {
    const EACH: Duration = Duration::from_secs(2);
    const AT_ONCE: u32 = 10;

    /// Counts a failure.
    ///
    /// # Errors
    /// How long to wait, when there were too many.
    pub(super) fn count(&mut self, now: Mono) -> Result<(), Duration> {
        let due = self.due.max(now) + Self::EACH;
        let excess = due.since(now).saturating_sub(Self::EACH * Self::AT_ONCE);
        if !excess.is_zero() {
            return Err(excess);
        }
        self.due = due;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_a_token_and_the_next_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/admin-token");
        AdminToken::load_or_create(&path).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(written.trim()).unwrap().len(), 32);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");

        let again = AdminToken::load_or_create(&path).unwrap();
        assert!(again.is_in(format!("Bearer {}", written.trim()).as_bytes()));
    }

    #[test]
    fn a_token_made_meanwhile_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin-token");
        create(&path, "first").unwrap();
        create(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let secret = "a".repeat(43);
        let token = AdminToken::parse(Path::new("x"), Zeroizing::new(format!("{secret}\n").into_bytes())).unwrap();
        assert!(token.is_in(format!("bearer {secret}").as_bytes()));
        for wrong in [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            format!("Basic {secret}"),
            secret.clone(),
            format!("Bearer {}", "a".repeat(42)),
            format!("Bearer {}b", "a".repeat(42)),
            format!("Bearer {secret}a"),
        ] {
            assert!(!token.is_in(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin-token");
        for content in ["", "short", &"ab ".repeat(20), &"\u{e9}".repeat(40)] {
            fs::write(&path, content).unwrap();
            let error = AdminToken::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("remove the file"), "{error}");
        }
        let error = AdminToken::load_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, AdminTokenError::File { .. }), "{error}");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = AdminToken(Zeroizing::new(b"secret".to_vec()));
        assert_eq!(format!("{token:?}"), "AdminToken(..)");
    }

    #[test]
    fn failures_are_bounded_and_forgiven_with_time() {
        let mut failures = Failures::default();
        let start = Mono(5_000_000_000);
        assert!((0..10).all(|_| failures.count(start).is_ok()));
        assert_eq!(failures.count(start), Err(Duration::from_secs(2)));
        let later = start + Duration::from_secs(2);
        assert_eq!(failures.count(later), Ok(()));
        assert!(failures.count(later).is_err());
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| failures.count(much_later).is_ok()).count(), 10);
    }
}
