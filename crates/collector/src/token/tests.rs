//! Tests of tokens from a managed identity, and for another issuer's token in a file. How a tenant's secret becomes one is tested
//! where it is used, in `microsoft`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;

use super::*;
use crate::testing::{Answer, CERTIFICATE, Scene, tenant, tenant_config};

const ENDPOINT: &str = "http://127.0.0.1:41155/msi/token";

fn source(scene: &Scene) -> TokenSource {
    let variables = BTreeMap::from([("IDENTITY_ENDPOINT", ENDPOINT), ("IDENTITY_HEADER", "h")]);
    let identity =
        ManagedIdentity::from_variables(|name| variables.get(name).map(|text| (*text).to_owned()));
    let resource = activity_api::Cloud::Commercial.hosts().resource_manager;
    TokenSource::of_managed_identity(
        identity.unwrap(),
        resource,
        scene.transport(),
        scene.clock(),
    )
}

fn token(scene: &Scene, text: &str, secs: i64) -> Answer {
    let expires_on = scene.now().as_second() + secs;
    Answer::ok(format!(
        r#"{{"access_token":"{text}","expires_on":"{expires_on}","token_type":"Bearer"}}"#
    ))
}

fn text(token: &AccessToken) -> String {
    token.authorization().to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_managed_identitys_token_is_asked_for_once_and_renewed_early() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token/msi",
        [token(&scene, "first", 3600), token(&scene, "second", 7200)],
    );
    let source = source(&scene);
    let tokens = join_all((0..10).map(|_| source.token())).await;
    assert!(
        tokens
            .iter()
            .all(|token| text(token.as_ref().unwrap()) == "Bearer first")
    );
    assert_eq!(scene.microsoft.count("token/msi"), 1);
    let sent: Vec<http::Request<Bytes>> = scene.microsoft.sent_of("token/msi");
    assert!(sent[0].uri().to_string().starts_with(ENDPOINT));
    assert_eq!(sent[0].headers()["x-identity-header"], "h");
    tokio::time::advance(Duration::from_secs(51 * 60)).await;
    assert_eq!(text(&source.token().await.unwrap()), "Bearer second");
}

#[tokio::test(start_paused = true)]
async fn an_identity_endpoint_that_is_not_there_yet_is_asked_again() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token/msi",
        [
            Answer::no_connection(),
            Answer::status(500, ""),
            token(&scene, "late", 3600),
        ],
    );
    assert_eq!(text(&source(&scene).token().await.unwrap()), "Bearer late");
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_does_not_exist_is_not_asked_for_again_and_again() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token/msi",
        [Answer::status(400, r#"{"message":"No identity"}"#)],
    );
    let error = source(&scene).token().await.unwrap_err();
    assert!(matches!(error.next_step(), NextStep::StopTenant(_)));
    assert_eq!(scene.microsoft.count("token/msi"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_handed_out_again() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token/msi",
        [token(&scene, "first", 3600), token(&scene, "second", 3600)],
    );
    let source = source(&scene);
    let first = source.token().await.unwrap();
    source.forget(&first).await;
    let second = source.token().await.unwrap();
    assert_eq!(text(&second), "Bearer second");
    // A worker that is late with the same news takes nothing away.
    source.forget(&first).await;
    assert_eq!(text(&source.token().await.unwrap()), "Bearer second");
    assert_eq!(scene.microsoft.count("token/msi"), 2);
}

#[tokio::test(start_paused = true)]
async fn the_old_token_is_used_while_it_lasts() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token/msi",
        [token(&scene, "old", 3600), Answer::no_connection()],
    );
    let source = source(&scene);
    source.token().await.unwrap();
    tokio::time::advance(Duration::from_secs(55 * 60)).await;
    for _ in 0..5 {
        assert_eq!(text(&source.token().await.unwrap()), "Bearer old");
    }
    assert_eq!(scene.microsoft.count("token/msi"), 2);
    tokio::time::advance(Duration::from_secs(6 * 60)).await;
    assert!(source.token().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_application_with_a_certificate_signs_a_statement_for_each_token() {
    let scene = Scene::new();
    let certificate = ApplicationCertificate::from_pem(&CERTIFICATE.into()).unwrap();
    let mut tenant = tenant_config(tenant(), &[]);
    tenant.credential = Credential::Certificate(certificate);
    let resource = tenant.hosts.activity.clone();
    let source = TokenSource::of_tenant(&tenant, resource, scene.transport(), scene.clock());
    let first = source.token().await.unwrap();
    source.forget(&first).await;
    source.token().await.unwrap();
    let sent = scene.microsoft.sent();
    let statements: Vec<_> = sent
        .iter()
        .filter_map(|request| {
            let body = std::str::from_utf8(request.body()).unwrap();
            let (_, statement) = body.split_once("&client_assertion=")?;
            Some(statement.split('&').next().unwrap())
        })
        .collect();
    assert_eq!(statements.len(), 2);
    assert_ne!(statements[0], statements[1]);
    assert!(statements.iter().all(|text| text.split('.').count() == 3));
}

/// A tenant that signs in with the token in this file.
fn source_of_file(scene: &Scene, path: &Path) -> TokenSource {
    let mut tenant = tenant_config(tenant(), &[]);
    tenant.credential = Credential::FederatedTokenFile(path.to_owned());
    let resource = tenant.hosts.activity.clone();
    TokenSource::of_tenant(&tenant, resource, scene.transport(), scene.clock())
}

#[tokio::test(start_paused = true)]
async fn another_issuers_token_is_read_from_its_file_each_time_it_is_needed() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let source = source_of_file(&scene, &path);
    let sent = || {
        let sent = scene.microsoft.sent();
        String::from_utf8(sent.last().unwrap().body().to_vec()).unwrap()
    };
    std::fs::write(&path, "head.first.signature\n").unwrap();
    let first = source.token().await.unwrap();
    assert!(
        sent().contains("&client_assertion=head.first.signature&"),
        "{}",
        sent()
    );
    assert!(!sent().contains("client_secret"));
    std::fs::write(&path, "head.second.signature").unwrap();
    source.forget(&first).await;
    source.token().await.unwrap();
    assert!(sent().contains("&client_assertion=head.second.signature&"));
}

#[tokio::test(start_paused = true)]
async fn a_file_without_a_token_is_named_and_nothing_is_sent() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let source = source_of_file(&scene, &path);
    let fails = async |why: &str| {
        let error = source.token().await.unwrap_err();
        assert!(matches!(error.next_step(), NextStep::RetryAfter(None)));
        let told = telemetry::chain(&error);
        assert!(
            told.contains("federated_token_file") && told.contains(why),
            "{told}"
        );
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert!(!told.contains("canary"), "{told}");
    };
    fails("No such file").await;
    for text in ["", " \n", "two canary tokens", "canary-\u{fc}"] {
        std::fs::write(&path, text).unwrap();
        fails("no token in it").await;
    }
    std::fs::write(&path, "canary".repeat(20_000)).unwrap();
    fails("longer than").await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    fails("no regular file").await;
    assert!(scene.microsoft.sent().is_empty());
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "head.claims.signature").unwrap();
    source.token().await.unwrap();
}
