//! Who is recognised as what, over the wire: every kind of proof, good and forged. Whatever does not hold leaves its
//! bearer a citizen, is counted by its reason, and is never an error page.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anticamera::classes::codes;
use anticamera::domain::names::ClassName;
use anticamera::domain::signed_header::{GatewayKey, Signed};
use anticamera::domain::time::Unix;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SerialNumber,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::app::{Asking, PATIENCE, Running, Visitor, number_of, own, room_of};

/// The tests' clock, in seconds.
const NOW: u64 = 1_900_000_000;
/// The address of the trusted proxy in front.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

pub fn class_with(proofs: &str) -> String {
    format!("[[class]]\nname = \"office\"\n{proofs}")
}

async fn start(proofs: &str) -> Running {
    room_of("10/s").with_server("trusted_proxies = [\"127.0.0.3/32\"]").with_more(&class_with(proofs)).start().await
}

/// The class in which somebody new gets a ticket who joins like this.
async fn class_of(asking: Asking) -> String {
    let answer = asking.send().await;
    assert_eq!(answer.status, 200, "never an error: {answer:?}");
    answer.queue()["class"].as_str().unwrap_or_default().to_owned()
}

fn joining(visitor: &Visitor) -> Asking {
    visitor.script("POST", &own("join"))
}

/// How often a proof came to this.
fn counted(running: &Running, kind: &str, result: &str) -> f64 {
    running.metric(&format!("class_proofs_total{{class=\"office\",kind=\"{kind}\",result=\"{result}\"}}"))
}

/// The class that whoever shows this is given, which must be counted once as this.
async fn shown(running: &Running, asking: Asking, kind: &str, result: &str) -> String {
    let before = counted(running, kind, result);
    let class = class_of(asking).await;
    assert_eq!(counted(running, kind, result), before + 1.0, "counted as {kind} {result}");
    class
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

// ---- tokens

/// An issuer of tokens.
pub struct Issuing {
    key: EncodingKey,
    algorithm: Algorithm,
    id: String,
    jwk: Value,
}

impl Issuing {
    fn ed25519(id: &str) -> Issuing {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let jwk =
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": encoded(pair.public_key_raw()) });
        Issuing {
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
            algorithm: Algorithm::EdDSA,
            id: id.into(),
            jwk,
        }
    }

    fn p256(id: &str) -> Issuing {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": id, "x": encoded(&point[1..33]), "y": encoded(&point[33..65]),
        });
        Issuing {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            algorithm: Algorithm::ES256,
            id: id.into(),
            jwk,
        }
    }

    pub fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn key_set(issuing: &[&Issuing]) -> String {
    let keys: Vec<&Value> = issuing.iter().map(|issuing| &issuing.jwk).collect();
    json!({ "keys": keys }).to_string()
}

pub fn claims() -> Value {
    json!({
        "iss": "https://login.example", "aud": "portal", "sub": "office 123", "exp": NOW + 600, "role": ["user", "office"],
    })
}

fn claims_but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn jwt_proof(keys: &str, more: &str) -> String {
    format!(
        "[[class.proof]]\nkind = \"jwt\"\nkeys = \"{keys}\"\nissuer = \"https://login.example\"\naudience = \"portal\"\n\
         claims = {{ role = \"office\" }}\n{more}\n"
    )
}

/// A sign-on whose tokens in the Authorization header prove an office: the folder of its keys, the issuer, the proof.
pub fn sign_on() -> (tempfile::TempDir, Issuing, String) {
    let dir = tempfile::tempdir().unwrap();
    let ed = Issuing::ed25519("ed");
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, key_set(&[&ed])).unwrap();
    let proof = jwt_proof(file.to_str().unwrap(), "header = \"authorization\"");
    (dir, ed, proof)
}

fn bearing(visitor: &Visitor, token: &str) -> Asking {
    joining(visitor).header("Authorization", &format!("Bearer {token}"))
}

