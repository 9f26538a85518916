//! Who the server has to be: its certificate and its name are verified, and a password goes to nobody else.

use std::sync::Arc;

use ledger::{Error, Ledger, PostgresLedger};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::server::{Database, OwnServer, parse};
use crate::scene::{at, blob};

/// An authority that signs certificates.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate of this name and its key, in PEM form.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn trusted(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

const PASSWORD: &str = "a pass/word: of @ll s?rts";
const ESCAPED: &str = "a%20pass%2Fword%3A%20of%20%40ll%20s%3Frts";

/// A server that shows this certificate, and wants the password.
fn server_with((certificate, key): (String, String)) -> OwnServer {
    let mut server = OwnServer::start(Some(PASSWORD), &["log_connections=on"]);
    let (certificate, key) = (
        server.put("tls.crt", &certificate),
        server.put("tls.key", &key),
    );
    server.stop("INT");
    server.set("ssl=on");
    server.set(&format!("ssl_cert_file={}", certificate.display()));
    server.set(&format!("ssl_key_file={}", key.display()));
    server.go_on();
    server
}

fn url(server: &OwnServer, password: &str, mode: &str) -> String {
    let port = server.port();
    format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode={mode}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn only_a_server_with_a_certificate_of_a_trusted_authority_is_spoken_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server_with(ours.sign("127.0.0.1"));
    for mode in ["require", "verify-ca", "verify-full"] {
        let there = parse(&url(&server, ESCAPED, mode));
        let ledger = PostgresLedger::new(there.clone(), Some(theirs.trusted()));
        let refused = ledger.connect().await.expect_err(mode);
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
        let told = format!("{:#}", chain(&refused));
        assert!(told.contains("certificate"), "{told}");
        assert!(!told.contains("word"), "{told}");

        let ledger = PostgresLedger::new(there, Some(ours.trusted()));
        ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
        let summary = ledger.summary(at(0)).await.unwrap();
        assert_eq!(summary.streams[0].pending_count, 1);
    }
    assert!(server.log().contains("SSL enabled"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_certificate_of_another_name_is_refused_whatever_the_mode_is_called() {
    let ours = Authority::new();
    let server = server_with(ours.sign("db.example.com"));
    for mode in ["require", "verify-ca", "verify-full"] {
        let there = parse(&url(&server, ESCAPED, mode));
        let refused = PostgresLedger::new(there, Some(ours.trusted()))
            .connect()
            .await;
        let refused = refused.expect_err(mode);
        let told = chain(&refused);
        assert!(told.contains("certificate"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_wanted() {
    let database = Database::new().await;
    let there = parse(&format!("{}?sslmode=require", database.url));
    let ledger = PostgresLedger::new(there, Some(Authority::new().trusted()));
    let refused = ledger.connect().await.unwrap_err();
    let told = chain(&refused);
    assert!(told.contains("does not support TLS"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_wrong_password_is_told_without_it() {
    let server = OwnServer::start(Some(PASSWORD), &[]);
    let there = parse(&url(&server, "SECRET-canary", "disable"));
    let refused = PostgresLedger::new(there, None)
        .connect()
        .await
        .unwrap_err();
    let told = chain(&refused);
    assert!(told.contains("28P01"), "{told}");
    assert!(
        !told.contains("canary") && !told.contains("user \"postgres\""),
        "{told}"
    );
    assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    let there = parse(&url(&server, ESCAPED, "disable"));
    PostgresLedger::new(there, None).connect().await.unwrap();
}

/// An error with its causes, as the program prints it.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let causes = causes.map(|cause| format!(": {cause}"));
    format!("{error}{}", causes.collect::<String>())
}
