//! What the operator declared about routes, and what holds for all of them.

/// What the operator declared about the target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The same for everybody. Only for requests for which [`super::may_be_public`] holds.
    Public,
    /// Somebody's own: everything that was not declared public.
    Personal(Personal),
}

/// What the operator declared about a personal target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Personal {
    /// Whether parts may be asked for.
    pub range: RangeRule,
    /// Whether the answer's version is told.
    pub etag: EtagRule,
    /// Whether Back may show the answer to a POST.
    pub back: BackRule,
    /// What answers wear against caches that ignore the policy.
    pub armour: Armour,
}

impl Personal {
    /// Nothing declared: every rule in its strictest form.
    pub const STRICT: Personal =
        Personal { range: RangeRule::Removed, etag: EtagRule::Removed, back: BackRule::NotKept, armour: Armour::WHOLE };
}

/// Whether a personal answer keeps its `ETag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagRule {
    /// It does (`etag_paths`): clients send it back in `If-Match` to guard their writes.
    Kept,
    /// It does not.
    Removed,
}

/// Whether a browser may keep the answer to a POST for its Back button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackRule {
    /// It may (`back_paths`).
    Kept,
    /// It may not.
    NotKept,
}

/// Headers that stop caches which were told to ignore `Cache-Control`; each may be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armour {
    /// `X-Accel-Buffering: no`, against nginx, which then neither buffers nor stores.
    pub x_accel_buffering: bool,
    /// `Vary: *`, against Traffic Server.
    pub vary: bool,
    /// `Age: 0`, against HAProxy.
    pub age: bool,
}

impl Armour {
    /// All of it.
    pub const WHOLE: Armour = Armour { x_accel_buffering: true, vary: true, age: true };
}

/// What holds for every exchange, whatever its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether the guard acts.
    pub mode: Mode,
    /// Balancer cookies that public requests may carry.
    pub keep_cookies: Vec<String>,
    /// Whether a cache between us and the portal is meant to answer personal requests.
    pub cache_behind: CacheBehind,
    /// The lifetime in seconds that public answers without one of their own get.
    pub public_max_age: Option<u32>,
    /// Header names, in lower case, by which this portal says nothing about caches behind us.
    pub ignored_markers: Vec<String>,
    /// What public text is searched for.
    pub scan: Scan,
}

impl Rules {
    /// The rules of an empty configuration.
    pub const STRICT: Rules = Rules {
        mode: Mode::Enforce,
        keep_cookies: Vec::new(),
        cache_behind: CacheBehind::Distrusted,
        public_max_age: None,
        ignored_markers: Vec::new(),
        scan: Scan::Nothing,
    };
}

/// What public text is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing.
    Nothing,
    /// Italian fiscal codes.
    FiscalCodes,
}

/// What a cache between us and the portal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheBehind {
    /// Nobody put one there on purpose: personal requests ask for a fresh answer.
    Distrusted,
    /// The owner put it there and answers for it.
    Trusted,
}

/// Whether `Range` reaches the portal on a personal route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRule {
    /// It does (`downloads`): some players show no video without.
    Allowed,
    /// It does not, and the answer does not offer it.
    Removed,
}

/// Whether the guard acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It acts.
    Enforce,
    /// It judges and changes nothing.
    Observe,
}
