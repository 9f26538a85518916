//! Access keys of a user: what an administrator makes for a collector, and what is in the way of that.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{InvalidAccessKey, Token, authenticate_request, read_token};
use crate::reply::{request, segment};
use crate::{Endpoint, Error, Reply};

#[cfg(test)]
mod tests;

/// Access keys that a user may have. The service refuses one more.
pub const MAX_ACCESS_KEYS: usize = 5;
/// The role that may make and delete access keys.
pub const ADMINISTRATOR: &str = "Administrator";

/// A user who has logged in.
#[derive(Debug)]
pub struct Login {
    /// The proof of it.
    pub token: Token,
    /// The user's id, which is in the path of all that is about the user.
    pub user_id: String,
}

/// What was made. The secret half is never to be had again.
#[derive(Debug, Clone)]
pub struct NewAccessKey {
    /// Its id, no secret.
    pub id: String,
    /// Its secret half.
    pub secret_key: SecretString,
}

/// An access key as it is listed: never with its secret half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccessKey {
    /// Its id.
    pub id: String,
    /// What somebody called it; empty as a rule.
    pub label: String,
}

/// Logs a user in: HTTP Basic, and the code of a second factor in the body where there is one.
///
/// # Errors
/// When the user's name cannot be sent.
pub fn login_request(
    api: &Endpoint,
    user_name: &str,
    password: &SecretString,
    mfa_code: Option<&SecretString>,
) -> Result<Request<Bytes>, InvalidAccessKey> {
    #[derive(Serialize)]
    struct Body<'a> {
        mfa_code: &'a str,
    }
    let mut request = authenticate_request(api, user_name, password)?;
    if let Some(mfa_code) = mfa_code {
        let mfa_code = mfa_code.expose_secret();
        let body = serde_json::to_vec(&Body { mfa_code }).expect("a text always serializes");
        *request.body_mut() = Bytes::from(body);
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
    }
    Ok(request)
}

/// Reads the reply to [`login_request`].
///
/// # Errors
/// As [`read_token`], and when the reply does not say who the user is.
pub fn read_login(reply: &Reply, now: Timestamp) -> Result<Login, Error> {
    #[derive(Deserialize)]
    struct Answer {
        authentication: Authentication,
    }
    #[derive(Deserialize)]
    struct Authentication {
        user: User,
    }
    #[derive(Deserialize)]
    struct User {
        id: String,
    }
    let token = read_token(reply, now)?;
    let answer: Answer = reply.read_json(now, "it does not say who the user is")?;
    let user_id = answer.authentication.user.id;
    match user_id.is_empty() {
        true => Err(Error::Malformed {
            what: "the user's id is empty",
        }),
        false => Ok(Login { token, user_id }),
    }
}

/// Whether a login was refused for want of a second factor's code. What the service says then is not documented, so a word
/// is enough, and it only chooses the advice that a person is given.
#[must_use]
pub fn wants_second_factor(reply: &Reply) -> bool {
    reply.status == StatusCode::UNAUTHORIZED && says(reply, "mfa")
}

/// Asks which roles the user has.
#[must_use]
pub fn roles_request(api: &Endpoint, login: &Login) -> Request<Bytes> {
    about(api, login, Method::GET, "/roles")
}

/// Reads the names of the user's roles.
///
/// # Errors
/// Whatever a reply can be.
pub fn read_roles(reply: &Reply, now: Timestamp) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        roles: Vec<Role>,
    }
    #[derive(Deserialize)]
    struct Role {
        name: String,
    }
    let answer: Answer = reply.read_json(now, "no list of roles with names")?;
    Ok(answer.roles.into_iter().map(|role| role.name).collect())
}

/// Asks for a new access key.
#[must_use]
pub fn create_request(api: &Endpoint, login: &Login) -> Request<Bytes> {
    about(api, login, Method::POST, "/access_keys")
}

/// Reads the access key that was made.
///
/// # Errors
/// Whatever a reply can be. See [`is_limit_exceeded`] for the one that a person can mend.
pub fn read_created(reply: &Reply, now: Timestamp) -> Result<NewAccessKey, Error> {
    #[derive(Deserialize)]
    struct Answer {
        access_key_id: String,
        secret_key: String,
    }
    let answer: Answer = reply.read_json(now, "no access key with an id and a secret key")?;
    Ok(NewAccessKey {
        id: answer.access_key_id,
        secret_key: SecretString::from(answer.secret_key),
    })
}

/// Whether the service refused to make an access key because the user has as many as there may be.
#[must_use]
pub fn is_limit_exceeded(reply: &Reply) -> bool {
    reply.status.is_client_error() && says(reply, "limit")
}

/// Asks for the user's access keys.
#[must_use]
pub fn list_request(api: &Endpoint, login: &Login) -> Request<Bytes> {
    about(api, login, Method::GET, "/access_keys")
}

/// Reads the user's access keys.
///
/// # Errors
/// Whatever a reply can be.
pub fn read_list(reply: &Reply, now: Timestamp) -> Result<Vec<ListedAccessKey>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        access_keys: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        access_key_id: String,
        #[serde(default)]
        label: Option<String>,
    }
    let answer: Answer = reply.read_json(now, "no list of access keys with ids")?;
    let listed = |row: Row| ListedAccessKey {
        id: row.access_key_id,
        label: row.label.unwrap_or_default(),
    };
    Ok(answer.access_keys.into_iter().map(listed).collect())
}

/// Deletes an access key. Whatever uses it is refused from then on. The reply needs only [`Reply::check`]; a 404 means that
/// there is no such key.
#[must_use]
pub fn delete_request(api: &Endpoint, login: &Login, access_key_id: &str) -> Request<Bytes> {
    let tail = format!("/access_keys/{}", segment(access_key_id));
    about(api, login, Method::DELETE, &tail)
}

fn about(api: &Endpoint, login: &Login, method: Method, tail: &str) -> Request<Bytes> {
    let tail = format!("/users/{}{tail}", segment(&login.user_id));
    request(api, &login.token, method, "aims", &tail, Bytes::new())
}

/// Whether a refusal has this word in it. Its text is looked at and never shown: it may echo what was sent.
fn says(reply: &Reply, word: &str) -> bool {
    String::from_utf8_lossy(&reply.body)
        .to_ascii_lowercase()
        .contains(word)
}
