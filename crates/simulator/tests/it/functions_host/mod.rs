//! The stand-in for the Functions host, with a handler that does as it is told.

mod handler;
mod queue;
mod queues;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::{
    FunctionsHost, FunctionsHostError, FunctionsHostOptions, LogSource, Options, Outcome,
};

use crate::client::{Client, read};

/// Longer than anything here takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

const TIMER: &str =
    r#"{"bindings":[{"name":"timer","type":"timerTrigger","direction":"in","schedule":"%TICK%"}]}"#;
const HOOK: &str = r#"{"bindings":[
    {"name":"req","type":"httpTrigger","direction":"in","authLevel":"anonymous","route":"o365/webhook","methods":["post","put"]},
    {"name":"res","type":"http","direction":"out"}]}"#;
const KEYED: &str = r#"{"bindings":[
    {"name":"req","type":"httpTrigger","direction":"in","authLevel":"function"},
    {"name":"res","type":"http","direction":"out"}]}"#;
const WORK: &str = r#"{"bindings":[{"name":"message","type":"queueTrigger","direction":"in","queueName":"work","connection":"STORE"}]}"#;

/// A deployed folder whose executable is this test binary.
fn deploy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let host = json!({
        "version": "2.0",
        "functionTimeout": "00:01:00",
        "customHandler": {
            "description": {
                "defaultExecutablePath": std::env::current_exe().unwrap(),
                "arguments": handler::ARGUMENTS,
            },
            "enableForwardingHttpRequest": true,
        },
        "extensions": {"queues": {"messageEncoding": "none", "batchSize": 4, "maxDequeueCount": 3}},
    });
    write(&folder.path().join("host.json"), host.to_string());
    for (name, file) in [
        ("Tick", TIMER),
        ("Hook", HOOK),
        ("Keyed", KEYED),
        ("Work", WORK),
    ] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write(&folder.path().join(name).join("function.json"), file);
    }
    folder
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes).unwrap();
}

fn options(folder: &tempfile::TempDir) -> FunctionsHostOptions {
    FunctionsHostOptions {
        start_limit: LIMIT,
        queue_pause: Duration::from_millis(50),
        ..FunctionsHostOptions::new(folder.path()).setting("TICK", "0 */15 * * * *")
    }
}

fn seen(answer: &Option<Value>) -> &Value {
    &answer.as_ref().unwrap()["Outputs"]["seen"]
}

#[tokio::test]
async fn a_timer_is_fired_in_the_wrapped_form() {
    let folder = deploy();
    let host = FunctionsHost::start(options(&folder).setting("GREETING", "hello"))
        .await
        .unwrap();
    assert_eq!(host.functions(), ["Hook", "Keyed", "Tick", "Work"]);
    let first = host.fire("Tick").await.unwrap();
    assert!(first.succeeded(), "{first:?}");
    let timer = &seen(&first.answer)["Data"]["timer"];
    assert_eq!(timer["ScheduleStatus"]["Last"], "0001-01-01T00:00:00");
    assert!(
        timer["ScheduleStatus"]["Next"]
            .as_str()
            .unwrap()
            .ends_with(":00+00:00")
    );
    assert_eq!(timer["IsPastDue"], false);
    let sys = &seen(&first.answer)["Metadata"]["sys"];
    assert_eq!(sys["MethodName"], "Tick");
    let headers = first.answer.as_ref().unwrap()["Outputs"]["headers"].to_string();
    assert!(headers.contains("azure-functions-host/") || headers.contains("Azure-Functions-Host/"));
    assert!(headers.contains(&first.id), "{headers}");
    let second = host.fire("Tick").await.unwrap();
    let last = &seen(&second.answer)["Data"]["timer"]["ScheduleStatus"]["Last"];
    assert!(last.as_str().unwrap().ends_with("+00:00"), "{last}");
    assert!(host.fire("Hook").await.is_err());

    let said = |source: LogSource, text: &str| {
        host.logs()
            .iter()
            .any(|line| line.source == source && line.text.contains(text))
    };
    assert!(said(LogSource::Function, "said by the function"));
    let is_heard = |_: &FunctionsHost| {
        said(LogSource::Stdout, "greeting hello") && said(LogSource::Stderr, "mode ")
    };
    assert!(host.wait_until(LIMIT, is_heard).await);
    host.stop().await;
}

