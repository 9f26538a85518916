//! What is found, against a scripted Microsoft and scripted sinks.

use activity_api::ApplicationCertificate;

use super::*;
use crate::config::Credential;
use crate::testing::subscriptions::{WEBHOOK_URL, hook, list, subscription, webhook};
use crate::testing::{
    Answer, CERTIFICATE, ENDED_CERTIFICATE, FakeSink, Scene, Turn, config, other_tenant, start,
    tenant, tenant_config,
};

const BOTH: [ContentType; 2] = [ContentType::Exchange, ContentType::SharePoint];

fn subscribed(content_type: &str, webhook: &str) -> String {
    subscription(content_type, "enabled", webhook)
}

/// What of a tenant is found, by what follows its id.
async fn found(scene: &Scene, webhook: Option<&WebhookConfig>) -> Vec<(String, Verdict, String)> {
    found_of(scene, &tenant_config(tenant(), &BOTH), webhook).await
}

async fn found_of(
    scene: &Scene,
    config: &TenantConfig,
    webhook: Option<&WebhookConfig>,
) -> Vec<(String, Verdict, String)> {
    let (findings, _) = of_tenant(&scene.door(tenant()), config, webhook, &*scene.clock).await;
    let whose = format!("tenant {}: ", tenant());
    findings
        .into_iter()
        .map(|finding| {
            let subject = finding.subject.strip_prefix(&whose).unwrap().to_owned();
            (subject, finding.verdict, finding.says)
        })
        .collect()
}

