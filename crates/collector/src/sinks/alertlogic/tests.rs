//! The whole sink against a fake of the services: what is asked for, how often, and who is told what.

mod fake;
mod promises;
mod refusals;

use std::sync::Arc;

use jiff::SignedDuration;
use ledger::Ledger;

use self::fake::{
    Answer, OTHER_TENANT, Rig, SECRETS, START, TENANT, config, message_ts, record, records,
};
use super::*;

const LOGMSGS: &str = "POST ingest.example.net/ingest/v1/1342/data/logmsgs";
const AUTHENTICATE: &str = "POST api.example.net/aims/v1/authenticate";
const REGISTER: &str =
    "POST azcollect.example.net/azcollect/v1/1342/azure/o365/sub/group/o365-collector";

fn ok(batch: Result<Receipt, Failure>) -> Vec<usize> {
    let receipt = batch.unwrap();
    assert_eq!(receipt.position, None);
    receipt
        .refused
        .into_iter()
        .map(|refused| refused.index_in_batch)
        .collect()
}

#[tokio::test]
async fn the_first_delivery_authenticates_finds_its_way_registers_and_posts() {
    let rig = Rig::new();
    let sink = rig.sink();
    let records = records(3);
    assert_eq!(
        ok(sink.deliver(&rig.batch(&records).await).await),
        [] as [usize; 0]
    );
    assert_eq!(
        rig.fake.lines(),
        [
            AUTHENTICATE,
            "GET api.example.net/endpoints/v1/1342/residency/default/services/azcollect/endpoint",
            REGISTER,
            "GET api.example.net/endpoints/v1/1342/residency/default/services/ingest/endpoint",
            LOGMSGS,
        ]
    );
    let seen = rig.fake.seen();
    assert_eq!(
        seen.iter().find(|seen| seen.line == LOGMSGS).unwrap().texts,
        records
    );
    let registration: serde_json::Value = serde_json::from_slice(&seen[2].body).unwrap();
    assert_eq!(
        registration,
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "app_tenant_id": TENANT,
            "client_id": "a261478c-84fb-42f9-84c2-de050a4babe3", "client_secret": "app-secret",
            "config": {"type": "o365", "office_tenant_id": TENANT, "content_streams": ["Audit.Exchange", "DLP.All"]},
        })
    );
    rig.fake.forget();
    sink.deliver(&rig.batch(&records).await).await.unwrap();
    assert_eq!(rig.fake.lines(), [LOGMSGS]);
}

#[tokio::test]
async fn the_registration_is_remembered_before_it_is_used() {
    let rig = Rig::new();
    let remembered = Arc::new(std::sync::Mutex::new(None));
    let (ledger, slot) = (Arc::clone(&rig.ledger), Arc::clone(&remembered));
    let runtime = tokio::runtime::Handle::current();
    rig.fake.hook(move |seen| {
        if seen.line == LOGMSGS {
            let ledger = Arc::clone(&ledger);
            let fact = std::thread::scope(|scope| {
                let key = format!("alertlogic/alertlogic/{TENANT}");
                scope
                    .spawn(|| runtime.block_on(async move { ledger.recall(&key).await.unwrap() }))
                    .join()
                    .unwrap()
            });
            *slot.lock().unwrap() = fact;
        }
        None
    });
    rig.sink()
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    let fact = remembered.lock().unwrap().take().unwrap();
    assert!(
        fact.contains("source-id") && fact.contains("host-id"),
        "{fact}"
    );
    assert!(
        SECRETS.iter().all(|secret| !fact.contains(secret)),
        "{fact}"
    );
}

#[tokio::test]
async fn a_restart_uses_the_registration_and_the_addresses_again() {
    let rig = Rig::new();
    rig.sink()
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    rig.fake.forget();
    rig.sink()
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    assert_eq!(rig.fake.lines(), [AUTHENTICATE, LOGMSGS]);
}

#[tokio::test]
async fn another_collector_name_is_another_registration() {
    let rig = Rig::new();
    rig.sink()
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    rig.fake.forget();
    let renamed = AlertLogicConfig {
        collector_name: "renamed".to_owned(),
        ..config()
    };
    rig.sink_with(renamed, &[TENANT])
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    assert_eq!(
        rig.fake.lines()[1],
        REGISTER.replace("o365-collector", "renamed")
    );
}

