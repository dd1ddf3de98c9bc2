//! The only reader of randomness.

/// The system would not give random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed: {0}")]
pub struct NoEntropy(getrandom::Error);

/// `N` bytes from the system's random number generator.
///
/// # Errors
/// [`NoEntropy`] when the system has none to give; nothing may be signed or numbered then.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoEntropy)?;
    Ok(bytes)
}
