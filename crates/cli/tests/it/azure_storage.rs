//! The real program with its ledger in Azure Storage: Microsoft's emulator of it, and the simulator.

use std::path::PathBuf;
use std::process::Command;

use simulator::Azurite;

use crate::support::{Simulation, describe, program, sorted_lines};

struct Stand {
    simulation: Simulation,
    _azurite: Azurite,
    url: String,
}

impl Stand {
    /// The simulator's configuration, with a ledger that an environment variable names.
    fn start(arguments: &[&str]) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the test script hands the emulator over this way"
        )]
        let modules = std::env::var("O365_TEST_AZURITE_NODE_MODULES")
            .expect("O365_TEST_AZURITE_NODE_MODULES names a folder");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let azurite = runtime
            .block_on(Azurite::start(&PathBuf::from(modules)))
            .unwrap();
        let simulation = Simulation::start(arguments);
        simulation.edit_config(|text| {
            let lines = text.lines().map(|line| match line.contains("sqlite:") {
                true => "url = { env = \"TEST_LEDGER\" }".to_owned(),
                false => line.to_owned(),
            });
            lines.collect::<Vec<_>>().join("\n")
        });
        Self {
            simulation,
            url: format!("azure-storage:{}", azurite.connection_string()),
            _azurite: azurite,
        }
    }

    fn run_once(&self) {
        let mut run = self.simulation.run();
        run.arg("--once");
        self.finish(run);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command
            .args(words)
            .arg("--config")
            .arg(self.simulation.config());
        command
    }

    fn finish(&self, mut command: Command) -> String {
        let output = command.env("TEST_LEDGER", &self.url).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        let said = describe(&output);
        assert!(!said.contains("Eby8vdM02"), "the key is shown: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
#[ignore = "needs Azurite"]
fn every_record_is_delivered_once_with_a_ledger_in_azure_storage() {
    let stand = Stand::start(&["--records", "3000", "--records-per-blob", "60"]);
    let printed = stand.finish(stand.command(&["config", "print"]));
    assert!(printed.contains("azure-storage:<redacted>"), "{printed}");
    stand.run_once();
    // A ledger that forgot anything between two processes would have it delivered again.
    stand.run_once();
    assert_eq!(sorted_lines(&stand.simulation.file()).len(), 3_000);
    let status = stand.finish(stand.command(&["status", "--format", "json"]));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status.to_string().contains("3000"), "{status}");
    stand.simulation.assert_clean();
}