/// A token signed by OpenSSL, and its key.
fn by_openssl(dir: &Path, claims: &Value) -> (String, Value) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    openssl(&["genrsa", "-out", "rsa.pem", "2048"]);
    let modulus = String::from_utf8(openssl(&["rsa", "-in", "rsa.pem", "-noout", "-modulus"])).unwrap();
    let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
    let modulus: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let header = encoded(json!({ "alg": "RS256", "typ": "JWT" }).to_string().as_bytes());
    let signed = format!("{header}.{}", encoded(claims.to_string().as_bytes()));
    std::fs::write(dir.join("signed"), &signed).unwrap();
    let signature = openssl(&["dgst", "-sha256", "-sign", "rsa.pem", "signed"]);
    let jwk = json!({ "kty": "RSA", "alg": "RS256", "n": encoded(&modulus), "e": "AQAB" });
    (format!("{signed}.{}", encoded(&signature)), jwk)
}

#[tokio::test]
async fn tokens_of_the_sign_on_prove_a_class_and_forged_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ed, ec, stranger) = (Issuing::ed25519("ed"), Issuing::p256("ec"), Issuing::ed25519("ed"));
    let (of_openssl, rsa) = by_openssl(dir.path(), &claims());
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, json!({ "keys": [ed.jwk, ec.jwk, rsa, { "kty": "new" }] }).to_string()).unwrap();
    let proof = jwt_proof(file.to_str().unwrap(), "header = \"authorization\"");
    let running = start(&proof).await;
    let show = |token: String, result: &'static str| {
        let asking = bearing(&running.visitor(), &token);
        let running = &running;
        async move { shown(running, asking, "jwt", result).await }
    };
    for good in [ed.token(&claims()), ec.token(&claims()), of_openssl.clone()] {
        assert_eq!(show(good, "accepted").await, "office");
    }
    assert_eq!(class_of(joining(&running.visitor())).await, "citizen");

    let unsigned = |header: Value| {
        format!("{}.{}.", encoded(header.to_string().as_bytes()), encoded(claims().to_string().as_bytes()))
    };
    let by_public_key = {
        // The well-known confusion: the public key as the secret of an HMAC.
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("ed".into());
        let secret = URL_SAFE_NO_PAD.decode(ed.jwk["x"].as_str().unwrap()).unwrap();
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap()
    };
    let altered = {
        let good = ed.token(&claims());
        let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        format!("{header}.{}.{signature}", encoded(claims_but("sub", json!("office 1")).to_string().as_bytes()))
    };
    let confused = {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("ec".into());
        jsonwebtoken::encode(&header, &claims(), &ed.key).unwrap()
    };
    for (token, result) in [
        (unsigned(json!({ "alg": "none" })), "algorithm"),
        (unsigned(json!({ "alg": "NONE", "kid": "ed" })), "algorithm"),
        (unsigned(json!({ "alg": "EdDSA", "kid": "ed" })), "bad_signature"),
        (by_public_key, "algorithm"),
        (stranger.token(&claims()), "bad_signature"),
        (altered, "bad_signature"),
        (confused, "unknown_key"),
        (Issuing::ed25519("other").token(&claims()), "unknown_key"),
        (ed.token(&claims_but("aud", json!("shop"))), "audience"),
        (ed.token(&claims_but("iss", json!("https://evil.example"))), "issuer"),
        (ed.token(&claims_but("exp", json!(NOW - 61))), "expired"),
        (ed.token(&claims_but("nbf", json!(NOW + 120))), "not_yet_valid"),
        (ed.token(&claims_but("role", json!("user"))), "claim"),
        (ed.token(&claims_but("sub", json!(null))), "claim"),
        ("not.a.token".to_owned(), "malformed"),
        ("x".repeat(9000), "malformed"),
    ] {
        assert_eq!(show(token, result).await, "citizen", "{result}");
    }
    // A clock that is a little behind.
    assert_eq!(show(ed.token(&claims_but("exp", json!(NOW - 30))), "accepted").await, "office");
}