#[tokio::test]
async fn configured_ids_and_addresses_spare_registration_and_lookups() {
    let rig = Rig::new();
    let config = AlertLogicConfig {
        source_id: Some("s".to_owned()),
        host_id: Some("h".to_owned()),
        ingest: Some("https://direct.example.net:8443".to_owned()),
        ..config()
    };
    rig.fake.hook(|seen| {
        seen.line
            .contains("direct")
            .then(|| Answer::Status(200, String::new()))
    });
    rig.sink_with(config, &[TENANT])
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap();
    assert_eq!(
        rig.fake.lines(),
        [
            AUTHENTICATE,
            "POST direct.example.net:8443/ingest/v1/1342/data/logmsgs"
        ]
    );
}

#[tokio::test]
async fn each_of_several_tenants_is_registered_under_its_own_name() {
    let rig = Rig::new();
    let sink = rig.sink_with(config(), &[TENANT, OTHER_TENANT]);
    for tenant in [TENANT, OTHER_TENANT] {
        rig.fake.forget();
        sink.deliver(&rig.batch_of(tenant, &records(1)).await)
            .await
            .unwrap();
        assert!(
            rig.fake.lines().contains(&format!("{REGISTER}-{tenant}")),
            "{:?}",
            rig.fake.lines()
        );
    }
}

/// Whose log source would it go to? The lane makes none, see [`Sink::keeps_tenants_apart`].
#[tokio::test]
async fn a_batch_of_several_tenants_is_refused_and_nothing_of_it_is_sent() {
    let rig = Rig::new();
    let sink = rig.sink_with(config(), &[TENANT, OTHER_TENANT]);
    assert!(sink.keeps_tenants_apart());
    let mut parts = rig.batch_of(TENANT, &records(1)).await.parts().to_vec();
    parts.extend_from_slice(rig.batch_of(OTHER_TENANT, &records(1)).await.parts());
    let failure = sink.deliver(&Batch::new(parts)).await.unwrap_err();
    assert!(
        matches!(&failure.error, Error::Refused { what } if what.contains("not of one tenant")),
        "{failure:?}"
    );
    assert_eq!(failure.delivered_count, 0);
    assert_eq!(rig.fake.lines(), [] as [String; 0]);
}

#[tokio::test]
async fn concurrent_first_deliveries_ask_for_one_token_and_register_once() {
    let rig = Rig::new();
    let sink = rig.sink();
    let batch = rig.batch(&records(1)).await;
    let deliveries = futures::future::join_all((0..8).map(|_| sink.deliver(&batch))).await;
    assert!(deliveries.iter().all(Result::is_ok));
    let lines = rig.fake.lines();
    for once in [AUTHENTICATE, REGISTER] {
        assert_eq!(
            lines.iter().filter(|line| *line == once).count(),
            1,
            "{once}"
        );
    }
    assert_eq!(lines.iter().filter(|line| *line == LOGMSGS).count(), 8);
    assert_eq!(lines.len(), 12);
}

#[tokio::test]
async fn a_token_refused_before_its_time_is_renewed_once_and_the_payload_sent_again() {
    let rig = Rig::new();
    let sink = rig.sink();
    sink.deliver(&rig.batch(&records(1)).await).await.unwrap();
    rig.fake.forget();
    rig.fake.hook(|seen| {
        (seen.token.as_deref() == Some("token-1")).then(|| Answer::Status(401, String::new()))
    });
    let batch = rig.batch(&records(1)).await;
    let deliveries = futures::future::join_all((0..4).map(|_| sink.deliver(&batch))).await;
    assert!(deliveries.iter().all(Result::is_ok));
    assert_eq!(
        rig.fake
            .lines()
            .iter()
            .filter(|line| *line == AUTHENTICATE)
            .count(),
        1
    );
}

#[tokio::test]
async fn a_token_refused_twice_needs_a_person() {
    let rig = Rig::new();
    rig.fake
        .hook(|seen| (seen.line == LOGMSGS).then(|| Answer::Status(403, String::new())));
    let failure = rig
        .sink()
        .deliver(&rig.batch(&records(2)).await)
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Refused { .. }),
        "{failure:?}"
    );
    assert_eq!((failure.delivered_count, failure.refused), (0, vec![]));
    assert_eq!(
        rig.fake
            .lines()
            .iter()
            .filter(|line| *line == LOGMSGS)
            .count(),
        2
    );
}

