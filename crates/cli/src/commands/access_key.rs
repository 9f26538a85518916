//! `alertlogic access-key create|list|delete`: what an administrator does once, before there is a collector.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alertlogic::aims::keys::{
    self, ADMINISTRATOR, ListedAccessKey, Login, MAX_ACCESS_KEYS, NewAccessKey,
};
use alertlogic::{Endpoint, NextStep, Reply};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use collector::clock::{Clock as _, SystemClock};
use collector::config::{Config, SinkConfig};
use collector::http::{Client, Transport};
use collector::sinks::alertlogic::DEFAULT_API;
use http::{Request, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::args::{AccessKeyAction, AccountArg, ConfigArg, Format};
use crate::output;

/// No reply of these services is anywhere near this.
const MAX_REPLY_BYTES: usize = 1 << 20;
/// A person waits for it.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
/// Longer than any line that is an answer to a question of ours.
const MAX_LINE_BYTES: u64 = 4096;

pub(super) async fn access_key(
    config: &ConfigArg,
    action: AccessKeyAction,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let account = action.account();
    let place = Place::find(config, account)?;
    let asker = Asker { stop };
    let user = place.log_in(account, &asker).await?;
    match action {
        AccessKeyAction::Create { format, .. } => {
            let made = place.create(&user, &asker).await?;
            show(&made, format)?;
        }
        AccessKeyAction::List { format, .. } => {
            let listed = place.list(&user.login).await?;
            output::write(listing(&listed, format))?;
        }
        AccessKeyAction::Delete { id, yes, .. } => {
            user.must_be_administrator()?;
            let question = format!(
                "Delete the access key {id}? A collector that uses it delivers nothing from then on. Type yes to delete it: "
            );
            if !yes && asker.line(&question).await?.as_deref() != Some("yes") {
                bail!("nothing was deleted; to delete it without being asked, add --yes");
            }
            place.delete(&user.login, &id).await?;
            output::say(format_args!("access key {id} deleted"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Who has logged in, and what they may do.
struct User {
    login: Login,
    name: String,
    roles: Vec<String>,
}

impl User {
    fn must_be_administrator(&self) -> anyhow::Result<()> {
        if self.roles.iter().any(|role| role == ADMINISTRATOR) {
            return Ok(());
        }
        let roles = match self.roles.as_slice() {
            [] => "no role at all".to_owned(),
            roles => format!("the roles {}", roles.join(", ")),
        };
        bail!(
            "user {} has {roles}, and only one with the role {ADMINISTRATOR} may make or delete access keys: \
             log in as such a user, or have the role assigned in Alert Logic's console",
            self.name
        );
    }
}

/// Alert Logic's API, and the way to it.
struct Place {
    api: Endpoint,
    http: Arc<dyn Transport>,
}

impl Place {
    fn find(config: &ConfigArg, account: &AccountArg) -> anyhow::Result<Self> {
        // An access key is what a configuration may still lack, so one that is not complete is no hindrance.
        let config = super::load(config).ok();
        let configured = config.as_ref().and_then(api_of);
        if configured.is_none() && account.api.is_none() {
            output::say(format_args!(
                "no usable configuration names Alert Logic's API, so it is the production API; --api names another"
            ));
        }
        let api = account.api.as_deref().or(configured).unwrap_or(DEFAULT_API);
        let api =
            Endpoint::parse(api).context("the API of Alert Logic (--api, or the sink's api)")?;
        let roots = config
            .as_ref()
            .and_then(|config| config.tls.ca_pem.as_deref());
        let http: Arc<dyn Transport> = Arc::new(Client::build(roots)?);
        Ok(Self { api, http })
    }

    async fn log_in(&self, account: &AccountArg, asker: &Asker<'_>) -> anyhow::Result<User> {
        let name = match &account.user {
            Some(name) => name.clone(),
            None => asker
                .line("User name at Alert Logic: ")
                .await?
                .context("no user name was given: it is the first line, unless --user names it")?,
        };
        let password = asker.secret("Password: ").await?.context(
            "no password was given: it is asked for on a terminal, or a line of standard input",
        )?;
        let code = asker
            .secret("Code of the second factor (empty for none): ")
            .await?;
        let request = keys::login_request(&self.api, &name, &password, code.as_ref())
            .map_err(|_| anyhow::anyhow!("the user's name has a colon in it, which no name has"))?;
        let reply = self.send("log in", request).await?;
        let login = match keys::read_login(&reply, SystemClock.now()) {
            Ok(login) => login,
            Err(error) if error.next_step() == NextStep::Reauthenticate => {
                let hint = match (keys::wants_second_factor(&reply), code.is_some()) {
                    (true, false) => "this user needs the code of a second factor",
                    (_, true) => {
                        "the user's name, the password and the code must be right, and the code not used before"
                    }
                    (false, false) => "the user's name and the password must be right",
                };
                return Err(anyhow::Error::new(error)
                    .context(format!("{} refuses {name}: {hint}", self.api)));
            }
            Err(error) => return Err(anyhow::Error::new(error).context("log in")),
        };
        let reply = self
            .send("ask for the roles", keys::roles_request(&self.api, &login))
            .await?;
        let roles = keys::read_roles(&reply, SystemClock.now()).context("ask for the roles")?;
        Ok(User { login, name, roles })
    }

    async fn create(&self, user: &User, asker: &Asker<'_>) -> anyhow::Result<NewAccessKey> {
        user.must_be_administrator()?;
        let mut is_retry = false;
        loop {
            let request = keys::create_request(&self.api, &user.login);
            let reply = self.send("make an access key", request).await?;
            if !keys::is_limit_exceeded(&reply) {
                return keys::read_created(&reply, SystemClock.now()).context("make an access key");
            }
            let listed = self.list(&user.login).await?;
            output::say(format_args!(
                "user {} has as many access keys as there may be ({MAX_ACCESS_KEYS}), so none can be made before one \
                 is deleted. They are:\n{}",
                user.name,
                listing(&listed, Format::Text).trim_end()
            ));
            ensure!(
                !is_retry,
                "the limit holds although one was deleted; try again later"
            );
            is_retry = true;
            let question =
                "Which one is not used any more and may be deleted? Its id, or nothing: ";
            let Some(id) = asker.line(question).await? else {
                bail!(
                    "no access key was made; delete one that nothing uses with \
                     `o365-collector alertlogic access-key delete`, or make this one as another user"
                );
            };
            ensure!(
                listed.iter().any(|key| key.id == id),
                "none of these has that id; nothing was deleted"
            );
            self.delete(&user.login, &id).await?;
            output::say(format_args!("access key {id} deleted"));
        }
    }

    async fn list(&self, login: &Login) -> anyhow::Result<Vec<ListedAccessKey>> {
        let what = "list the access keys";
        let reply = self
            .send(what, keys::list_request(&self.api, login))
            .await?;
        keys::read_list(&reply, SystemClock.now()).context(what)
    }

    async fn delete(&self, login: &Login, id: &str) -> anyhow::Result<()> {
        let what = "delete the access key";
        let reply = self
            .send(what, keys::delete_request(&self.api, login, id))
            .await?;
        ensure!(
            reply.status != StatusCode::NOT_FOUND,
            "this user has no access key {id}; `o365-collector alertlogic access-key list` shows which there are"
        );
        reply.check(SystemClock.now()).context(what)
    }

    async fn send(&self, what: &'static str, request: Request<Bytes>) -> anyhow::Result<Reply> {
        let answer = async {
            let (head, body) = self.http.send(request).await?.into_parts();
            let (status, headers) = (head.status, head.headers);
            let body = body.collect(MAX_REPLY_BYTES).await?;
            Ok::<_, collector::http::Error>(Reply {
                status,
                headers,
                body,
            })
        };
        let reply = tokio::time::timeout(LONGEST_REQUEST, answer).await;
        reply
            .map_err(|_elapsed| collector::http::Error::TimedOut)
            .and_then(|reply| reply)
            .with_context(|| format!("{what} at {}", self.api))
    }
}

/// The configured sink's API. With several sinks that have not all the same, the flag must say which.
fn api_of(config: &Config) -> Option<&str> {
    let mut apis = config.sinks.iter().filter_map(|sink| match sink {
        SinkConfig::AlertLogic(sink) => Some(sink.api.as_str()),
        _ => None,
    });
    let first = apis.next()?;
    apis.all(|other| other == first).then_some(first)
}

/// Standard output has the key and nothing else, for whoever keeps it; what to know of it goes to the person.
fn show(made: &NewAccessKey, format: Format) -> anyhow::Result<()> {
    let secret_key = made.secret_key.expose_secret();
    let text = Zeroizing::new(match format {
        Format::Text => format!("access_key_id {}\nsecret_key    {secret_key}\n", made.id),
        Format::Json => format!(
            "{:#}\n",
            json!({"access_key_id": made.id, "secret_key": secret_key})
        ),
    });
    output::write(text.as_bytes())?;
    output::say(format_args!(
        "the secret key is shown this once: keep it where the collector finds it (sink.secret_key), and nowhere else"
    ));
    Ok(())
}

fn listing(listed: &[ListedAccessKey], format: Format) -> String {
    match format {
        Format::Text => listed
            .iter()
            .map(|key| format!("{} {}", key.id, key.label).trim_end().to_owned() + "\n")
            .collect(),
        Format::Json => {
            let row = |key: &ListedAccessKey| json!({"access_key_id": key.id, "label": key.label});
            let rows: Vec<_> = listed.iter().map(row).collect();
            format!("{:#}\n", json!({ "access_keys": rows }))
        }
    }
}

/// Asks a person on the terminal, or reads what a program wrote to our standard input.
struct Asker<'s> {
    stop: &'s CancellationToken,
}

impl Asker<'_> {
    /// A line; nothing for an empty one and at the end.
    async fn line(&self, question: &str) -> anyhow::Result<Option<String>> {
        let line = self.answer(question, false).await?;
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }

    /// A line that is not shown while it is typed; nothing for an empty one and at the end. Blanks are part of it.
    async fn secret(&self, question: &str) -> anyhow::Result<Option<SecretString>> {
        let line = self.answer(question, true).await?;
        Ok((!line.is_empty()).then(|| SecretString::from(line.as_str())))
    }

    async fn answer(&self, question: &str, is_secret: bool) -> anyhow::Result<Zeroizing<String>> {
        let question = question.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            if !stdin().is_terminal() {
                return read_line();
            }
            if is_secret {
                return rpassword::prompt_password(question).map(Zeroizing::new);
            }
            // A question that cannot be shown is still answered.
            drop(stderr().write_all(question.as_bytes()));
            read_line()
        });
        tokio::select! {
            line = read => line.context("asking")?.context("the answer cannot be read"),
            () = self.stop.cancelled() => bail!("interrupted; nothing was done"),
        }
    }
}

fn read_line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    std::io::Read::take(stdin().lock(), MAX_LINE_BYTES).read_line(&mut line)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}