#[tokio::test]
async fn a_token_may_stand_in_a_cookie_and_its_key_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Issuing::p256("old"), Issuing::p256("new"));
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, key_set(&[&old])).unwrap();
    let running = start(&jwt_proof(file.to_str().unwrap(), "cookie = \"sso\"")).await;
    let with_cookie = |token: &str| joining(&running.visitor()).header("Cookie", &format!("a=b; sso={token}"));
    assert_eq!(shown(&running, with_cookie(&old.token(&claims())), "jwt", "accepted").await, "office");
    assert_eq!(shown(&running, with_cookie(&new.token(&claims())), "jwt", "unknown_key").await, "citizen");
    std::fs::write(&file, key_set(&[&new])).unwrap();
    until("the new key is known", || async { class_of(with_cookie(&new.token(&claims()))).await == "office" }).await;
    assert_eq!(class_of(with_cookie(&old.token(&claims()))).await, "citizen", "the old key is gone");
    std::fs::write(&file, "{").unwrap();
    for _ in 0..3 {
        assert_eq!(class_of(with_cookie(&new.token(&claims()))).await, "office", "a broken file changes nothing");
    }
}

/// Tries again until it is so; files are looked at in real time.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let trying = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Answers every request with the text of the moment, or not at all.
async fn key_server(text: Arc<Mutex<Option<String>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let text = text.lock().unwrap().clone();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            if let Some(text) = text {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
                let _ = stream.write_all((head + &text).as_bytes()).await;
            }
        }
    });
    format!("http://{address}/jwks.json")
}

#[tokio::test]
async fn keys_from_an_address_rotate_and_outlast_an_outage() {
    let (old, new) = (Issuing::ed25519("old"), Issuing::ed25519("new"));
    let served = Arc::new(Mutex::new(Some(key_set(&[&old]))));
    let address = key_server(served.clone()).await;
    let proof = jwt_proof(&address, "header = \"authorization\"\nrefresh = \"10m\"\noutage = \"1h\"");
    let running = start(&proof).await;
    let is_office = |issuing: &Issuing| {
        let claims = claims_but("exp", json!(NOW + 100_000));
        let asking = bearing(&running.visitor(), &issuing.token(&claims));
        async move { class_of(asking).await == "office" }
    };
    until("the keys are fetched", || is_office(&old)).await;
    *served.lock().unwrap() = Some(key_set(&[&old, &new]));
    assert!(!is_office(&new).await);
    running.seconds(31).await;
    until("a token with an unknown key has the keys fetched out of turn", || is_office(&new)).await;
    *served.lock().unwrap() = None;
    running.clock.advance(Duration::from_secs(1000));
    until("the keys are good while the address does not answer", || is_office(&new)).await;
    running.clock.advance(Duration::from_secs(3600));
    until("and no longer", || async { !is_office(&new).await }).await;
    assert!(counted(&running, "jwt", "no_keys") >= 1.0);
    *served.lock().unwrap() = Some(key_set(&[&new]));
    running.clock.advance(Duration::from_secs(60));
    until("until it answers again", || is_office(&new)).await;
}

// ---- the signed header of a gateway

#[tokio::test]
async fn a_gateways_signature_is_good_for_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let proof = format!("[[class.proof]]\nkind = \"signed_header\"\nkey_file = \"{}\"", file.display());
    let running = start(&proof).await;
    let key = GatewayKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    let host = running.address.to_string();
    let (join, line) = (own("join"), own("line"));
    let for_join = Signed { method: "POST", host: &host, target: &join };
    let header = |signed, seconds, nonce: &str| key.sign(signed, seconds, nonce, "office 123");
    let show = |header: &str, result: &'static str| {
        let asking = joining(&running.visitor()).header("Waiting-Room-Proof", header);
        let running = &running;
        async move { shown(running, asking, "signed_header", result).await }
    };
    let good = header(for_join, NOW, "nonce-001");
    assert_eq!(show(&good, "accepted").await, "office");
    assert_eq!(show(&good, "replayed").await, "citizen");
    let other_key = GatewayKey::new(b"another key of a fair length").unwrap();
    for (header, result) in [
        (header(for_join, NOW - 62, "nonce-002"), "expired"),
        (header(for_join, NOW + 65, "nonce-003"), "not_yet_valid"),
        (header(Signed { method: "GET", ..for_join }, NOW, "nonce-004"), "bad_signature"),
        (header(Signed { target: &line, ..for_join }, NOW, "nonce-005"), "bad_signature"),
        (header(Signed { host: "elsewhere.example", ..for_join }, NOW, "nonce-006"), "bad_signature"),
        (other_key.sign(for_join, NOW, "nonce-007", "office 123"), "bad_signature"),
        ("id=office".to_owned(), "malformed"),
    ] {
        assert_eq!(show(&header, result).await, "citizen", "{result}");
    }
    // The nonce is remembered across a reload of another configuration.
    let setup = running.setup.clone().with("message = \"new\"");
    running.reload(&setup).await;
    assert_eq!(show(&good, "replayed").await, "citizen");
}