#[tokio::test]
async fn a_refused_access_key_needs_a_person_and_is_never_shown() {
    let rig = Rig::new();
    rig.fake
        .hook(|seen| (seen.line == AUTHENTICATE).then(|| Answer::Status(401, String::new())));
    let sink = rig.sink();
    let failure = sink
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Refused { .. }),
        "{failure:?}"
    );
    let shown = format!("{failure} {failure:?} {sink:?} {:?}", config());
    assert!(
        SECRETS.iter().all(|secret| !shown.contains(secret)),
        "{shown}"
    );
}

#[tokio::test]
async fn a_token_is_renewed_ten_minutes_early_and_the_old_one_serves_while_that_fails() {
    let rig = Rig::new();
    let sink = rig.sink();
    let batch = rig.batch(&records(1)).await;
    sink.deliver(&batch).await.unwrap();
    rig.clock.advance(SignedDuration::from_secs(21_600 - 601));
    rig.fake.forget();
    sink.deliver(&batch).await.unwrap();
    assert_eq!(rig.fake.lines(), [LOGMSGS]);

    rig.clock.advance(SignedDuration::from_secs(1));
    rig.fake.forget();
    rig.fake
        .hook(|seen| (seen.line == AUTHENTICATE).then(|| Answer::Status(503, String::new())));
    sink.deliver(&batch).await.unwrap();
    assert_eq!(rig.fake.lines(), [AUTHENTICATE, LOGMSGS]);

    rig.clock.advance(SignedDuration::from_secs(600));
    let failure = sink.deliver(&batch).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::Unavailable { .. }),
        "{failure:?}"
    );
    rig.fake.hook(|_| None);
    sink.deliver(&batch).await.unwrap();
    assert_eq!(
        rig.fake
            .seen()
            .iter()
            .rfind(|seen| seen.line == LOGMSGS)
            .unwrap()
            .token
            .as_deref(),
        Some("token-2")
    );
}

