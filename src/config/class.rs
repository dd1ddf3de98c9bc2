//! `[[class]]`: who is recognised, besides the citizens that everybody is without a better proof, and by which proofs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::fault::Wrong;
use super::section::Section;
use super::value::{self, DELAY, Read};
use crate::domain::certificate::{ATTRIBUTES, Attribute, attribute_oid};
use crate::domain::jwt_claims::Expected;
use crate::domain::names::ClassName;
use crate::domain::proof::{Kind, Strength};
use crate::domain::quota::Quota;

/// `[[class]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// `[a-z0-9-]{1,32}`
    pub name: ClassName,
    /// Any of them is enough, with the networks beside them.
    pub proofs: Vec<Proof>,
    /// What one identity may have.
    pub quota: Quota,
}

/// `[[class.proof]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `kind = "network"`
    Network(NetworkProof),
    /// `kind = "client_certificate"`
    Certificate(CertificateProof),
    /// `kind = "jwt"`
    Jwt(JwtProof),
    /// `kind = "signed_header"`
    SignedHeader(SignedHeaderProof),
    /// `kind = "invitation_code"`
    InvitationCode(CodeProof),
}

/// From where a visitor comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkProof {
    /// Any of them.
    pub ranges: Vec<IpNet>,
    /// Whether that is enough.
    pub strength: Strength,
}

/// A certificate, ended here or by a trusted proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProof {
    /// The authorities, PEM.
    pub ca: PathBuf,
    /// Certificates taken back, PEM; none when left out.
    pub crl: Option<PathBuf>,
    /// What the issuer's name must have.
    pub issuer: Vec<Attribute>,
    /// What the subject's name must have.
    pub subject: Vec<Attribute>,
    /// The object identifier of the subject's attribute that says whose it is.
    pub identity: String,
    /// From whom it is taken.
    pub taken: CertificateFrom,
}

/// From whom a certificate is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFrom {
    /// From whoever opens a connection to us.
    Connection,
    /// From them, and as `Client-Cert` (RFC 9440) from trusted proxies.
    ConnectionOrProxy,
}

/// A JSON web token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtProof {
    /// Where it stands.
    pub place: TokenPlace,
    /// The keys of its issuer.
    pub keys: KeySource,
    /// Signatures that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// What it must say.
    pub expected: Expected,
    /// How often keys are fetched from an address.
    pub refresh: Duration,
    /// How long they are good when they cannot be fetched.
    pub outage: Duration,
}

/// Where a token stands in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a cookie of that name.
    Cookie(String),
    /// In a header of that name, perhaps after `Bearer`.
    Header(String),
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JSON Web Key Set.
    File(PathBuf),
    /// Its address.
    Url(String),
}

/// A signature of a token (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A header that a gateway signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaderProof {
    /// Its name, in lower case.
    pub header: String,
    /// The key that both know.
    pub key_file: PathBuf,
    /// How far its time may be from ours.
    pub window: Duration,
}

/// Codes that were handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeProof {
    /// Directory of what is kept of them.
    pub dir: PathBuf,
}

