//! A certificate for the programs that are compared: ECDSA P-256, made by `openssl`, good for a day.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::{Context, Failure, Outcome};

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// The certificate.
    pub(super) certificate: PathBuf,
    /// Its key.
    pub(super) key: PathBuf,
    /// Both in one file.
    pub(super) both: PathBuf,
}

impl Certificate {
    /// Makes one for `localhost` in `directory`.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub(super) async fn make(directory: &Path) -> Outcome<Certificate> {
        let file = |name: &str| directory.join(name);
        let made = Certificate { certificate: file("cert.pem"), key: file("key.pem"), both: file("both.pem") };
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate)
            .output()
            .await
            .context(|| "start openssl")?;
        if !output.status.success() {
            return Err(Failure::new(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let read = |file: &Path| std::fs::read_to_string(file).context(|| file.display().to_string());
        let both = read(&made.certificate)? + &read(&made.key)?;
        std::fs::write(&made.both, both).context(|| "both.pem")?;
        Ok(made)
    }
}