#[tokio::test]
async fn a_signed_navigation_goes_straight_through_in_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let proof = format!("[[class.proof]]\nkind = \"signed_header\"\nkey_file = \"{}\"", file.display());
    let running = start(&proof).await;
    let key = GatewayKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    let host = running.address.to_string();
    let for_page = Signed { method: "GET", host: &host, target: "/fair/" };
    let visitor = running.visitor();
    let page =
        visitor.navigate("/fair/").header("Waiting-Room-Proof", &key.sign(for_page, NOW, "nonce-008", "office 123"));
    assert!(page.send().await.is_the_portals());
    let seen = running.portal.seen();
    assert!(seen.iter().all(|seen| seen.headers.iter().all(|(name, _)| !name.starts_with("waiting-room-"))));
    assert_eq!(visitor.join().await.queue()["class"], "office");
}

// ---- certificates

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// A certificate of an office, as RFC 9440 passes it on.
fn certificate(authority: &Authority, office: &str, serial: u64, until_year: i32) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, office);
    params.distinguished_name.push(DnType::CommonName, "RSSMRA85T10A562S");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let signed = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
    format!(":{}:", STANDARD.encode(signed.der()))
}

fn revocations(authority: &Authority, serial: u64) -> String {
    let revoked = rcgen::RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: rcgen::date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&authority.issuer).unwrap().pem().unwrap()
}

#[tokio::test]
async fn certificates_count_when_a_trusted_proxy_passes_them_on() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs, others) = (authority("Offices"), authority("Offices"), authority("Others"));
    std::fs::write(dir.path().join("ca.pem"), &ours.pem).unwrap();
    std::fs::write(dir.path().join("crl.pem"), revocations(&ours, 13)).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let proof = format!(
        "[[class.proof]]\nkind = \"client_certificate\"\nca = \"{}\"\ncrl = \"{}\"\nissuer = {{ O = \"Offices\" }}\n\
         subject = {{ O = \"Patronato\" }}\nforwarded = true\n",
        at("ca.pem"),
        at("crl.pem")
    );
    let running = start(&proof).await;
    let show = |header: &str, from, result: &'static str| {
        let asking = joining(&running.visitor().from(from)).header("Client-Cert", header);
        let running = &running;
        async move { shown(running, asking, "client_certificate", result).await }
    };
    let good = certificate(&ours, "Patronato", 12, 2040);
    assert_eq!(show(&good, PROXY, "accepted").await, "office");
    for (header, from, result) in [
        (good.clone(), Ipv4Addr::LOCALHOST, "untrusted"),
        (certificate(&ours, "Patronato", 13, 2040), PROXY, "revoked"),
        (certificate(&ours, "Patronato", 14, 2029), PROXY, "expired"),
        (certificate(&ours, "Somebody", 15, 2040), PROXY, "claim"),
        (certificate(&theirs, "Patronato", 16, 2040), PROXY, "bad_signature"),
        (certificate(&others, "Patronato", 17, 2040), PROXY, "issuer"),
        (":AAAA:".to_owned(), PROXY, "malformed"),
        ("-----BEGIN".to_owned(), PROXY, "malformed"),
    ] {
        assert_eq!(show(&header, from, result).await, "citizen", "{result}");
    }
    // A stranger's statement does not reach the portal either.
    let page = running.visitor().navigate("/unprotected").header("Client-Cert", &good).send().await;
    assert!(page.is_the_portals());
    let seen = running.portal.seen();
    assert!(seen.iter().all(|seen| seen.headers.iter().all(|(name, _)| name != "client-cert")));
}

