//! Urls, and what is said of those that will not do.

use super::*;

fn parse(url: &str) -> Result<PostgresServer, InvalidPostgresUrl> {
    PostgresServer::parse(&SecretString::from(url))
}

#[test]
fn tls_is_used_unless_the_server_is_this_machine_or_the_url_says_otherwise() {
    for (url, has_tls) in [
        ("postgres://me:secret@db.example.com/ledger", true),
        ("postgresql://me:secret@db.example.com:6432/ledger", true),
        (
            "postgres://me:secret@10.0.0.7/ledger?sslmode=disable",
            false,
        ),
        ("postgres://me:secret@db/ledger?sslmode=require", true),
        ("postgres://me:secret@db/ledger?sslmode=verify-ca", true),
        (
            "postgres://me:secret@db/ledger?sslmode=verify-full&connect_timeout=3",
            true,
        ),
        ("postgres://me@localhost/ledger", false),
        ("postgres://me@127.0.0.1:5433/ledger", false),
        ("postgres://me@[::1]/ledger", false),
        ("postgres://me@127.0.0.1/ledger?sslmode=verify-full", true),
        ("postgres://me@%2Fvar%2Frun%2Fpostgresql/ledger", false),
        ("postgres:///ledger?host=/var/run/postgresql&user=me", false),
        // A name in front of another machine is not this one, and neither is this machine's in front of another's address.
        ("postgres://me@localhost.example.com/ledger", true),
        ("postgres://me@localhost/ledger?hostaddr=10.0.0.7", true),
        (
            "postgres://me@db.example.com/ledger?hostaddr=127.0.0.1",
            true,
        ),
        ("postgres://me@localhost,db.example.com/ledger", true),
    ] {
        let server = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(server.has_tls(), has_tls, "{url}");
    }
}

#[test]
fn of_several_hosts_the_one_that_takes_writes_is_asked_for() {
    let server = parse("postgres://me@one.example.com,two.example.com:5433/ledger").unwrap();
    assert_eq!(
        server.config().get_target_session_attrs(),
        TargetSessionAttrs::ReadWrite
    );
    assert_eq!(server.config().get_ports(), [5432, 5433]);
    assert_eq!(
        server.to_string(),
        "ledger on one.example.com,two.example.com"
    );
}

#[test]
fn a_url_that_will_not_do_is_told_of_without_a_word_of_it() {
    for url in [
        "postgres://",
        "postgres://SECRET@/",
        "postgres://db.example.com/SECRET",
        "postgres://SECRET:SECRET@db.example.com",
        "postgres://SECRET:SECRET@db.example.com:SECRET/x",
        "postgres://SECRET:SECRET@db.example.com/x?sslmode=SECRET",
        "postgres://SECRET:SECRET@db.example.com/x?sslmode=prefer",
        "postgres://SECRET:SECRET@db.example.com/x?sslmode=allow",
        "postgres://SECRET:SECRET@db.example.com/x?SECRET=1",
        "postgres://SECRET:SECRET@db.example.com/x?options=-c%20synchronous_commit%3Doff",
        "postgres://SECRET:SECRET@db.example.com/x?sslrootcert=/SECRET",
        "postgres://SECRET:SECRET@db.example.com/x?connect_timeout=SECRET",
        "postgres://SECRET:SECRET@a,b/x?port=1,2,3",
        "postgres://SECRET:SECRET@a,b/x?hostaddr=127.0.0.1",
        "postgres://SECRET:SECRET@%2Fsocket/x?sslmode=require",
    ] {
        let error = parse(url).expect_err(url);
        let told = format!("{error} {error:?}");
        assert!(told.contains("must "), "{url}: {told}");
        assert!(!told.contains("SECRET"), "{told}");
    }
}

#[test]
fn neither_user_nor_password_is_shown() {
    let server = parse("postgres://SECRET-user:SECRET@db.example.com/ledger").unwrap();
    assert_eq!(server.to_string(), "ledger on db.example.com");
    assert_eq!(
        format!("{server:?}"),
        "PostgresServer(ledger on db.example.com)"
    );
}