#[tokio::test]
async fn http_is_forwarded_as_it_came_and_only_where_route_and_method_fit() {
    let client = Client::start(Options {
        records: 1,
        tls: true,
        ..Options::default()
    })
    .await;
    let folder = deploy();
    let host = FunctionsHost::start(FunctionsHostOptions {
        tls: client.simulator.server_tls(),
        ..options(&folder)
    })
    .await
    .unwrap();
    let hook = format!("{}/api/o365/webhook?a=b%20c", host.origin());
    assert!(hook.starts_with("https://"));
    let request = client.http.post(&hook).header("Webhook-AuthID", "x");
    let answer = read(request.body("body")).await;
    assert_eq!(answer.status, 202);
    assert!(answer.headers.contains_key("x-from"));
    let echo = answer.json();
    assert_eq!(
        (&echo["method"], &echo["target"], &echo["body"]),
        (
            &json!("POST"),
            &json!("/api/o365/webhook?a=b%20c"),
            &json!("body")
        )
    );
    let headers = echo["headers"].to_string();
    assert!(headers.contains(r#"["webhook-authid","x"]"#), "{headers}");
    assert!(
        headers.contains("x-azure-functions-invocationid"),
        "{headers}"
    );
    for (request, status) in [
        (client.http.put(&hook), 202),
        (client.http.get(&hook), 404),
        (client.http.post(format!("{}/api/o365", host.origin())), 404),
        (
            client.http.post(format!("{}/o365/webhook", host.origin())),
            404,
        ),
        (client.http.get(format!("{}/api/Keyed", host.origin())), 401),
        (client.http.get(host.origin()), 200),
    ] {
        let url = format!("{request:?}");
        assert_eq!(read(request).await.status, status, "{url}");
    }
    assert_eq!(host.invocations().len(), 2);
    host.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_a_json_object_is_no_success() {
    let folder = deploy();
    for (mode, reason) in [
        ("text", "the answer is not JSON"),
        ("list", "the answer is not a JSON object"),
        ("refuse", "the handler answered 500 Internal Server Error"),
    ] {
        let host = FunctionsHost::start(options(&folder).setting("MODE", mode))
            .await
            .unwrap();
        let invocation = host.fire("Tick").await.unwrap();
        assert_eq!(invocation.outcome, Outcome::Failed(reason.to_owned()));
        host.stop().await;
    }
}

#[tokio::test]
async fn an_empty_answer_ends_no_invocation_before_the_timeout_which_ends_the_handler() {
    let folder = deploy();
    for mode in ["empty", "null"] {
        let timeout = Duration::from_millis(700);
        let host = FunctionsHost::start(FunctionsHostOptions {
            function_timeout: Some(timeout),
            ..options(&folder).setting("MODE", mode)
        })
        .await
        .unwrap();
        let before = host.pids();
        let invocation = host.fire("Tick").await.unwrap();
        assert_eq!(invocation.outcome, Outcome::TimedOut, "{mode}");
        assert_eq!(invocation.status, Some(200));
        assert!(invocation.duration >= timeout);
        // Neither does a request to a handler that takes too long end it by itself: a new handler comes.
        let is_new = |host: &FunctionsHost| !host.pids().is_empty() && host.pids() != before;
        assert!(wait(&host, is_new).await);
        assert_eq!(host.stopped(), None);
        host.stop().await;
    }
}

/// Process ids are in no log, so they are looked at again and again.
async fn wait(host: &FunctionsHost, is_there: impl Fn(&FunctionsHost) -> bool) -> bool {
    let looking = async {
        while !is_there(host) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.is_ok()
}

#[tokio::test]
async fn the_third_crash_stops_the_host() {
    let folder = deploy();
    let host = FunctionsHost::start(options(&folder).setting("MODE", "crash"))
        .await
        .unwrap();
    for crash in 1..=3 {
        let invocation = host.fire("Tick").await.unwrap();
        assert!(!invocation.succeeded(), "{crash}");
        let is_over = |host: &FunctionsHost| {
            let crashes = host.logs().into_iter().filter(|line| {
                line.source == LogSource::Host && line.text.starts_with("the handler ended")
            });
            crashes.count() == crash
        };
        assert!(host.wait_until(LIMIT, is_over).await);
        if crash < 3 {
            host.ready().await.unwrap();
        }
    }
    assert!(matches!(
        host.ready().await,
        Err(FunctionsHostError::Stopped(_))
    ));
    assert!(host.stopped().unwrap().contains("after 3 errors"));
    assert!(host.fire("Tick").await.is_err());

    // A handler that never comes up is three errors, too.
    let never = FunctionsHost::start(options(&folder).setting("MODE", "crash at start")).await;
    assert!(matches!(never, Err(FunctionsHostError::Stopped(_))));
    // A restart with other settings begins to count anew.
    let settings = BTreeMap::from([("MODE".to_owned(), "fine".to_owned())]);
    host.change_settings(settings).await.unwrap();
    assert!(host.fire("Tick").await.unwrap().succeeded());
    host.stop().await;
}

#[tokio::test]
async fn a_kill_is_survived_and_exit_codes_mean_what_the_host_takes_them_for() {
    let folder = deploy();
    let host = FunctionsHost::start(options(&folder)).await.unwrap();
    let before = host.pids();
    host.kill(0);
    let is_new = |host: &FunctionsHost| !host.pids().is_empty() && host.pids() != before;
    assert!(wait(&host, is_new).await);
    assert!(host.fire("Tick").await.unwrap().succeeded());
    host.stop().await;

    let again = FunctionsHost::start(options(&folder).setting("MODE", "again"))
        .await
        .unwrap();
    for _ in 0..4 {
        assert!(!again.fire("Tick").await.unwrap().succeeded());
        again.ready().await.unwrap();
    }
    again.stop().await;

    let leave = FunctionsHost::start(options(&folder).setting("MODE", "leave"))
        .await
        .unwrap();
    assert!(!leave.fire("Tick").await.unwrap().succeeded());
    assert!(wait(&leave, |host| host.stopped().is_some()).await);
    assert!(leave.stopped().unwrap().contains("code 0"));
    leave.stop().await;
}

#[tokio::test]
async fn settings_replaced_in_resource_manager_restart_the_handlers_with_them() {
    let mut simulated = Options {
        records: 1,
        ..Options::default()
    };
    simulated
        .azure
        .settings
        .insert("GREETING".to_owned(), "first".to_owned());
    let client = Client::start(simulated).await;
    let folder = deploy();
    let host = FunctionsHost::start(FunctionsHostOptions {
        start_limit: LIMIT,
        restart_delay: Duration::ZERO,
        instances: 2,
        ..FunctionsHostOptions::for_simulator(folder.path(), &client.simulator)
    })
    .await
    .unwrap();
    let greeting = async || {
        let invocation = host.fire("Tick").await.unwrap();
        invocation.answer.unwrap()["Outputs"]["greeting"].clone()
    };
    assert_eq!(greeting().await, "first");
    let before = host.pids();
    assert_eq!(before.len(), 2);
    client.simulator.site().set_setting("GREETING", "second");
    let is_new = |host: &FunctionsHost| {
        let now = host.pids();
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    };
    assert!(wait(&host, is_new).await);
    assert_eq!(greeting().await, "second");
    assert_eq!(host.settings()["GREETING"], "second");
    host.stop().await;
}

#[tokio::test]
async fn a_zip_runs_as_its_folder_does_and_keeps_what_is_executable() {
    let folder = deploy();
    let zip = tempfile::NamedTempFile::new().unwrap();
    write(zip.path(), zip_of(&folder, "Tick"));
    let host = FunctionsHost::start(FunctionsHostOptions {
        app: zip.path().to_owned(),
        ..options(&folder)
    })
    .await
    .unwrap();
    assert_eq!(host.functions(), ["Tick"]);
    assert!(host.fire("Tick").await.unwrap().succeeded());
    host.stop().await;
}

/// A package with one timer, whose executable is a script that starts this test binary.
fn zip_of(folder: &tempfile::TempDir, timer: &str) -> Vec<u8> {
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;

    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let host_json = std::fs::read_to_string(folder.path().join("host.json")).unwrap();
    let mut host_json: Value = serde_json::from_str(&host_json).unwrap();
    host_json["customHandler"]["description"]["defaultExecutablePath"] = json!("bin/handler");
    let script = format!(
        "#!/bin/sh\nexec {} \"$@\"\n",
        std::env::current_exe().unwrap().display()
    );
    for (name, text, mode) in [
        ("host.json", host_json.to_string(), 0o644),
        (&format!("{timer}/function.json"), TIMER.to_owned(), 0o644),
        ("bin/handler", script, 0o755),
    ] {
        let entry = SimpleFileOptions::default().unix_permissions(mode);
        writer.start_file(name, entry).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn the_package_that_a_setting_names_is_fetched_at_each_start() {
    let folder = deploy();
    let package = zip_of(&folder, "Work");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    wire::serve(listener, move |request| wire::Response {
        status: if request.path() == "/good.zip" {
            200
        } else {
            404
        },
        body: package.clone(),
        ..wire::Response::default()
    });
    let host = FunctionsHost::start(options(&folder)).await.unwrap();
    assert_eq!(host.functions().len(), 4);
    let named = |url: String| {
        let mut settings = host.settings();
        settings.insert("WEBSITE_RUN_FROM_PACKAGE".to_owned(), url);
        settings
    };
    host.change_settings(named(format!("{origin}/good.zip")))
        .await
        .unwrap();
    assert_eq!(host.functions(), ["Work"]);
    assert!(host.fire("Work").await.unwrap().succeeded());
    // What cannot be fetched cannot be run, and what ran before does not come back by itself.
    let gone = host
        .change_settings(named(format!("{origin}/gone.zip?sig=secret")))
        .await;
    assert!(gone.is_err());
    assert!(host.fire("Work").await.is_err());
    let reason = host.stopped().unwrap();
    assert!(
        reason.contains("cannot be fetched") && !reason.contains("secret"),
        "{reason}"
    );
    assert!(host.restart().await.is_err());
    host.change_settings(named("1".to_owned())).await.unwrap();
    assert!(host.fire("Tick").await.unwrap().succeeded());
    host.stop().await;
}

#[tokio::test]
async fn a_timer_fires_by_its_schedule_in_one_instance_only() {
    let folder = deploy();
    let host = FunctionsHost::start(FunctionsHostOptions {
        instances: 2,
        run_schedules: true,
        ..options(&folder).setting("TICK", "* * * * * *")
    })
    .await
    .unwrap();
    assert!(
        host.wait_until(LIMIT, |host| host.invocations().len() >= 2)
            .await
    );
    let instances: Vec<usize> = host.invocations().iter().map(|one| one.instance).collect();
    assert!(
        instances.iter().all(|&instance| instance == 0),
        "{instances:?}"
    );
    host.stop().await;
}
