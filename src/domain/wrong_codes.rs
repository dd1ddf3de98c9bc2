//! How often a client may type in a code that is none: guessing is kept down, and who is right is never counted.

use std::time::Duration;

use super::client::ClientPrefix;
use super::limiter::{Limit, WorkedOffAt};
use super::recent::{Bounds, Recent};
use super::time::Mono;

/// One wrong code in six seconds on average, ten at once.
const LIMIT: Limit = Limit::new(Duration::from_secs(6), 10);
/// Client networks whose wrong codes are remembered.
const REMEMBERED: Bounds = Bounds { entries: 100_000, span: Duration::from_secs(600) };

/// The wrong codes of the last while, by client network.
#[derive(Debug, Default)]
pub struct WrongCodes(Recent<ClientPrefix, WorkedOffAt>);

impl WrongCodes {
    /// Whether this client may try a code, or how long it has to wait. Asking is not counted: an office may be behind one
    /// address.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may_try(&mut self, client: ClientPrefix, now: Mono) -> Result<(), Duration> {
        let mut so_far = *self.0.entry(client, REMEMBERED, now);
        LIMIT.count(&mut so_far, now)
    }

    /// Counts a code that was none.
    pub fn count(&mut self, client: ClientPrefix, now: Mono) {
        // What the next one waits for is for that one to find out.
        let _ = LIMIT.count(self.0.entry(client, REMEMBERED, now), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_codes_and_then_one_in_six_seconds_for_that_client_alone() {
        let client = |text: &str| ClientPrefix::of(text.parse().unwrap());
        let (guesser, neighbour) = (client("192.0.2.1"), client("192.0.2.2"));
        let at = |seconds: u64| Mono((1000 + seconds) * 1_000_000_000);
        let mut codes = WrongCodes::default();
        for _ in 0..10 {
            assert_eq!(codes.may_try(guesser, at(0)), Ok(()));
            codes.count(guesser, at(0));
        }
        assert_eq!(codes.may_try(guesser, at(0)), Err(Duration::from_secs(6)));
        assert_eq!(codes.may_try(neighbour, at(0)), Ok(()));
        assert_eq!(codes.may_try(guesser, at(6)), Ok(()));
        (0..100).for_each(|_| assert_eq!(codes.may_try(neighbour, at(6)), Ok(()), "right codes cost nothing"));
    }
}
