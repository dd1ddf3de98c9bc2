//! Why the load tester could not do what it was asked; never a verdict on what it tested.

use std::fmt;

/// What went wrong, in words for the person at the terminal.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

/// A result that fails with words.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure that reads as `words`.
    pub fn new(words: impl Into<String>) -> Failure {
        Failure(words.into())
    }
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts what was being done before the cause.
    ///
    /// # Errors
    /// The same failure, with `doing` before it.
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Outcome<T> {
        self.map_err(|cause| Failure(format!("{}: {cause}", doing())))
    }
}
