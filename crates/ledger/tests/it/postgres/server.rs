//! A database of its own for each test, on the server that the test script started; and servers of a test's own, to be
//! stopped.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::{PostgresLedger, PostgresServer};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio_postgres::NoTls;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A database that nobody else uses.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        Self::on(&variable("O365_TEST_POSTGRES_URL")).await
    }

    /// A new one on this server, such as `postgres://postgres@127.0.0.1:5432`.
    pub(crate) async fn on(server: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ledger_{}_{number}", std::process::id());
        let there = client(&format!("{server}/postgres")).await;
        // The server may have outlived an earlier run of the same process number.
        for statement in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name} TEMPLATE template0"),
        ] {
            there.batch_execute(&statement).await.unwrap();
        }
        Self {
            url: format!("{server}/{name}"),
        }
    }

    pub(crate) fn server(&self) -> PostgresServer {
        parse(&self.url)
    }

    pub(crate) fn ledger(&self) -> PostgresLedger {
        PostgresLedger::new(self.server(), None)
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        client(&self.url).await
    }
}

pub(crate) fn parse(url: &str) -> PostgresServer {
    PostgresServer::parse(&SecretString::from(url)).unwrap()
}

async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn variable(name: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the server over this way"
    )]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test script"))
}

/// A server of a test's own, in a folder of its own.
pub(crate) struct OwnServer {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    running: Option<Child>,
}

/// Who the server runs as: it refuses to be root.
struct User {
    id: u32,
    group: u32,
}

impl OwnServer {
    /// A server with these settings, whose administrator `postgres` has this password; with none nobody is asked for one.
    pub(crate) fn start(password: Option<&str>, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, password.unwrap_or("none")).unwrap();
        let mut server = Self {
            folder,
            port: free_port(),
            options: settings.iter().map(|&setting| setting.to_owned()).collect(),
            running: None,
        };
        server.give(server.folder.path());
        server.give(&password_file);
        let method = if password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        let output = server
            .command("initdb")
            .args([
                "--auth",
                method,
                "--username",
                "postgres",
                "--no-sync",
                "--pgdata",
            ])
            .arg(server.data())
            .arg(format!("--pwfile={}", password_file.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        server.go_on();
        server
    }

    /// Puts a file beside the data, readable by the server alone.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        self.give(&path);
        path
    }

    /// Adds a setting, for its next start.
    pub(crate) fn set(&mut self, setting: &str) {
        self.options.push(setting.to_owned());
    }

    /// What it has written down since it was started.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn go_on(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-c", "unix_socket_directories="]);
        for option in &self.options {
            command.args(["-c", option]);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.running = Some(command.spawn().unwrap());
        while !self.is_ready() {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            std::thread::yield_now();
        }
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        let mut asking = self.command("pg_isready");
        asking.args(["--quiet", "-h", "127.0.0.1", "-p", &port]);
        asking.status().unwrap().success()
    }

    /// Stops it with a signal: `INT` as an administrator does, `QUIT` as a power cut does, without writing anything down.
    pub(crate) fn stop(&mut self, signal: &str) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let status = Command::new("kill")
            .args(["-s", signal, &running.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        running.wait().unwrap();
    }

    /// Such as `postgres://postgres@127.0.0.1:5432`.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let programs = PathBuf::from(variable("O365_TEST_POSTGRES_BIN"));
        let mut command = Command::new(programs.join(program));
        command.current_dir(self.folder.path());
        if let Some(user) = user() {
            command.uid(user.id).gid(user.group);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some(user) = user() {
            std::os::unix::fs::chown(path, Some(user.id), Some(user.group)).unwrap();
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop("QUIT");
    }
}

/// Nothing when we are not root ourselves: then it runs as we do.
fn user() -> Option<User> {
    let output = Command::new("id").arg("-u").output().unwrap();
    if output.stdout != b"0\n" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        let id = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(User { id, group })
    };
    fields("postgres").or_else(|| fields("nobody"))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
