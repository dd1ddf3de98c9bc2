//! Proofs of a class: what each of them came to, and whether together they make a visitor one of the class.
//!
//! A class is proven, never claimed. Whatever fails leaves the visitor a citizen, and is counted by its reason.

use super::names::ClassId;

/// How a class may be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A certificate of the client's.
    ClientCertificate,
    /// A signed token of the portal's own sign-on.
    Jwt,
    /// A header that a gateway signs.
    SignedHeader,
    /// A code that was handed out.
    InvitationCode,
    /// The client's network.
    Network,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] =
        [Kind::ClientCertificate, Kind::Jwt, Kind::SignedHeader, Kind::InvitationCode, Kind::Network];

    /// The kind as configuration, metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ClientCertificate => "client_certificate",
            Kind::Jwt => "jwt",
            Kind::SignedHeader => "signed_header",
            Kind::InvitationCode => "invitation_code",
            Kind::Network => "network",
        }
    }
}

/// Why a proof that was shown does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It cannot be read.
    Malformed,
    /// An algorithm that is not on the list; `none` is on nobody's.
    Algorithm,
    /// No key of that name.
    UnknownKey,
    /// No keys could be had, or they are too old.
    NoKeys,
    /// Altered, or signed by somebody else.
    BadSignature,
    /// Another issuer's.
    Issuer,
    /// Meant for somebody else.
    Audience,
    /// It does not say what the class wants, or names nobody.
    Claim,
    /// Past its end, or signed too long ago.
    Expired,
    /// Not valid yet, or signed in the future.
    NotYetValid,
    /// Taken back.
    Revoked,
    /// Shown before.
    Replayed,
    /// More proofs than can be remembered.
    Busy,
    /// Said by somebody who is not a trusted proxy.
    Untrusted,
    /// No such code.
    UnknownCode,
    /// Used as often as it may be.
    UsedUp,
    /// Tried too often.
    Throttled,
    /// Good, but not from this network.
    Network,
    /// This identity has as many tickets, or entered as often, as it may.
    Quota,
}

impl Failure {
    /// The reason as metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Malformed => "malformed",
            Failure::Algorithm => "algorithm",
            Failure::UnknownKey => "unknown_key",
            Failure::NoKeys => "no_keys",
            Failure::BadSignature => "bad_signature",
            Failure::Issuer => "issuer",
            Failure::Audience => "audience",
            Failure::Claim => "claim",
            Failure::Expired => "expired",
            Failure::NotYetValid => "not_yet_valid",
            Failure::Revoked => "revoked",
            Failure::Replayed => "replayed",
            Failure::Busy => "busy",
            Failure::Untrusted => "untrusted",
            Failure::UnknownCode => "unknown_code",
            Failure::UsedUp => "used_up",
            Failure::Throttled => "throttled",
            Failure::Network => "network",
            Failure::Quota => "quota",
        }
    }
}

/// Who a proof names: an office, a subject; `None` for a network, which names nobody.
pub type Identity = Option<String>;

/// What one proof came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing of the kind was shown.
    Absent,
    /// Something was shown that does not hold.
    Failed(Failure),
    /// It holds.
    Holds(Identity),
}

/// What a proof is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// It proves the class.
    Sufficient,
    /// The class's other proofs count only together with one of these.
    OnlyWithAnother,
}

/// A proof that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its kind.
    pub kind: Kind,
    /// What it is worth.
    pub strength: Strength,
    /// What it came to.
    pub outcome: Outcome,
}

/// The class that a visitor proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The class.
    pub class: ClassId,
    /// How, if it is not the citizens', which needs no proof.
    pub kind: Option<Kind>,
    /// The keyed hash of whom the proof names.
    pub identity: Option<IdentityHash>,
}

/// A keyed hash of an identity within its class: what memory and logs have instead of the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityHash(pub [u8; 16]);

impl std::fmt::Display for IdentityHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes back proofs that hold, but not from the visitor's network, and says which one proves the class.
pub fn weigh(checked: &mut [Checked]) -> Option<(Kind, Identity)> {
    let mut conditions = checked.iter().filter(|proof| proof.strength == Strength::OnlyWithAnother).peekable();
    let from_there = conditions.peek().is_none() || conditions.any(|proof| matches!(proof.outcome, Outcome::Holds(_)));
    let strong = |proof: &&mut Checked| proof.strength == Strength::Sufficient;
    for proof in checked.iter_mut().filter(strong).filter(|proof| proof.kind != Kind::Network) {
        if !from_there && matches!(proof.outcome, Outcome::Holds(_)) {
            proof.outcome = Outcome::Failed(Failure::Network);
        }
    }
    checked.iter().filter(|proof| proof.strength == Strength::Sufficient).find_map(|proof| match &proof.outcome {
        Outcome::Holds(identity) => Some((proof.kind, identity.clone())),
        Outcome::Absent | Outcome::Failed(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(kind: Kind, strength: Strength, outcome: Outcome) -> Checked {
        Checked { kind, strength, outcome }
    }

    #[test]
    fn a_strong_proof_is_enough_and_a_weak_one_is_not() {
        let jwt = checked(Kind::Jwt, Strength::Sufficient, Outcome::Holds(Some("office".into())));
        assert_eq!(weigh(&mut [jwt]), Some((Kind::Jwt, Some("office".into()))));
        let weak = checked(Kind::Network, Strength::OnlyWithAnother, Outcome::Holds(None));
        assert_eq!(weigh(&mut [weak]), None);
        let trusted = checked(Kind::Network, Strength::Sufficient, Outcome::Holds(None));
        assert_eq!(weigh(&mut [trusted]), Some((Kind::Network, None)));
        assert_eq!(weigh(&mut []), None);
    }

    #[test]
    fn a_network_beside_other_proofs_says_from_where_they_count() {
        let mut at_home = [
            checked(Kind::Jwt, Strength::Sufficient, Outcome::Holds(Some("office".into()))),
            checked(Kind::Network, Strength::OnlyWithAnother, Outcome::Absent),
        ];
        assert_eq!(weigh(&mut at_home), None);
        assert_eq!(at_home[0].outcome, Outcome::Failed(Failure::Network));
        let mut at_work = [
            checked(Kind::Jwt, Strength::Sufficient, Outcome::Holds(Some("office".into()))),
            checked(Kind::Network, Strength::OnlyWithAnother, Outcome::Absent),
            checked(Kind::Network, Strength::OnlyWithAnother, Outcome::Holds(None)),
        ];
        assert_eq!(weigh(&mut at_work), Some((Kind::Jwt, Some("office".into()))));
    }
}
