//! How long an invocation may take: a little less than the host allows, so that what is under way is given back and the
//! answer still arrives.

use std::path::Path;
use std::time::Duration;

use azure::functions::{DEFAULT_TIMEOUT, InvalidTimeout, TimeLimit, read_host_json};
use collector::env::Lookup;
use tracing::warn;

/// The setting that goes over host.json.
const OVERRIDE: &str = "AzureFunctionsJobHost__functionTimeout";
/// What is kept back for giving back what is under way, and for the answer.
const MARGIN: Duration = Duration::from_secs(30);
/// Where the host sets no limit: longer than any of our functions needs, and an end to one that hangs.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// When an invocation ends what it does, and when it must have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// From here on nothing is begun, and what is under way is given back.
    pub(crate) wind_up: Duration,
    /// Here the answer is sent, whatever is still under way.
    pub(crate) answer: Duration,
}

impl Deadlines {
    /// Those of the host that runs us: of its settings, or of the host.json in `app_root`. What cannot be understood is
    /// told, and the shortest limit there is taken for it.
    pub(crate) fn read(app_root: &Path, env: &dyn Lookup) -> Self {
        let given = match env.get(OVERRIDE).filter(|text| !text.trim().is_empty()) {
            Some(text) => text.parse().map(Some),
            // A file that is not there says nothing, as one without the key does.
            None => read_host_json(&std::fs::read(app_root.join("host.json")).unwrap_or_default()),
        };
        let limit = match given {
            Ok(limit) => limit.unwrap_or(TimeLimit::After(DEFAULT_TIMEOUT)),
            Err(error @ InvalidTimeout) => {
                warn!(%error, "the host's time limit is not understood, taking 5 minutes");
                TimeLimit::After(DEFAULT_TIMEOUT)
            }
        };
        Self::of(limit)
    }

    fn of(limit: TimeLimit) -> Self {
        let limit = match limit {
            TimeLimit::After(limit) => limit,
            TimeLimit::Never => LONGEST,
        };
        let margin = MARGIN.min(limit / 4);
        Self {
            wind_up: limit - margin,
            answer: limit - margin / 3,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Limits as hosts have them.

    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn secs(wind_up: u64, answer: u64) -> Deadlines {
        Deadlines {
            wind_up: Duration::from_secs(wind_up),
            answer: Duration::from_secs(answer),
        }
    }

    #[test]
    fn an_invocation_ends_before_the_host_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut env = BTreeMap::new();
        let read = |env: &BTreeMap<String, String>| Deadlines::read(folder.path(), env);
        assert_eq!(read(&env), secs(270, 290), "no host.json");
        fs::write(
            folder.path().join("host.json"),
            super::super::manifest::HOST_JSON,
        )
        .unwrap();
        assert_eq!(read(&env), secs(570, 590), "ours");
        for (text, deadlines) in [
            ("00:01:00", secs(45, 55)),
            ("", secs(570, 590)),
            ("-1", secs(1770, 1790)),
            ("soon", secs(270, 290)),
        ] {
            env.insert(OVERRIDE.to_owned(), text.to_owned());
            assert_eq!(read(&env), deadlines, "{text}");
        }
    }
}