// ---- codes and networks

fn code(dir: &Path, uses: u32) -> (String, String) {
    let class = ClassName::new("office").unwrap();
    let wanted = codes::Wanted { class, identity: "office 123".into(), uses, expires: Unix((NOW + 9000) * 1000) };
    let (code, invitation) = codes::create(dir, wanted, Unix(NOW * 1000)).unwrap();
    (code.to_string(), invitation.id)
}

fn typing(visitor: &Visitor, code: &str) -> Asking {
    visitor.script("POST", &own("code")).json(&json!({ "code": code }))
}

#[tokio::test]
async fn a_code_moves_a_waiting_visitor_into_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let (good, id) = code(dir.path(), 2);
    let proof = format!("[[class.proof]]\nkind = \"invitation_code\"\ndir = \"{}\"", dir.path().display());
    // Nobody enters, so that everybody waits.
    let running = room_of("10/s").with("state = \"hold\"").with_more(&class_with(&proof)).start().await;
    let visitor = running.visitor();
    let page = visitor.navigate("/fair/").send().await.text();
    assert!(page.contains("/.waiting-room/code?room=fair"), "the page has a place to type it in");
    assert_eq!(class_of(joining(&visitor)).await, "citizen");
    let citizen_ticket = visitor.copy();
    let answer = typing(&visitor, &good.to_lowercase().replace('-', " ")).send().await;
    assert_eq!((answer.status, answer.queue()["class"].as_str()), (200, Some("office")), "{answer:?}");
    visitor.poll().json(&json!({ "now": 1 })).send().await;
    assert_eq!(citizen_ticket.poll().send().await.state(), "left", "the place among the citizens was given up");
    // Again changes nothing and uses nothing.
    let place = visitor.token("ticket");
    assert_eq!(typing(&visitor, &good).send().await.queue()["class"], "office");
    assert_eq!((visitor.token("ticket"), codes::list(dir.path()).unwrap().0[0].used), (place, 1));
    // A newcomer, by a plain form.
    let second = running.visitor();
    let answer = second.form(&own("code"), &format!("code={good}&to=%2Ffair%2F")).send().await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(second.join().await.queue()["class"], "office");
    let third = running.visitor();
    let answer = typing(&third, &good).send().await;
    assert_eq!((answer.status, answer.queue()["state"].as_str()), (422, Some("none")), "{answer:?}");
    assert_eq!(counted(&running, "invitation_code", "used_up"), 1.0);
    let by_hand = third.form(&own("code"), &format!("code={good}")).send().await;
    assert_eq!(by_hand.status, 422);
    assert!(by_hand.text().contains("<form") && by_hand.text().contains("accettato"), "{by_hand:?}");
    // A link shows the code, and only the visitor's own click uses it.
    let link = running.visitor().navigate(&format!("{}&code={good}&lang=en", own("code"))).send().await;
    assert!(link.status == 200 && link.text().contains(&format!("value=\"{good}\"")), "{link:?}");
    assert_eq!(codes::list(dir.path()).unwrap().0[0].used, 2);
    let odd = running.visitor().navigate(&format!("{}&code=%22%3E%3Cb%3E", own("code"))).send().await;
    assert!(!odd.text().contains("<b>"), "{odd:?}");
    codes::revoke(dir.path(), &id).unwrap();
    // From another address each time, so that nobody is slowed down.
    let next = AtomicU8::new(10);
    let somebody = || running.visitor().from(Ipv4Addr::new(127, 0, 1, next.fetch_add(1, Ordering::Relaxed)));
    let revoked = || async { typing(&somebody(), &good).send().await.status };
    until("it is taken back", || async {
        revoked().await == 422 && counted(&running, "invitation_code", "revoked") > 0.0
    })
    .await;
    assert_eq!(visitor.join().await.queue()["class"], "office", "who has a ticket keeps it");
    let elsewhere = visitor.request("POST", &own("code")).header("Sec-Fetch-Site", "cross-site").send().await;
    assert_eq!(elsewhere.status, 403);
}

