//! The updater of the real program, in a function app whose Resource Manager is simulated: a release is signed, served, tried
//! as a real process, put into the app settings, and taken back.
#![cfg(unix)]

mod unhealthy;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::json;
use simulator::{Options, Simulator};

use crate::packaged_app::settings;
use crate::support::{describe, program};

const OLD_PACKAGE: &str = "https://account.example.net/packages/old.zip?sig=CANARY";
const PREVIOUS: &str = "O365_COLLECTOR_PREVIOUS_PACKAGE";
const PACKAGE: &str = "WEBSITE_RUN_FROM_PACKAGE";

/// A program, what is spoiled of its release, and what is told then.
type Case<'a> = (&'a str, &'a dyn Fn(&App), &'a str);

/// A function app, the server that releases come from, and the release key.
struct App {
    simulator: Simulator,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    served: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    server: String,
}

impl App {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = Options {
            tls: true,
            allow_http_webhook: true,
            webhook_push: false,
            ..Options::default()
        };
        let simulator = runtime.block_on(Simulator::start(options)).unwrap();
        let served = Arc::<Mutex<_>>::default();
        let app = Self {
            server: serve(Arc::clone(&served)),
            simulator,
            runtime,
            folder: tempfile::tempdir().unwrap(),
            served,
        };
        let public_key = app.release(&["keygen", "--key", "key.pem"]);
        let site = app.simulator.site();
        let id = site.resource_id();
        for (name, value) in settings(&app.simulator, app.folder.path()) {
            site.set_setting(name, &value);
        }
        for (name, value) in [
            ("WEBSITE_SITE_NAME", id.rsplit('/').next().unwrap()),
            ("WEBSITE_HOSTNAME", "our-app.example.net"),
            (
                "O365_COLLECTOR_UPDATE__MANIFEST_URL",
                &format!("{}/manifest.json", app.server),
            ),
            ("O365_COLLECTOR_UPDATE__PUBLIC_KEY", public_key.trim()),
            (PACKAGE, OLD_PACKAGE),
        ] {
            site.set_setting(name, value);
        }
        app
    }

    /// Serves a release whose program is this script.
    fn publish(&self, script: &str) {
        let path = self.folder.path().join("package.zip");
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [("host.json", "{}"), ("o365-collector", script)] {
            zip.start_file(name, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let url = format!("{}/package.zip", self.server);
        let sign = [
            "sign",
            "--key",
            "key.pem",
            "--version",
            "99.0.0",
            "--minimum-age",
            "0s",
            "--package",
            "package.zip",
            "--url",
            &url,
        ];
        let manifest = self.release(&sign);
        *self.served.lock().unwrap() = (manifest.into(), fs::read(path).unwrap());
    }

    fn release(&self, arguments: &[&str]) -> String {
        let mut command = program();
        command
            .current_dir(self.folder.path())
            .arg("release")
            .args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The app's settings as they are, as a file.
    fn settings_file(&self) -> PathBuf {
        let file = self.folder.path().join("local.settings.json");
        let values = self.simulator.site().settings();
        fs::write(
            &file,
            json!({"IsEncrypted": false, "Values": values}).to_string(),
        )
        .unwrap();
        file
    }

    /// One run. No package url with a signature in it is ever shown.
    fn run(&self, function: &str) -> Output {
        let mut command = program();
        command
            .arg(function)
            .arg("--settings")
            .arg(self.settings_file());
        let output = command.output().unwrap();
        assert!(
            !describe(&output).contains("CANARY"),
            "{}",
            describe(&output)
        );
        output
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.simulator.site().settings().get(name).cloned()
    }

    fn end(self) {
        drop(self.simulator);
        drop(self.runtime);
    }
}

/// Answers whatever is asked with the manifest or the package, until the test's process ends.
fn serve(served: Arc<Mutex<(Vec<u8>, Vec<u8>)>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.extend(byte);
            }
            // A connection that is closed before all was read may lose its answer.
            let length = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = length.split("content-length:").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            let (manifest, package) = served.lock().unwrap().clone();
            let body = match head.starts_with(b"GET /package.zip ") {
                true => package,
                false => manifest,
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_signed_release_is_put_into_the_app_settings_and_nothing_else_is_touched() {
    let app = App::new();
    app.publish("#!/bin/sh\necho \"o365-collector 99.0.0\"\n");
    let before = app.simulator.site().settings();
    let output = app.run("updater");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("99.0.0 must show that it is healthy"),
        "{stdout}"
    );
    let mut expected = before;
    expected.insert(PACKAGE.to_owned(), format!("{}/package.zip", app.server));
    expected.insert(PREVIOUS.to_owned(), OLD_PACKAGE.to_owned());
    assert_eq!(app.simulator.site().settings(), expected);
    assert_eq!(app.simulator.site().trigger_syncs(), 1);
    // A second run neither begins again nor goes back before its time.
    let writes = app.simulator.site().restarts();
    let output = app.run("updater");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(app.simulator.site().restarts(), writes);
    app.end();
}

#[test]
fn what_is_wrong_with_a_release_is_found_before_anything_is_changed() {
    let cases: [Case<'_>; 6] = [
        (
            "echo o365-collector 99.0.0",
            &|app| {
                let mut served = app.served.lock().unwrap();
                let altered = String::from_utf8(served.0.clone()).unwrap();
                served.0 = altered
                    .replacen("\"signature\": \"", "\"signature\": \"AAAA", 1)
                    .into();
            },
            "signature does not fit",
        ),
        (
            "echo o365-collector 99.0.0",
            &|app| {
                let mut served = app.served.lock().unwrap();
                let last = served.1.last_mut().unwrap();
                *last ^= 1;
            },
            "is not the one that was signed",
        ),
        ("exit 3", &|_| {}, "does not start here"),
        (
            "echo o365-collector 98.0.0",
            &|_| {},
            "names another version",
        ),
        (
            "echo o365-collector 99.0.0",
            &|app| {
                app.simulator
                    .site()
                    .change_state(|state| state.sku = "FlexConsumption".to_owned());
            },
            "Flex Consumption",
        ),
        (
            "echo o365-collector 99.0.0",
            &|app| {
                app.simulator
                    .site()
                    .deny("Microsoft.Web/sites/config/write");
            },
            "HTTP 403",
        ),
    ];
    for (script, spoil, told) in cases {
        let app = App::new();
        app.publish(&format!("#!/bin/sh\n{script}\n"));
        spoil(&app);
        let before = app.simulator.site().settings();
        let output = app.run("updater");
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(told),
            "{}",
            describe(&output)
        );
        assert_eq!(app.simulator.site().settings(), before, "{told}");
        assert_eq!(app.setting(PREVIOUS), None);
        app.end();
    }
}
