//! Which paths and hosts a rule speaks of.

/// A host that a room protects: `*`, `portal.example` or `*.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

/// A path pattern such as `/bonus-600/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);
