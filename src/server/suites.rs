//! Which suite of ciphers a connection over TLS gets.
//!
//! AES with keys of 128 bits goes first (browsers ask for it first as well): its handshake hashes with SHA-256, for which
//! processors have instructions. That of longer keys hashes with SHA-384, and a new connection takes an eighth longer for it. A client that
//! prefers ChaCha20 has no instructions for AES, and gets what it prefers.

use rustls::CipherSuite as Suite;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;

/// Whether a client has ChaCha20 before AES in what it offers. Values that mean nothing may stand before (RFC 8701).
pub(super) fn prefers_chacha(offered: &[Suite]) -> bool {
    let ours = offered.iter().find(|offered| ALL_CIPHER_SUITES.iter().any(|suite| suite.suite() == **offered));
    ours.is_some_and(|first| {
        matches!(
            first,
            Suite::TLS13_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    })
}

/// Whether it is AES with keys of 128 bits and SHA-256.
pub(super) fn has_short_aes_keys(suite: Suite) -> bool {
    matches!(
        suite,
        Suite::TLS13_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_suite_that_is_known_says_what_is_preferred() {
        let (chacha, aes) = (Suite::TLS13_CHACHA20_POLY1305_SHA256, Suite::TLS13_AES_128_GCM_SHA256);
        let anything = Suite::Unknown(0x0A0A);
        assert!(prefers_chacha(&[anything, chacha, aes]));
        assert!(!prefers_chacha(&[anything, aes, chacha]));
        assert!(!prefers_chacha(&[anything]) && !prefers_chacha(&[]));
        let old = Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256;
        assert!(prefers_chacha(&[old, chacha, aes]));
    }
}