/// Reads all classes. `None` when anything is wrong with one of them.
pub(super) fn classes(sections: &[Section<'_>], base: &Path) -> Option<Vec<Class>> {
    let names: Vec<Option<ClassName>> =
        sections.iter().map(|section| section.read("name", value::class_name)).collect();
    let good = check_names(sections, &names);
    let classes: Vec<Option<Class>> =
        sections.iter().zip(names).map(|(section, name)| class(section, name, base)).collect();
    classes.into_iter().collect::<Option<Vec<Class>>>().filter(|_| good)
}

/// The names of the classes and, last, the citizens'.
pub(super) fn names(classes: &[Class]) -> Vec<ClassName> {
    classes.iter().map(|class| class.name.clone()).chain([ClassName::citizen()]).collect()
}

fn check_names(sections: &[Section<'_>], names: &[Option<ClassName>]) -> bool {
    let mut good = true;
    let citizen = [ClassName::citizen()];
    for (index, (section, name)) in sections.iter().zip(names).enumerate() {
        let Some(name) = name else { continue };
        let mut others = names.iter().take(index).flatten().chain(&citizen);
        if let Some(clash) = others.find_map(|other| clash(name, other)) {
            section.fault("name", clash);
            good = false;
        }
    }
    good
}

/// Why two classes cannot have these names.
fn clash(name: &ClassName, other: &ClassName) -> Option<Wrong> {
    if name == other && *name == ClassName::citizen() {
        let what = "everybody without a better proof is a citizen, without being listed";
        return Some(Wrong::new(what, "remove this class, or give it another name"));
    }
    if name == other {
        return Some(Wrong::new(
            format!("another class is called \"{name}\" too"),
            "give each class a name of its own",
        ));
    }
    let what = format!("\"{name}\" and \"{other}\" have the same number in tokens");
    (name.id() == other.id()).then(|| Wrong::new(what, "change one of the two names"))
}

fn class(section: &Section<'_>, name: Option<ClassName>, base: &Path) -> Option<Class> {
    let sections = section.variants("proof");
    let all_known = sections.len() == section.length("proof");
    let proofs: Vec<Option<Proof>> = sections.iter().map(|(kind, section)| proof(kind, section, base)).collect();
    let tickets = section.read("max_tickets", value::whole(0..=1_000_000u32));
    let admissions = section.read("max_admissions_per_hour", value::whole(0..=1_000_000u32));
    let proofs: Vec<Proof> = proofs.into_iter().collect::<Option<_>>()?;
    let weak =
        |proof: &Proof| matches!(proof, Proof::Network(network) if network.strength == Strength::OnlyWithAnother);
    if !all_known {
        return None;
    }
    if sections.is_empty() || proofs.iter().all(weak) {
        let (what, remedy) = if sections.is_empty() {
            ("nobody can prove it", "add a proof, such as { kind = \"invitation_code\" }")
        } else {
            (
                "a network alone proves nothing",
                "add another proof, or write sufficient = true if addresses can be trusted",
            )
        };
        section.fault("proof", Wrong::new(what, remedy));
        return None;
    }
    let limit = |most: u32| (most > 0).then_some(most);
    let quota = Quota { tickets: limit(tickets?), admissions: limit(admissions?) };
    Some(Class { name: name?, proofs, quota })
}

fn proof(kind: &str, section: &Section<'_>, base: &Path) -> Option<Proof> {
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    match kind {
        Kind::Network => network(section).map(Proof::Network),
        Kind::ClientCertificate => certificate(section, base).map(Proof::Certificate),
        Kind::Jwt => jwt(section, base).map(Proof::Jwt),
        Kind::SignedHeader => signed_header(section, base).map(Proof::SignedHeader),
        Kind::InvitationCode => {
            section.read("dir", value::file_path(base)).map(|dir| Proof::InvitationCode(CodeProof { dir }))
        }
    }
}

fn network(section: &Section<'_>) -> Option<NetworkProof> {
    let ranges = section.list_of_some("ranges", value::network);
    let strength = value::one_of_flags(Strength::Sufficient, Strength::OnlyWithAnother);
    let strength = section.read("sufficient", strength);
    Some(NetworkProof { ranges: ranges?, strength: strength? })
}

fn certificate(section: &Section<'_>, base: &Path) -> Option<CertificateProof> {
    let ca = section.read("ca", value::file_path(base));
    let crl = section.read("crl", value::unless_empty(value::file_path(base)));
    let issuer = section.read("issuer", attributes);
    let subject = section.read("subject", attributes);
    let identity = section.read("identity", |value| {
        let remedy = attribute_remedy();
        value::parsed(value, &remedy, |text| attribute_oid(text).ok_or("not an attribute"))
    });
    let taken = value::one_of_flags(CertificateFrom::ConnectionOrProxy, CertificateFrom::Connection);
    let taken = section.read("forwarded", taken);
    let (issuer, subject, identity) = (issuer?, subject?, identity?);
    Some(CertificateProof { ca: ca?, crl: crl?, issuer, subject, identity, taken: taken? })
}

fn attribute_remedy() -> String {
    let names = ATTRIBUTES.map(|(name, _)| name).join(", ");
    format!("write an object identifier, or one of {names}")
}

fn attributes(value: &DeValue<'_>) -> Read<Vec<Attribute>> {
    let read = |(name, value): (String, String)| {
        let oid = attribute_oid(&name)
            .ok_or_else(|| Wrong::new(format!("{}: not an attribute", value::shown(&name)), attribute_remedy()))?;
        Ok(Attribute { oid, value })
    };
    texts(value, "{ O = \"Example Ltd\" }")?.into_iter().map(read).collect()
}

/// A table of texts, in the order in which they were written.
fn texts(value: &DeValue<'_>, example: &str) -> Read<Vec<(String, String)>> {
    let remedy = format!("write a table of texts, such as {example}");
    let table = value
        .as_table()
        .ok_or_else(|| Wrong::new(format!("expected a table, found {}", value::kind(value)), remedy.clone()))?;
    let mut written: Vec<_> = table.iter().collect();
    written.sort_by_key(|(name, _)| name.span().start);
    let text = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        let what = || Wrong::new(format!("{}: not a text", value::shown(name)), remedy.clone());
        value.get_ref().as_str().map(|text| (name.to_string(), text.to_owned())).ok_or_else(what)
    };
    written.into_iter().map(text).collect()
}

fn jwt(section: &Section<'_>, base: &Path) -> Option<JwtProof> {
    let algorithms = [("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("EdDSA", Algorithm::EdDsa)];
    let place = token_place(section);
    let keys = section.read("keys", |value| key_source(value, base));
    let algorithms = section.list_of_some("algorithms", value::one_of(&algorithms));
    let issuer = section.read("issuer", some_text);
    let audience = section.read("audience", some_text);
    let claims = section.read("claims", |value| texts(value, "{ role = \"office\" }"));
    let identity = section.read("identity", some_text);
    let leeway = section.read("leeway", value::duration(Duration::ZERO..=Duration::from_mins(10)));
    let refresh = section.read("refresh", value::duration(Duration::from_secs(1)..=Duration::from_hours(24)));
    let outage = section.read("outage", value::duration(DELAY));
    let (issuer, audience, claims, identity, leeway) = (issuer?, audience?, claims?, identity?, leeway?);
    Some(JwtProof {
        place: place?,
        keys: keys?,
        algorithms: algorithms?,
        expected: Expected { issuer, audience, claims, identity, leeway },
        refresh: refresh?,
        outage: outage?,
    })
}

fn token_place(section: &Section<'_>) -> Option<TokenPlace> {
    let cookie = section.optional("cookie", value::cookie_name);
    let header = section.optional("header", value::header_name);
    let remedy = "write either cookie = \"...\" or header = \"authorization\"";
    match (cookie?, header?) {
        (Some(cookie), None) => Some(TokenPlace::Cookie(cookie)),
        (None, Some(header)) => Some(TokenPlace::Header(header)),
        (None, None) => {
            section.fault("cookie", Wrong::new("nobody is told where the token stands", remedy));
            None
        }
        (Some(_), Some(_)) => {
            section.fault("header", Wrong::new("stands beside cookie", remedy));
            None
        }
    }
}

fn key_source(value: &DeValue<'_>, base: &Path) -> Read<KeySource> {
    let remedy = "write a file, or an address such as \"https://login.example/jwks.json\"";
    match value.as_str() {
        Some(text) if text.contains("://") => {
            let good = text.parse::<http::Uri>().is_ok_and(|uri| {
                let host = uri.host().unwrap_or_default();
                // Whoever is on the way of a plain answer could give keys of their own.
                let is_near = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
                !host.is_empty() && (uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http") && is_near)
            });
            let fault = || Wrong::new(format!("{}: not an address over https", value::shown(text)), remedy);
            if good { Ok(KeySource::Url(text.to_owned())) } else { Err(fault()) }
        }
        _ => value::file_path(base)(value).map(KeySource::File).map_err(|wrong| Wrong::new(wrong.what, remedy)),
    }
}

fn some_text(value: &DeValue<'_>) -> Read<String> {
    let text = value::plain_text(value)?;
    if text.trim().is_empty() { Err(Wrong::new("an empty text", "write what the token must say")) } else { Ok(text) }
}

fn signed_header(section: &Section<'_>, base: &Path) -> Option<SignedHeaderProof> {
    let header = section.read("header", |value| {
        let name = value::header_name(value)?;
        // So that it never reaches the portal, whoever sent it.
        if name.starts_with("waiting-room-") {
            return Ok(name);
        }
        let what = format!("{}: not a header of ours", value::shown(&name));
        Err(Wrong::new(what, "write a name that begins with \"waiting-room-\""))
    });
    let key_file = section.read("key_file", value::file_path(base));
    let window = section.read("window", value::duration(Duration::from_secs(1)..=Duration::from_hours(1)));
    Some(SignedHeaderProof { header: header?, key_file: key_file?, window: window? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::parse;

    fn classes(text: &str) -> Result<Vec<Class>, String> {
        let file = format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n[[room]]\nname = \"a\"\n\
             paths = [\"/a/**\"]\nadmission_rate = \"1/s\"\n{text}"
        );
        parse(&file, Path::new("/etc")).map(|config| config.classes).map_err(|faults| faults.to_string())
    }

    fn proof_of(proof: &str) -> Result<Proof, String> {
        classes(&format!("[[class]]\nname = \"office\"\nproof = [ {proof} ]"))
            .map(|classes| classes[0].proofs[0].clone())
    }

    #[test]
    fn proofs_have_the_documented_defaults() {
        let file = |name: &str| PathBuf::from("/etc").join(name);
        let certificate =
            proof_of("{ kind = \"client_certificate\", ca = \"ca.pem\", subject = { O = \"X\" } }").unwrap();
        let expected = CertificateProof {
            ca: file("ca.pem"),
            crl: None,
            issuer: Vec::new(),
            subject: vec![Attribute { oid: "2.5.4.10".into(), value: "X".into() }],
            identity: "2.5.4.3".into(),
            taken: CertificateFrom::Connection,
        };
        assert_eq!(certificate, Proof::Certificate(expected));
        let jwt =
            "{ kind = \"jwt\", cookie = \"sso\", keys = \"https://a.example/k\", issuer = \"i\", audience = \"a\" }";
        let Proof::Jwt(jwt) = proof_of(jwt).unwrap() else { panic!("not a jwt") };
        assert_eq!(jwt.keys, KeySource::Url("https://a.example/k".into()));
        assert_eq!(jwt.algorithms, [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa]);
        assert_eq!((jwt.expected.identity.as_str(), jwt.expected.leeway), ("sub", Duration::from_mins(1)));
        let header = proof_of("{ kind = \"signed_header\", key_file = \"key\" }").unwrap();
        let (name, window) = ("waiting-room-proof".to_owned(), Duration::from_mins(1));
        assert_eq!(header, Proof::SignedHeader(SignedHeaderProof { header: name, key_file: file("key"), window }));
        let code = proof_of("{ kind = \"invitation_code\" }").unwrap();
        assert_eq!(code, Proof::InvitationCode(CodeProof { dir: file("state/codes") }));
    }

    #[test]
    fn faults_name_the_proof() {
        for (proof, says) in [
            ("", "class[1] \"office\".proof: nobody can prove it; add a proof"),
            ("{ kind = \"network\", ranges = [\"10.0.0.0/8\"] }", "a network alone proves nothing; add another proof"),
            ("{ kind = \"network\", ranges = [] }", "proof[1] network.ranges: an empty list"),
            (
                "{ kind = \"password\" }",
                "proof[1].kind: \"password\" is no such choice; write \"client_certificate\" or",
            ),
            ("{ ranges = [] }", "proof[1].kind: missing"),
            ("3", "proof[1]: expected tables"),
            ("{ kind = \"jwt\" }", "proof[1] jwt.cookie: nobody is told where the token stands"),
            ("{ kind = \"jwt\", cookie = \"a\", header = \"b\" }", "header: stands beside cookie"),
            ("{ kind = \"jwt\", keys = \"ftp://a\" }", "keys: \"ftp://a\": not an address"),
            ("{ kind = \"jwt\", algorithms = [\"none\"] }", "algorithms[1]: \"none\" is no such choice"),
            ("{ kind = \"jwt\", issuer = \"\" }", "issuer: an empty text"),
            ("{ kind = \"jwt\", claims = { a = 1 } }", "claims: \"a\": not a text"),
            ("{ kind = \"jwt\", ranges = [] }", "ranges: unknown key"),
            ("{ kind = \"client_certificate\", subject = { X = \"a\" } }", "subject: \"X\": not an attribute"),
            ("{ kind = \"client_certificate\" }", "proof[1] client_certificate.ca: missing"),
            ("{ kind = \"signed_header\", header = \"x-proof\" }", "header: \"x-proof\": not a header of ours"),
        ] {
            let found = proof_of(proof).expect_err(proof);
            assert!(found.contains(says), "{found}\ndoes not say\n{says}");
        }
        let code = "proof = [ { kind = \"invitation_code\" } ]";
        for (text, says) in [
            ("[[class]]\nname = \"citizen\"", "everybody without a better proof is a citizen"),
            (
                "[[class]]\nname = \"a\"\n[[class]]\nname = \"a\"",
                "class[2] \"a\".name: another class is called \"a\" too",
            ),
            ("[[class]]\nname = \"A\"", "not a name"),
            ("[[class]]\nmax_tickets = -1", "max_tickets: -1 is out of range"),
        ] {
            let found = classes(&if text.contains("name") { format!("{text}\n{code}") } else { text.to_owned() });
            let found = found.expect_err(text);
            assert!(found.contains(says), "{found}\ndoes not say\n{says}");
        }
    }
}