#[tokio::test]
async fn guessing_is_slowed_down_for_one_network_only() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = code(dir.path(), 100);
    let proof = format!("[[class.proof]]\nkind = \"invitation_code\"\ndir = \"{}\"", dir.path().display());
    let running = start(&proof).await;
    let mut statuses = Vec::new();
    for guess in 0..15 {
        let guess = format!("0000-0000-0000-00{guess:02}");
        statuses.push(typing(&running.visitor(), &guess).send().await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 422).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 5, "{statuses:?}");
    assert_eq!(typing(&running.visitor(), &good).send().await.status, 429, "a good one must wait as well");
    assert_eq!(counted(&running, "invitation_code", "throttled"), 6.0);
    assert_eq!(counted(&running, "invitation_code", "unknown_code"), 10.0);
    let elsewhere = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(typing(&elsewhere, &good).send().await.queue()["class"], "office");
    running.seconds(7).await;
    assert_eq!(typing(&running.visitor(), &good).send().await.queue()["class"], "office");
}

#[tokio::test]
async fn a_network_is_weak_unless_the_operator_says_otherwise() {
    let (_dir, ed, jwt) = sign_on();
    let network = "[[class.proof]]\nkind = \"network\"\nranges = [\"127.0.0.2/32\"]";
    let office = Ipv4Addr::new(127, 0, 0, 2);
    let token = ed.token(&claims());

    let running = start(&format!("{network}\nsufficient = true")).await;
    assert_eq!(class_of(joining(&running.visitor().from(office))).await, "office");
    assert_eq!(class_of(joining(&running.visitor())).await, "citizen");

    let running = start(&format!("{jwt}{network}")).await;
    assert_eq!(class_of(joining(&running.visitor().from(office))).await, "citizen", "alone it is nothing");
    assert_eq!(class_of(bearing(&running.visitor().from(office), &token)).await, "office");
    assert_eq!(shown(&running, bearing(&running.visitor(), &token), "jwt", "network").await, "citizen");
    // What a stranger says of its address is nothing.
    let claimed = bearing(&running.visitor(), &token).header("X-Forwarded-For", "127.0.0.2");
    assert_eq!(class_of(claimed).await, "citizen");
    let by_proxy = bearing(&running.visitor().from(PROXY), &token).header("X-Forwarded-For", "127.0.0.2");
    assert_eq!(class_of(by_proxy).await, "office");
}

#[tokio::test]
async fn an_identity_has_no_more_tickets_than_its_quota() {
    let (_dir, ed, jwt) = sign_on();
    let proof = format!("max_tickets = 2\n{jwt}");
    let running = room_of("10/s").with("state = \"hold\"").with_more(&class_with(&proof)).start().await;
    let join = |subject: &str| {
        let visitor = running.visitor();
        let asking = bearing(&visitor, &ed.token(&claims_but("sub", json!(subject))));
        async move { (class_of(asking).await, visitor) }
    };
    let (class, first) = join("office 1").await;
    assert_eq!((class.as_str(), join("office 1").await.0.as_str()), ("office", "office"));
    assert_eq!(join("office 1").await.0, "citizen");
    assert_eq!(counted(&running, "jwt", "quota"), 1.0);
    assert_eq!(join("office 2").await.0, "office");
    first.script("POST", &own("leave")).send().await;
    assert_eq!(join("office 1").await.0, "office", "a place that was given up is free again");
}

