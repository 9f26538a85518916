//! How soon a custom handler answers after it was started, and how much memory it takes: the real program, asked as the
//! Functions host asks. `cargo bench -p cli --bench cold_start`; see "Measuring" in CONTRIBUTING.md.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts of the program. The first one may have to read it from the disk.
const STARTS: usize = 20;
/// What is promised of the first answer, and of the memory by then.
const PROMISED: (Duration, f64) = (Duration::from_millis(300), 40.0);
/// Five times as often as the Functions host asks whether the handler is there, so that the figure is the program's own.
const ASK_EVERY: Duration = Duration::from_millis(5);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows: Vec<_> = (0..STARTS).map(|_| measure(folder.path())).collect();
    println!(
        "cold start of the custom handler, {STARTS} starts; promised: an answer in {} ms, {} MiB",
        PROMISED.0.as_millis(),
        PROMISED.1
    );
    println!(
        "{:>8} {:>16} {:>22} {:>10}",
        "", "first answer ms", "first invocation ms", "peak MiB"
    );
    rows.sort_by_key(|row| row.invoked);
    for (name, row) in [("median", &rows[STARTS / 2]), ("worst", &rows[STARTS - 1])] {
        println!(
            "{name:>8} {:>16.1} {:>22.1} {:>10.1}",
            millis(row.answered),
            millis(row.invoked),
            row.peak_mib
        );
    }
    let is_kept = rows
        .iter()
        .all(|row| row.invoked < PROMISED.0 && row.peak_mib < PROMISED.1);
    println!("promise {}", if is_kept { "kept" } else { "NOT KEPT" });
}

struct Row {
    /// From the start to an answer to `GET /`.
    answered: Duration,
    /// From the start to the answer of an invocation that needs everything to be there.
    invoked: Duration,
    peak_mib: f64,
}

fn measure(folder: &Path) -> Row {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let began = Instant::now();
    let mut child = start(folder, port);
    while ask(
        address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .is_none()
    {
        std::thread::sleep(ASK_EVERY);
    }
    let answered = began.elapsed();
    let body = r#"{"Data":{"message":"\"no blob\""},"Metadata":{}}"#;
    let request = format!(
        "POST /Deliver HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = ask(address, &request).unwrap();
    let invoked = began.elapsed();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    Row {
        answered,
        invoked,
        peak_mib: kib / 1024.0,
    }
}

fn start(folder: &Path, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_o365-collector"))
        .arg("function")
        .env_clear()
        .envs([
            ("APP_TENANT_ID", "bf8d32d3-1c13-4487-af02-80dba2236485"),
            (
                "APP_SUBSCRIPTION_ID",
                "5b8e6f6c-6f0a-4d6e-9c1e-0d3c1f1c9a11",
            ),
            ("APP_RESOURCE_GROUP", "our-group"),
            ("WEBSITE_SITE_NAME", "our-app"),
            ("WEBSITE_HOSTNAME", "our-app.example.net"),
            ("O365_CONTENT_STREAMS", "[\"Audit.Exchange\"]"),
            (
                "CUSTOMCONNSTR_APP_CLIENT_ID",
                "a261478c-84fb-42f9-84c2-de050a4babe3",
            ),
            ("CUSTOMCONNSTR_APP_CLIENT_SECRET", "none"),
            ("CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID", "none"),
            ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", "none"),
        ])
        .env(
            "O365_COLLECTOR_LEDGER__URL",
            format!("sqlite:{}", folder.join("ledger.db").display()),
        )
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("FUNCTIONS_APP_ROOT_PATH", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The whole answer; nothing where nobody listens yet.
fn ask(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    (!reply.is_empty()).then_some(reply)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