#[tokio::test]
async fn the_volume_report_follows_and_neither_its_failure_nor_its_silence_matters() {
    let rig = Rig::new();
    let sink = rig.sink();
    let is_report = |seen: &fake::Seen| seen.line.ends_with("/data/lmcstats");
    rig.fake
        .hook(move |seen| is_report(seen).then_some(Answer::Silence));
    let records = records(3);
    sink.deliver(&rig.batch(&records).await).await.unwrap();
    let report = rig.fake.until_seen(is_report).await;
    let report: serde_json::Value = serde_json::from_slice(&report.body).unwrap();
    let bytes: usize = records.iter().map(String::len).sum();
    assert_eq!(
        report,
        serde_json::json!([{
            "inst_type": "collector", "appliance_id": "", "source_type": "o365", "source_id": "source-id",
            "host_id": "host-id", "event_count": 3, "byte_count": bytes, "application_id": "", "timestamp": START,
        }])
    );
    for _ in 0..3 {
        sink.deliver(&rig.batch(&records).await).await.unwrap();
    }
    assert_eq!(
        rig.fake
            .seen()
            .iter()
            .filter(|seen| is_report(seen))
            .count(),
        1
    );

    let rig = Rig::new();
    let sink = rig.sink();
    rig.fake
        .hook(move |seen| is_report(seen).then(|| Answer::Status(400, String::new())));
    sink.deliver(&rig.batch(&records).await).await.unwrap();
    rig.fake.until_seen(is_report).await;
    sink.deliver(&rig.batch(&records).await).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_long_out_of_reach_is_looked_up_anew() {
    let rig = Rig::new();
    let sink = rig.sink();
    let batch = rig.batch(&records(1)).await;
    sink.deliver(&batch).await.unwrap();
    let lookup = |seen: &fake::Seen| seen.line.ends_with("services/ingest/endpoint");
    rig.fake.hook(move |seen| {
        if seen.line == LOGMSGS {
            return Some(Answer::Unreachable);
        }
        lookup(seen).then(|| Answer::Status(200, r#"{"ingest":"moved.example.net"}"#.to_owned()))
    });
    rig.fake.forget();
    assert!(sink.deliver(&batch).await.is_err());
    rig.clock.advance(SignedDuration::from_mins(4));
    assert!(sink.deliver(&batch).await.is_err());
    assert!(!rig.fake.seen().iter().any(lookup));
    rig.clock.advance(SignedDuration::from_mins(1));
    sink.deliver(&batch).await.unwrap();
    assert!(rig.fake.seen().iter().any(lookup));
    rig.fake.forget();
    rig.sink().deliver(&batch).await.unwrap();
    assert_eq!(
        rig.fake.lines(),
        [
            AUTHENTICATE,
            "POST moved.example.net/ingest/v1/1342/data/logmsgs"
        ]
    );
}

#[tokio::test]
async fn an_address_outside_the_vendors_domains_never_gets_a_token() {
    let rig = Rig::new();
    let sink = rig.sink_with(
        AlertLogicConfig {
            api: DEFAULT_API.to_owned(),
            ..config()
        },
        &[TENANT],
    );
    let body = r#"{"authentication":{"account":{"id":"1342"},"token":"token-1","token_expiration":1800000000}}"#;
    rig.fake.hook(move |seen| {
        let body = if seen.line.ends_with("/authenticate") {
            body
        } else {
            r#"{"azcollect":"evil.example.net"}"#
        };
        Some(Answer::Status(200, body.to_owned()))
    });
    let failure = sink
        .deliver(&rig.batch(&records(1)).await)
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Refused { .. }),
        "{failure:?}"
    );
    assert!(
        rig.fake
            .lines()
            .iter()
            .all(|line| line.contains(DEFAULT_API)),
        "{:?}",
        rig.fake.lines()
    );
}

#[tokio::test]
async fn registration_keeps_the_secret_back_when_told_so() {
    let rig = Rig::new();
    let sink = rig.sink_with(
        AlertLogicConfig {
            register_client_secret: false,
            ..config()
        },
        &[TENANT],
    );
    sink.deliver(&rig.batch(&records(1)).await).await.unwrap();
    let registration = rig
        .fake
        .seen()
        .into_iter()
        .find(|seen| seen.line == REGISTER)
        .unwrap();
    assert!(!String::from_utf8_lossy(&registration.body).contains("secret"));
}

#[tokio::test]
async fn a_record_is_sent_as_compact_text_and_without_a_time_happens_when_it_is_sent() {
    let rig = Rig::new();
    let sink = rig.sink();
    let loose =
        "{ \"Id\": \"1\",\n\t\"Text\": \"a  \\\"b\\\\\", \"N\": [ 1.50, -2E+3 ] }".to_owned();
    sink.deliver(&rig.batch(&[loose]).await).await.unwrap();
    let posted = rig
        .fake
        .seen()
        .into_iter()
        .find(|seen| seen.line == LOGMSGS)
        .unwrap();
    assert_eq!(
        posted.texts,
        [r#"{"Id":"1","Text":"a  \"b\\","N":[1.50,-2E+3]}"#]
    );
    assert_eq!(message_ts(&posted.body), START as u64);
    rig.fake.forget();
    sink.deliver(&rig.batch(&records(1)).await).await.unwrap();
    let posted = rig
        .fake
        .seen()
        .into_iter()
        .find(|seen| seen.line == LOGMSGS)
        .unwrap();
    assert_eq!(message_ts(&posted.body), 1_621_372_414);
}

#[tokio::test]
async fn a_batch_of_an_unknown_tenant_and_an_address_that_is_none_are_refused() {
    let rig = Rig::new();
    let failure = rig
        .sink()
        .deliver(&rig.batch_of(OTHER_TENANT, &records(1)).await)
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Refused { .. }),
        "{failure:?}"
    );
    assert!(rig.fake.lines().is_empty());

    let http: Arc<dyn Transport> = Arc::<fake::Fake>::clone(&rig.fake);
    let ledger: Arc<dyn Ledger> = Arc::<ledger::SqliteLedger>::clone(&rig.ledger);
    let clock: Arc<dyn Clock> = Arc::<fake::TestClock>::clone(&rig.clock);
    let config = AlertLogicConfig {
        ingest: Some("http://example.net".to_owned()),
        ..config()
    };
    let error = AlertLogicSink::build(config, vec![], http, ledger, clock).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sink alertlogic: ingest: only https:// is spoken (http:// with a loopback address)"
    );
}
