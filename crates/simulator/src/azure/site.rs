//! The one function app: its state, its app settings, who may do what to it, and who is told when it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::AzureOptions;
use crate::world::World;

/// How a function app says it is. The defaults are those of a healthy one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteState {
    /// `Running` or `Stopped`.
    pub state: String,
    /// `Normal`, `Limited` or `DisasterRecoveryMode`.
    pub availability_state: String,
    /// `Normal` or `Exceeded`.
    pub usage_state: String,
    /// False when it is switched off.
    pub enabled: bool,
    /// `Dynamic`, `FlexConsumption`, `ElasticPremium`.
    pub sku: String,
}

/// What happened to the function app, for those who watch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteChange {
    /// The app settings were replaced, so the app restarts with these.
    Settings(BTreeMap<String, String>),
    /// `sync`: the app is deployed from source control again.
    RepositorySynced,
    /// `syncfunctiontriggers` or `host/default/sync`.
    TriggersSynced,
}

/// Which actions a caller of Azure Resource Manager may take. Names and wildcards are those of Azure's role definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    actions: Vec<String>,
    not_actions: Vec<String>,
}

impl Role {
    /// Every action, as `Contributor` has it.
    pub fn everything() -> Self {
        Self::of(["*"])
    }

    /// These actions and no other, such as `Microsoft.Web/sites/read`; `*` stands for any text.
    pub fn of<T: Into<String>>(actions: impl IntoIterator<Item = T>) -> Self {
        Self {
            actions: actions.into_iter().map(Into::into).collect(),
            not_actions: Vec::new(),
        }
    }

    /// Takes an action away.
    #[must_use]
    pub fn without(mut self, action: &str) -> Self {
        self.not_actions.push(action.to_owned());
        self
    }

    /// Whether the role allows an action.
    pub fn allows(&self, action: &str) -> bool {
        let names = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        names(&self.actions) && !names(&self.not_actions)
    }
}

/// Whether a pattern with any number of `*` stands for a text, without regard to case.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

type Watcher = Arc<dyn Fn(&SiteChange) + Send + Sync>;

/// The function app, as Azure Resource Manager has it. A handle: clones are the same app.
#[derive(Clone, Debug)]
pub struct Site {
    world: Arc<World>,
}

impl Site {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Where it is in Azure Resource Manager.
    pub fn resource_id(&self) -> String {
        self.world.options.azure.resource_id()
    }

    /// How it says it is.
    pub fn state(&self) -> SiteState {
        self.cell().lock().state.clone()
    }

    /// Changes how it says it is.
    pub fn change_state(&self, change: impl FnOnce(&mut SiteState)) {
        change(&mut self.cell().lock().state);
    }

    /// The app settings as they are.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.cell().lock().settings.clone()
    }

    /// Sets one app setting, as a person does in the portal: the app restarts.
    pub fn set_setting(&self, name: &str, value: &str) {
        let mut settings = self.settings();
        settings.insert(name.to_owned(), value.to_owned());
        self.cell().replace_settings(settings);
    }

    /// Replaces all app settings: the app restarts.
    pub fn replace_settings(&self, settings: BTreeMap<String, String>) {
        self.cell().replace_settings(settings);
    }

    /// Gives the callers of Azure Resource Manager another role on the app.
    pub fn set_role(&self, role: Role) {
        self.cell().lock().role = role;
    }

    /// Takes one action away from the callers, such as `Microsoft.Web/sites/config/write`.
    pub fn deny(&self, action: &str) {
        self.cell().lock().role.not_actions.push(action.to_owned());
    }

    /// How many times the app settings were replaced, each time a restart.
    pub fn restarts(&self) -> u64 {
        self.cell().lock().restarts
    }

    /// How many times it was deployed from source control.
    pub fn repository_syncs(&self) -> u64 {
        self.cell().lock().repository_syncs
    }

    /// How many times its triggers were synced.
    pub fn trigger_syncs(&self) -> u64 {
        self.cell().lock().trigger_syncs
    }

    /// Calls `watcher` after each change from here on. It must not wait: the request that made the change waits for it.
    pub fn watch(&self, watcher: impl Fn(&SiteChange) + Send + Sync + 'static) {
        self.cell().lock().watchers.push(Arc::new(watcher));
    }

    fn cell(&self) -> &SiteCell {
        &self.world.azure.site
    }
}

/// Where the app's state is.
#[derive(Debug)]
pub(crate) struct SiteCell {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) state: SiteState,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) role: Role,
    restarts: u64,
    repository_syncs: u64,
    trigger_syncs: u64,
    watchers: Vec<Watcher>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("state", &self.state)
            .field("restarts", &self.restarts)
            .finish_non_exhaustive()
    }
}

impl SiteCell {
    pub(crate) fn new(options: &AzureOptions) -> Self {
        let normal = || "Normal".to_owned();
        let state = SiteState {
            state: "Running".to_owned(),
            availability_state: normal(),
            usage_state: normal(),
            enabled: true,
            sku: options.sku.clone(),
        };
        Self {
            inner: Mutex::new(Inner {
                state,
                settings: options.settings.clone(),
                role: Role::everything(),
                restarts: 0,
                repository_syncs: 0,
                trigger_syncs: 0,
                watchers: Vec::new(),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace_settings(&self, settings: BTreeMap<String, String>) {
        let mut inner = self.lock();
        inner.settings = settings.clone();
        inner.restarts += 1;
        drop(inner);
        self.tell(&SiteChange::Settings(settings));
    }

    pub(crate) fn sync_repository(&self) {
        self.lock().repository_syncs += 1;
        self.tell(&SiteChange::RepositorySynced);
    }

    pub(crate) fn sync_triggers(&self) {
        self.lock().trigger_syncs += 1;
        self.tell(&SiteChange::TriggersSynced);
    }

    /// Without the lock, so that a watcher may ask the site.
    fn tell(&self, change: &SiteChange) {
        let watchers = self.lock().watchers.clone();
        for watcher in watchers {
            watcher(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_allows_what_its_patterns_stand_for_and_nothing_else() {
        let role = Role::of(["Microsoft.Web/sites/read", "microsoft.web/sites/config/*"])
            .without("Microsoft.Web/sites/config/write");
        assert!(role.allows("Microsoft.Web/sites/Read"));
        assert!(role.allows("Microsoft.Web/sites/config/list/action"));
        assert!(!role.allows("Microsoft.Web/sites/config/write"));
        assert!(!role.allows("Microsoft.Web/sites/sync/action"));
        assert!(Role::everything().allows("Microsoft.Web/sites/sync/action"));
        assert!(Role::of(["*/read"]).allows("Microsoft.Web/sites/read"));
        assert!(!Role::of(["*/read"]).allows("Microsoft.Web/sites/readers"));
    }
}
