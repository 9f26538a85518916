//! A new version that does not get healthy: the real program puts it into the app settings; then the new version's Master and
//! updater run, in this process and by a clock that is set by hand, against the same simulated Resource Manager.

use std::path::Path;

use async_trait::async_trait;
use collector::clock::{Clock, SystemClock};
use collector::config::load_app_settings;
use collector::http::{Client, Transport};
use collector::master::Master;
use collector::site::Site;
use collector::updater::{OwnSite, Trial, TrialError, UpdateOutcome, Updater, Version};
use jiff::{SignedDuration, Timestamp};
use ledger::{Ledger, SqliteLedger};
use simulator::RequestKind;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::control_plane::master_of;

/// A clock that stands still.
#[derive(Debug)]
struct HandClock(Mutex<Timestamp>);

impl HandClock {
    fn pass(&self, time: SignedDuration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Nothing is tried any more once the change was made.
struct NoTrial;

#[async_trait]
impl Trial for NoTrial {
    async fn version_of(&self, executable: &Path) -> Result<String, TrialError> {
        panic!("{} was tried", executable.display());
    }
}

/// A process of the function app, started with the settings as they are.
struct Process<'a> {
    app: &'a App,
    master: Master,
    updater: Updater,
}

impl<'a> Process<'a> {
    fn start(app: &'a App, clock: &Arc<HandClock>, version: Version) -> Self {
        let settings = app.simulator.site().settings();
        let config = load_app_settings(app.folder.path(), &settings).unwrap();
        let clock: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
        let ca = app.simulator.ca_pem().map(str::as_bytes);
        let http: Arc<dyn Transport> = Arc::new(Client::build(ca).unwrap());
        let file = app.folder.path().join("app.db");
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(file).unwrap());
        let names = config.site.as_ref().unwrap();
        let tenant = &config.tenants[0];
        let site = Site::build(names, tenant, Arc::clone(&http), Arc::clone(&clock)).unwrap();
        let updater = Updater::build(
            config.update.clone().unwrap(),
            Some(Arc::new(OwnSite::new(Arc::new(site), names))),
            Arc::clone(&ledger),
            Arc::clone(&http),
            Arc::clone(&clock),
            Arc::new(NoTrial),
        );
        Self {
            app,
            master: master_of(&config, &http, &ledger, &clock),
            updater: updater.running_as(version),
        }
    }

    /// Master's run, and what the updater makes of it: as the host does it.
    fn master(&self) -> (bool, UpdateOutcome) {
        self.app.runtime.block_on(async {
            let stop = CancellationToken::new();
            let report = self.master.run_once(&stop).await.unwrap();
            let is_healthy = report.is_clean();
            (is_healthy, self.updater.after_master(is_healthy).await)
        })
    }

    fn run_once(&self) -> UpdateOutcome {
        let stop = CancellationToken::new();
        self.app.runtime.block_on(self.updater.run_once(&stop))
    }

    fn run_due(&self) -> UpdateOutcome {
        let stop = CancellationToken::new();
        self.app.runtime.block_on(self.updater.run_due(&stop))
    }
}

/// The status and the details of the last check-in.
fn told(app: &App) -> (serde_json::Value, serde_json::Value) {
    let transcript = app.simulator.transcript();
    let mut checkins = transcript.into_iter().rev();
    let last = checkins.find(|exchange| exchange.kind == RequestKind::CheckIn);
    let body = last.unwrap().body;
    (body["status"].clone(), body["details"].clone())
}

#[test]
fn a_new_version_that_master_does_not_find_healthy_is_taken_back_and_never_tried_again() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let app = App::new();
    app.publish("#!/bin/sh\necho \"o365-collector 99.0.0\"\n");
    // Microsoft is content with a webhook that answers 200.
    let webhook = format!("{}/api/o365/webhook", app.server);
    let site = app.simulator.site();
    site.set_setting("O365_COLLECTOR_WEBHOOK__PUBLIC_URL", &webhook);
    site.set_setting("O365_COLLECTOR_WEBHOOK__AUTH_ID", &"a".repeat(64));
    // Master puts what it remembers, so that from here on nobody but the updater changes a setting.
    let output = app.run("master");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let before = site.settings();
    let output = app.run("updater");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let new_package = Some(format!("{}/package.zip", app.server));
    assert_eq!(app.setting(PACKAGE), new_package);
    let writes = site.restarts();

    // The platform starts the new version, and the app is not what it was.
    site.change_state(|state| state.availability_state = "Limited".to_owned());
    let clock = Arc::new(HandClock(Mutex::new(SystemClock.now())));
    let new = Process::start(&app, &clock, "99.0.0".parse().unwrap());
    for minute in 0..10 {
        let (is_healthy, outcome) = new.master();
        assert!(!is_healthy);
        assert!(
            matches!(outcome, UpdateOutcome::AwaitsHealth { .. }),
            "minute {minute}: {outcome}"
        );
        assert_eq!(app.setting(PACKAGE), new_package, "minute {minute}");
        clock.pass(SignedDuration::from_mins(1));
    }
    let (status, details) = told(&app);
    assert_eq!(status, "error");
    let wrong = details[0].as_str().unwrap();
    assert!(wrong.contains("availabilityState is Limited"), "{wrong}");
    assert_eq!(
        details[1],
        "update: changed to 99.0.0, which has yet to show that it is healthy"
    );
    // Ten minutes are over.
    let outcome = new.run_due();
    let why = "it was not healthy within 10 minutes of its start";
    assert!(
        matches!(&outcome, UpdateOutcome::RolledBack { version, why: told }
            if version.to_string() == "99.0.0" && told == why),
        "{outcome}"
    );
    drop(new);
    let mut expected = before;
    expected.insert(PREVIOUS.to_owned(), OLD_PACKAGE.to_owned());
    assert_eq!(expected[PACKAGE], OLD_PACKAGE);
    assert_eq!(site.settings(), expected);
    assert_eq!(site.restarts(), writes + 1);
    assert_eq!(site.trigger_syncs(), 2);

    // The previous version runs again, and all is well. Whoever fetched the package now would find nothing.
    site.change_state(|state| state.availability_state = "Normal".to_owned());
    app.served.lock().unwrap().1.clear();
    let old = Process::start(&app, &clock, Version::running());
    for _ in 0..4 {
        clock.pass(SignedDuration::from_hours(12));
        let outcome = old.run_once();
        assert!(
            matches!(&outcome, UpdateOutcome::Refused { why: told, .. } if told == why),
            "{outcome}"
        );
        assert_eq!(old.run_due(), UpdateOutcome::Idle);
        assert_eq!(old.master(), (true, UpdateOutcome::Idle));
        let details = json!([format!("update: 99.0.0 is out and not taken: {why}")]);
        assert_eq!(told(&app), (json!("ok"), details));
    }
    drop(old);
    // Nor does the real program take it.
    let output = app.run("updater");
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("99.0.0 is not taken"), "{stdout}");
    assert_eq!(site.settings(), expected);
    assert_eq!(site.restarts(), writes + 1);
    app.end();
}