#[tokio::test]
async fn parallel_joins_do_not_pass_the_quota() {
    let (_dir, ed, jwt) = sign_on();
    let proof = format!("max_tickets = 3\n{jwt}");
    let running = room_of("10/s").with("state = \"hold\"").with_more(&class_with(&proof)).start().await;
    let token = ed.token(&claims());
    let joins: Vec<_> = (0..40).map(|_| tokio::spawn(class_of(bearing(&running.visitor(), &token)))).collect();
    let mut offices = 0;
    for join in joins {
        offices += usize::from(join.await.unwrap() == "office");
    }
    assert_eq!((offices, counted(&running, "jwt", "quota")), (3, 37.0));
}

#[tokio::test]
async fn an_identity_enters_no_more_often_within_an_hour_than_its_quota() {
    let (_dir, ed, jwt) = sign_on();
    let proof = format!("max_admissions_per_hour = 2\n{jwt}");
    let running = room_of("10/s").with_more(&class_with(&proof)).start().await;
    let enter = async |subject: &str| {
        let visitor = running.visitor();
        let mut claims = claims_but("exp", json!(NOW + 100_000));
        claims["sub"] = json!(subject);
        let page = visitor.navigate("/fair/").header("Authorization", &format!("Bearer {}", ed.token(&claims)));
        assert!(page.send().await.is_the_portals());
        running.seconds(1).await;
        visitor.join().await.queue()["class"].as_str().unwrap().to_owned()
    };
    assert_eq!((enter("office 1").await.as_str(), enter("office 1").await.as_str()), ("office", "office"));
    assert_eq!(enter("office 1").await, "citizen", "beyond it one goes like everybody else");
    assert_eq!(enter("office 2").await, "office");
    assert_eq!(counted(&running, "jwt", "quota"), 1.0);
    running.clock.advance(Duration::from_secs(3600));
    running.seconds(1).await;
    assert_eq!(enter("office 1").await, "office", "an hour later it begins anew");
}

#[tokio::test]
async fn a_lost_answer_to_a_move_into_a_better_class_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = code(dir.path(), 1);
    let proof = format!("[[class.proof]]\nkind = \"invitation_code\"\ndir = \"{}\"", dir.path().display());
    let running = room_of("10/s").with("state = \"hold\"").with_more(&class_with(&proof)).start().await;
    let visitor = running.visitor();
    assert_eq!(class_of(joining(&visitor)).await, "citizen");
    // The answer to the copy's request is the one that is lost.
    let lost = visitor.copy();
    assert_eq!(typing(&lost, &good).send().await.queue()["class"], "office");
    let polled = visitor.poll().json(&json!({ "now": 1 })).send().await;
    assert_eq!((polled.state().as_str(), polled.queue()["class"].as_str()), ("held", Some("citizen")), "the old place");
    // The code is used up, but it was this visitor who used it.
    let again = typing(&visitor, &good).send().await;
    assert_eq!((again.status, again.queue()["class"].as_str()), (200, Some("office")), "{again:?}");
    assert_eq!(number_of(&visitor.token("ticket").unwrap()), number_of(&lost.token("ticket").unwrap()), "one place");
    let arrivals = running.metric("arrivals_total{class=\"office\",room=\"fair\"}");
    assert_eq!((arrivals, codes::list(dir.path()).unwrap().0[0].used), (1.0, 1));
    let stranger = running.visitor();
    joining(&stranger).send().await;
    assert_eq!(typing(&stranger, &good).send().await.status, 422, "nobody else gets it");
}

/// Waits as a citizen, and the answer that moved the visitor into the office's class is lost: the copy has got it.
async fn moved_without_knowing(running: &Running, good: &str) -> (Visitor, Visitor) {
    let visitor = running.visitor();
    assert_eq!(class_of(joining(&visitor)).await, "citizen");
    let lost = visitor.copy();
    assert_eq!(typing(&lost, good).send().await.queue()["class"], "office");
    (visitor, lost)
}

#[tokio::test]
async fn whose_turn_it_is_keeps_it_when_a_code_is_typed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = code(dir.path(), 1);
    let proof = format!("[[class.proof]]\nkind = \"invitation_code\"\ndir = \"{}\"", dir.path().display());
    let setup = room_of("10/s").with_more(&class_with(&proof));
    let running = setup.clone().with("state = \"hold\"").start().await;
    let (visitor, _lost) = moved_without_knowing(&running, &good).await;
    running.reload(&setup).await;
    running.seconds(5).await;
    let again = typing(&visitor, &good).send().await;
    assert_eq!((again.status, again.queue()["state"].as_str()), (422, Some("your_turn")), "{again:?}");
    assert_eq!(again.queue()["class"], "citizen", "the turn that is at hand");
}

