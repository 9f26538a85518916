//! Which texts name an account, and that none of them is repeated.

use secrecy::SecretString;

use crate::storage::{Account, InvalidAccount, Service};

const KEY: &str = "c3RvcmFnZS1rZXktb2YtbmltYnVz";

fn parse(text: &str) -> Result<Account, InvalidAccount> {
    Account::parse(&SecretString::from(text))
}

fn endpoints(account: &Account) -> [&str; 3] {
    [Service::Tables, Service::Queues, Service::Blobs].map(|service| account.endpoint(service))
}

#[test]
fn a_connection_string_of_the_portal_is_read() {
    let text = format!(
        "DefaultEndpointsProtocol=https;AccountName=nimbus;AccountKey={KEY};EndpointSuffix=core.windows.net"
    );
    let account = parse(&text).unwrap();
    assert_eq!(account.name(), "nimbus");
    assert!(!account.needs_token());
    assert_eq!(
        endpoints(&account),
        [
            "https://nimbus.table.core.windows.net",
            "https://nimbus.queue.core.windows.net",
            "https://nimbus.blob.core.windows.net"
        ]
    );
    // Case, order, spaces, parts of other services and a missing suffix are nothing to fail at.
    let text = format!(
        " accountkey = {KEY}; ACCOUNTNAME=nimbus;FileEndpoint=https://nimbus.file.core.windows.net/;;"
    );
    assert_eq!(endpoints(&parse(&text).unwrap()), endpoints(&account));
}

#[test]
fn given_addresses_and_suffixes_are_kept() {
    let text = format!(
        "AccountName=nimbus;AccountKey={KEY};EndpointSuffix=core.usgovcloudapi.net;TableEndpoint=https://tables.example/x/;BlobEndpoint=http://[::1]:1/y"
    );
    assert_eq!(
        endpoints(&parse(&text).unwrap()),
        [
            "https://tables.example/x",
            "https://nimbus.queue.core.usgovcloudapi.net",
            "http://[::1]:1/y"
        ]
    );
}

#[test]
fn the_emulator_has_a_short_name() {
    let account = parse("UseDevelopmentStorage=true").unwrap();
    assert_eq!(account.name(), "devstoreaccount1");
    assert_eq!(
        endpoints(&account)[0],
        "http://127.0.0.1:10002/devstoreaccount1"
    );
}

#[test]
fn an_account_that_is_used_with_tokens_needs_no_key() {
    for text in ["nimbus", "AccountName=nimbus"] {
        let account = Account::with_tokens(text).unwrap();
        assert!(account.needs_token());
        assert_eq!(
            endpoints(&account)[1],
            "https://nimbus.queue.core.windows.net"
        );
    }
    let in_china = Account::with_tokens("AccountName=nimbus;EndpointSuffix=core.chinacloudapi.cn");
    assert_eq!(
        endpoints(&in_china.unwrap())[2],
        "https://nimbus.blob.core.chinacloudapi.cn"
    );
    let with_key = format!("AccountName=nimbus;AccountKey={KEY}");
    for text in [with_key.as_str(), "Nimbus", "n", "a.b", ""] {
        assert!(Account::with_tokens(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_connection_string_is_refused_with_the_part_and_without_its_value() {
    let good = format!("AccountName=nimbus;AccountKey={KEY}");
    let refused = [
        (String::new(), "no AccountKey"),
        ("nimbus".into(), "part 1"),
        (good.replace("AccountName=nimbus", "secret"), "part 1"),
        (format!("AccountKey={KEY}"), "no AccountName"),
        (good.replace("=nimbus", "=Secret"), "AccountName"),
        (good.replace("=nimbus", "=a.secret.example/"), "AccountName"),
        (
            format!("AccountName=nimbus;AccountKey={KEY}!"),
            "AccountKey",
        ),
        ("AccountName=nimbus;AccountKey=".into(), "AccountKey"),
        (format!("{good};accountname=other"), "AccountName twice"),
        (
            format!("{good};SharedAccessSignature=sv=1&sig=secret"),
            "without AccountKey",
        ),
        (
            "AccountName=nimbus;SharedAccessSignature=secret".into(),
            "SharedAccessSignature",
        ),
        (
            "SharedAccessSignature=sv=1&sig=secret".into(),
            "no TableEndpoint",
        ),
        (
            format!("{good};DefaultEndpointsProtocol=http"),
            "https, save for",
        ),
        (
            format!("{good};DefaultEndpointsProtocol=ftp"),
            "DefaultEndpointsProtocol",
        ),
        (format!("{good};EndpointSuffix=secret/x"), "EndpointSuffix"),
        (
            format!("{good};QueueEndpoint=http://secret.example"),
            "QueueEndpoint",
        ),
        (
            format!("{good};QueueEndpoint=https://u:secret@q.example"),
            "QueueEndpoint",
        ),
        (
            format!("{good};QueueEndpoint=https://q.example/?secret"),
            "QueueEndpoint",
        ),
        (format!("{good};QueueEndpoint=secret"), "QueueEndpoint"),
        (
            "UseDevelopmentStorage=secret".into(),
            "UseDevelopmentStorage",
        ),
    ];
    for (text, expected) in refused {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.to_lowercase().contains("secret"), "{error}");
        assert!(!error.contains(KEY), "{error}");
    }
}

#[test]
fn nothing_shows_a_key() {
    let account = parse(&format!("AccountName=nimbus;AccountKey={KEY}")).unwrap();
    assert_eq!(format!("{account:?}"), "Account { name: \"nimbus\", .. }");
}
