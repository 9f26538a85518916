//! How long records are remembered, as it is typed.

use std::time::Duration;

use expect_test::expect;

use super::{check_errors, read, with};

fn remembered(text: &str) -> Result<Option<Duration>, String> {
    let read = read(&with(&format!("[dedupe]\n{text}")), &[]);
    read.map(|config| config.dedupe.records)
        .map_err(|errors| errors.to_string())
}

#[test]
fn records_are_remembered_for_hours_or_days_and_not_at_all_by_default() {
    assert_eq!(read(&with(""), &[]).unwrap().dedupe.records, None);
    assert_eq!(remembered(""), Ok(None));
    let hours = |hours: u64| Ok(Some(Duration::from_secs(hours * 3600)));
    assert_eq!(remembered("records = '7d'"), hours(7 * 24));
    assert_eq!(remembered("records = '36h'"), hours(36));
    assert_eq!(remembered("records = '30d'"), hours(30 * 24));
}

#[test]
fn what_is_no_such_time_is_refused() {
    let wrong = [
        "",
        "7",
        "d",
        "+7d",
        "7 d",
        "7D",
        "0d",
        "31d",
        "721h",
        "1m",
        "7é",
        "99999999999999999999d",
    ];
    for text in wrong {
        let refusal = remembered(&format!("records = '{text}'")).expect_err(text);
        assert!(refusal.contains("dedupe.records"), "{refusal}");
    }
    check_errors(
        &with("[dedupe]\nrecords = '1w'"),
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:8: dedupe.records: must be a number of days or hours, from 1h to 30d, such as 7d"#]],
    );
}

#[test]
fn records_are_remembered_in_sqlite_alone() {
    check_errors(
        &with("[ledger]\nurl = 'postgres://a:b@c.example/d'\n[dedupe]\nrecords = '7d'"),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:10: dedupe.records: needs a ledger in SQLite: each record is looked up before it is delivered, and a server is too far away for that. Name a sqlite: url in ledger.url, or take this key away"#]],
    );
    check_errors(
        &with(
            "[ledger]\nurl = 'azure-storage:UseDevelopmentStorage=true'\n[dedupe]\nrecords = '7d'",
        ),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:10: dedupe.records: needs a ledger in SQLite: what a sink was given is written in one transaction with its acknowledgement, and Azure Storage has none over so many rows. Name a sqlite: url in ledger.url, or take this key away"#]],
    );
}