#[tokio::test]
async fn a_place_given_before_is_not_given_again_while_the_room_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = code(dir.path(), 1);
    let proof = format!("[[class.proof]]\nkind = \"invitation_code\"\ndir = \"{}\"", dir.path().display());
    let setup = room_of("10/s").with_more(&class_with(&proof));
    let running = setup.clone().with("state = \"hold\"").start().await;
    let (visitor, _lost) = moved_without_knowing(&running, &good).await;
    running.reload(&setup.clone().with("state = \"closed\"")).await;
    assert_eq!(typing(&visitor, &good).send().await.status, 422);
    running.reload(&setup.with("state = \"hold\"")).await;
    assert_eq!(typing(&visitor, &good).send().await.queue()["class"], "office");
}

#[tokio::test]
async fn two_classes_with_one_gateway_key_both_look_at_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let header = format!("[[class.proof]]\nkind = \"signed_header\"\nkey_file = \"{}\"", file.display());
    let near = "[[class.proof]]\nkind = \"network\"\nranges = [\"127.0.0.2/32\"]";
    let classes = format!("[[class]]\nname = \"near\"\n{header}\n{near}\n[[class]]\nname = \"far\"\n{header}");
    let running = room_of("10/s").with_more(&classes).start().await;
    let key = GatewayKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    let (host, join) = (running.address.to_string(), own("join"));
    let for_join = Signed { method: "POST", host: &host, target: &join };
    let shows = |nonce: &str, from| {
        let signed = key.sign(for_join, NOW, nonce, "office 123");
        class_of(joining(&running.visitor().from(from)).header("Waiting-Room-Proof", &signed))
    };
    let office = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(shows("nonce-001", Ipv4Addr::LOCALHOST).await, "far", "no replay of what it has shown itself");
    assert_eq!(shows("nonce-001", Ipv4Addr::LOCALHOST).await, "citizen", "but the next request is one");
    assert_eq!(shows("nonce-002", office).await, "near");
    assert_eq!(shows("nonce-002", Ipv4Addr::LOCALHOST).await, "citizen", "in whatever class");
}

#[tokio::test]
async fn a_reload_that_changes_how_keys_are_fetched_keeps_them() {
    let issuing = Issuing::ed25519("ed");
    let served = Arc::new(Mutex::new(Some(key_set(&[&issuing]))));
    let address = key_server(served.clone()).await;
    let proof = |refresh: &str| jwt_proof(&address, &format!("header = \"authorization\"\nrefresh = \"{refresh}\""));
    let running = start(&proof("10m")).await;
    let is_office = || {
        let asking = bearing(&running.visitor(), &issuing.token(&claims()));
        async move { class_of(asking).await == "office" }
    };
    until("the keys are fetched", is_office).await;
    *served.lock().unwrap() = None;
    let setup = room_of("10/s").with_more(&class_with(&proof("5m")));
    assert_eq!(running.reload(&setup).await, anticamera::admin::ReloadAnswer::Applied);
    assert!(is_office().await, "the address does not answer, and nothing was forgotten");
}

#[tokio::test]
async fn a_trusted_proxys_client_certificate_counts_only_where_the_operator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("Offices");
    std::fs::write(dir.path().join("ca.pem"), &ours.pem).unwrap();
    let ca = dir.path().join("ca.pem").display().to_string();
    let running = start(&format!("[[class.proof]]\nkind = \"client_certificate\"\nca = \"{ca}\"")).await;
    let good = certificate(&ours, "Patronato", 12, 2040);
    let asking = joining(&running.visitor().from(PROXY)).header("Client-Cert", &good);
    assert_eq!(shown(&running, asking, "client_certificate", "untrusted").await, "citizen");
}