fn verdicts(found: &[(String, Verdict, String)]) -> Vec<(&str, Verdict)> {
    found
        .iter()
        .map(|(subject, verdict, _)| (subject.as_str(), *verdict))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_subscribed_is_fine_and_nothing_is_started() {
    let scene = Scene::new();
    let entries = BOTH.map(|content_type| subscribed(content_type.as_str(), "null"));
    let answer = list(&entries);
    scene.microsoft.on("subscriptions", [answer]);
    let found = found(&scene, None).await;
    assert_eq!(
        verdicts(&found),
        [("sign-in", Verdict::Fine), ("subscriptions", Verdict::Fine)]
    );
    assert_eq!(
        found[1].2,
        "Audit.Exchange, Audit.SharePoint: subscribed to"
    );
    assert_eq!(scene.microsoft.sent().len(), 2, "a token and the list");
}

#[tokio::test(start_paused = true)]
async fn what_run_would_mend_is_a_note() {
    let scene = Scene::new();
    let disabled = subscription("Audit.Exchange", "disabled", "null");
    scene.microsoft.on("subscriptions", [list(&[disabled])]);
    let found = found(&scene, None).await;
    let note = ("subscriptions", Verdict::Note);
    assert_eq!(verdicts(&found)[1..], [note, note]);
    assert!(
        found[1].2.starts_with("Audit.Exchange: disabled"),
        "{found:?}"
    );
    assert!(
        found[2]
            .2
            .starts_with("Audit.SharePoint: not subscribed to"),
        "{found:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_not_as_configured_is_a_note_and_says_how_it_is() {
    for (webhook_found, verdict, says) in [
        (
            hook("enabled", WEBHOOK_URL),
            Verdict::Fine,
            "with notifications",
        ),
        (
            hook("disabled", WEBHOOK_URL),
            Verdict::Note,
            "stopped its notifications",
        ),
        (
            hook("expired", WEBHOOK_URL),
            Verdict::Note,
            "stopped its notifications",
        ),
        (
            hook("enabled", "https://elsewhere.example.net/"),
            Verdict::Note,
            "go to https://elsewhere.example.net/",
        ),
        ("null".to_owned(), Verdict::Note, "without notifications"),
    ] {
        let scene = Scene::new();
        let entry = subscribed("Audit.Exchange", &webhook_found);
        scene.microsoft.on("subscriptions", [list(&[entry])]);
        let found = found(&scene, Some(&webhook())).await;
        assert_eq!(found[1].1, verdict, "{webhook_found}");
        assert!(found[1].2.contains(says), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_ends_soon_is_told_before_it_does() {
    for (pem, verdict, says) in [
        (
            CERTIFICATE,
            Verdict::Fine,
            "good until 2126-11-03 03:31:41Z",
        ),
        (ENDED_CERTIFICATE, Verdict::Note, "its certificate ended "),
    ] {
        let scene = Scene::new();
        let entries = BOTH.map(|content_type| subscribed(content_type.as_str(), "null"));
        scene.microsoft.on("subscriptions", [list(&entries)]);
        let mut config = tenant_config(tenant(), &BOTH);
        let certificate = ApplicationCertificate::from_pem(&pem.into()).unwrap();
        config.credential = Credential::Certificate(certificate);
        let found = found_of(&scene, &config, None).await;
        assert_eq!(
            verdicts(&found)[..2],
            [("sign-in", Verdict::Fine), ("certificate", verdict)]
        );
        assert!(found[1].2.starts_with(says), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_and_a_missing_permission_are_told_apart_with_their_mends() {
    let scene = Scene::new();
    let refused =
        r#"{"error":"invalid_client","error_codes":[7000215],"error_description":"AADSTS7000215"}"#;
    scene.microsoft.on("token", [Answer::status(401, refused)]);
    let refused = found(&scene, None).await;
    assert_eq!(verdicts(&refused), [("sign-in", Verdict::Failing)]);
    assert!(
        refused[0].2.contains("the secret's value, not its id"),
        "{refused:?}"
    );
    assert!(refused[0].2.contains("AADSTS7000215"), "{refused:?}");

    let scene = Scene::new();
    scene
        .microsoft
        .on("subscriptions", [Answer::refused(401, "AF10001")]);
    let missing = found(&scene, None).await;
    assert_eq!(
        verdicts(&missing),
        [
            ("sign-in", Verdict::Fine),
            ("activity feed", Verdict::Failing)
        ]
    );
    assert!(missing[1].2.contains("ActivityFeed.Read"), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_reached_is_named() {
    for (part, subject, host) in [
        ("token", "sign-in", "https://login.microsoftonline.com"),
        (
            "subscriptions",
            "activity feed",
            "https://manage.office.com",
        ),
    ] {
        let scene = Scene::new();
        scene.microsoft.on(part, [Answer::no_connection()]);
        let found = found(&scene, None).await;
        let (at, verdict, says) = found.last().unwrap();
        assert_eq!((at.as_str(), *verdict), (subject, Verdict::Failing));
        assert!(says.contains(host) && says.contains("firewall"), "{says}");
    }
}

#[test]
fn a_clock_is_judged_by_how_far_it_is_off_and_in_which_direction() {
    for (seconds, verdict, says) in [
        (20, Verdict::Fine, "agrees"),
        (-20, Verdict::Fine, "agrees"),
        (90, Verdict::Note, "90 s ahead of"),
        (-90, Verdict::Note, "90 s behind"),
        (300, Verdict::Failing, "300 s ahead of"),
        (-3_600, Verdict::Failing, "3600 s behind"),
    ] {
        let found = of_clock(SignedDuration::from_secs(seconds));
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.says.contains(says), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_tenants_each_is_found_and_the_clock_once_by_the_date_of_a_reply() {
    let scene = Scene::new();
    scene.clock.jump(SignedDuration::from_mins(20));
    let date = start().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    scene
        .microsoft
        .on("subscriptions", [list(&[]).header("date", date)]);
    let tenants = [tenant(), other_tenant()].map(|id| tenant_config(id, &BOTH));
    let config = config(tenants.into());
    let found = of_tenants(&config, &scene.transport(), &scene.clock()).await;
    let of = |what: &str| {
        found
            .iter()
            .filter(|finding| finding.subject.ends_with(what))
            .count()
    };
    assert_eq!(
        (of("sign-in"), of("subscriptions"), of("clock")),
        (2, 2, 1),
        "{found:?}"
    );
    let clock = found.last().unwrap();
    assert_eq!(clock.verdict, Verdict::Failing);
    assert!(clock.says.contains("1200 s ahead of"), "{clock:?}");
}

#[test]
fn what_is_said_is_one_line_and_moves_no_cursor() {
    let found = Finding::failing("sink", "refused: \u{1b}[2J\nfine     ledger: it is well");
    assert_eq!(found.says, "refused:  [2J fine     ledger: it is well");
}

#[tokio::test(start_paused = true)]
async fn a_sink_says_what_it_found_or_what_is_wrong() {
    let sink = FakeSink::new("fake");
    let fine = of_sink(&*sink).await;
    assert_eq!(fine, Finding::fine("sink fake", "it takes what comes"));
    sink.script([Turn::Fail]);
    let failing = of_sink(&*sink).await;
    assert_eq!(
        (failing.subject.as_str(), failing.verdict),
        ("sink fake", Verdict::Failing)
    );
    assert!(!failing.says.starts_with("sink "), "{failing:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_at_the_webhooks_address_is_fine_and_silence_is_a_note() {
    for (answer, verdict, says) in [
        (Answer::status(405, ""), Verdict::Fine, "405"),
        (Answer::status(502, ""), Verdict::Note, "502"),
        (Answer::no_connection(), Verdict::Note, "from the internet"),
        (
            Answer::ok("").after(Duration::from_secs(60)),
            Verdict::Note,
            "no answer in time",
        ),
    ] {
        let scene = Scene::new();
        scene.microsoft.on("blob/webhook", [answer]);
        let found = of_webhook(&scene.transport(), &webhook()).await;
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.says.contains(says), "{found:?}");
    }
}
