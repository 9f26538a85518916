//! The way to the server: a few connections, each lent to one operation at a time, and what is done when one fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Error as SqlError, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use crate::Error;

use super::address::PostgresServer;
use super::failure::{Failure, Next, TookTooLong, meaning, meaning_at, next};
use super::schema::{self, Access};
use super::session::Session;

/// Connections of one collector. A server has a hundred by default, for everybody; more than this would wait for the
/// same disk.
const MAX_SESSIONS: usize = 8;

/// For connecting, all hosts together.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);

/// For one operation, against a server that has stopped without letting go of its connections: one that is gone is
/// noticed sooner, and one that works has its own limit of a statement. Long enough for hundreds of megabytes to go into
/// quarantine at once.
const OPERATION_LIMIT: Duration = Duration::from_secs(180);

/// For a connection to become free.
const WAIT_LIMIT: Duration = Duration::from_secs(200);

/// For an answer to a rollback, which a server gives at once or not at all.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(10);

/// How often an operation is done again that the server took back for another's sake.
const MAX_RACES: u32 = 12;

/// The door to the server.
pub(super) struct Door {
    server: PostgresServer,
    tls: Option<MakeRustlsConnect>,
    access: Access,
    free: Semaphore,
    /// The one used last is used next: of few operations all are on a connection whose statements are prepared.
    idle: Mutex<Vec<Session>>,
}

/// A session that belongs to one operation. Dropped before it is given back, it is closed: whatever was under way on it
/// ends with it.
pub(super) struct Lent<'a> {
    pub(super) session: Session,
    _permit: SemaphorePermit<'a>,
}

/// What an operation has had of tries.
#[derive(Default)]
pub(super) struct Tries {
    races: u32,
    lost: u32,
}

/// Whether an operation may be done twice without a difference to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It reads only: tried on another connection when the first turns out to be dead.
    Reads,
    /// It writes. When the connection is lost nobody knows whether it has, so the caller is told.
    Writes,
}

impl Door {
    pub(super) fn new(server: PostgresServer, tls: Option<ClientConfig>, access: Access) -> Self {
        Self {
            server,
            tls: tls.map(MakeRustlsConnect::new),
            access,
            free: Semaphore::new(MAX_SESSIONS),
            idle: Mutex::default(),
        }
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    /// A session to work on.
    pub(super) async fn session(&self) -> Result<Lent<'_>, Error> {
        let Ok(permit) = timeout(WAIT_LIMIT, self.free.acquire()).await else {
            return Err(too_long("a free connection", WAIT_LIMIT));
        };
        let permit = permit.map_err(|_| Error::Stopped)?;
        let session = match self.take_idle() {
            Some(session) => session,
            None => match timeout(CONNECT_LIMIT, self.connect()).await {
                Ok(connected) => connected?,
                Err(_) => return Err(too_long("connecting", CONNECT_LIMIT)),
            },
        };
        Ok(Lent {
            session,
            _permit: permit,
        })
    }

    /// What is to be done after an operation: answer, or, when nothing is given, do it again.
    pub(super) async fn ended<T>(
        &self,
        lent: Lent<'_>,
        doing: Doing,
        outcome: Result<Result<T, Failure>, tokio::time::error::Elapsed>,
        tries: &mut Tries,
    ) -> Option<Result<T, Error>> {
        let failure = match outcome {
            Ok(Ok(answer)) => {
                self.give_back(lent.session);
                return Some(Ok(answer));
            }
            Ok(Err(failure)) => failure,
            // The session goes with its unfinished work.
            Err(_) => return Some(Err(too_long("an operation", OPERATION_LIMIT))),
        };
        let next = match &failure {
            Failure::Ledger(_) => Next::Keep,
            Failure::Sql(error) => next(error),
        };
        let was_lost = match next {
            Next::Again | Next::Keep => {
                match timeout(ROLLBACK_LIMIT, lent.session.roll_back()).await {
                    Ok(Ok(())) => {
                        self.give_back(lent.session);
                        false
                    }
                    Ok(Err(_)) | Err(_) => true,
                }
            }
            Next::Drop => true,
            Next::DropAll => {
                self.idle().clear();
                true
            }
        };
        if next == Next::Again && tries.races < MAX_RACES {
            tries.races += 1;
            // The other has the locks that it wants, and is done when it has committed.
            tokio::time::sleep(Duration::from_millis(5) * tries.races).await;
            return None;
        }
        if was_lost && doing == Doing::Reads && tries.lost == 0 {
            tries.lost += 1;
            return None;
        }
        Some(Err(failure.meaning()))
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(|session| !session.client.is_closed())
    }

    fn give_back(&self, session: Session) {
        self.idle().push(session);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Session, Error> {
        let config = self.server.config();
        let refused = |error: SqlError| meaning_at(&error, "connecting", &self.server);
        let client = match (&self.tls, config.get_ssl_mode()) {
            (_, SslMode::Disable) => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                tokio::spawn(drive(connection));
                client
            }
            (Some(tls), _) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(refused)?;
                tokio::spawn(drive(connection));
                client
            }
            (None, _) => {
                return Err(Error::Unavailable {
                    what: "connecting",
                    source: Arc::new(NoRoots),
                });
            }
        };
        let prepare = async {
            let session = Session::begin(client, self.access).await?;
            schema::prepare(&session.client, self.access).await?;
            Ok(session)
        };
        prepare.await.map_err(|failure| match failure {
            Failure::Sql(error) => meaning_at(&error, "preparing the tables", &self.server),
            Failure::Ledger(error) => error,
        })
    }
}

/// Everything that comes and goes on a connection passes through here, until it is closed.
async fn drive(connection: impl Future<Output = Result<(), SqlError>>) {
    if let Err(error) = connection.await {
        let said = meaning(&error, "a connection");
        debug!(error = ?said, "a connection to the ledger's server has ended");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("TLS is wanted, and there is nothing to verify a certificate with")]
struct NoRoots;

fn too_long(what: &'static str, limit: Duration) -> Error {
    Error::Unavailable {
        what,
        source: Arc::new(TookTooLong(limit.as_secs())),
    }
}

/// How long an operation may take.
pub(super) fn limited<F: Future>(work: F) -> tokio::time::Timeout<F> {
    timeout(OPERATION_LIMIT, work)
}

/// Does the work on a session, and again where that is the answer to its failure.
///
/// A macro, because no closure that lends its argument to a future can be asked to give one that is `Send`.
macro_rules! on_session {
    ($door:expr, $doing:expr, |$session:ident| $work:expr) => {{
        let door: &$crate::store::postgres::door::Door = $door;
        let mut tries = $crate::store::postgres::door::Tries::default();
        loop {
            let mut lent = match door.session().await {
                Ok(lent) => lent,
                Err(error) => break Err(error),
            };
            let outcome = {
                let $session = &mut lent.session;
                $crate::store::postgres::door::limited($work).await
            };
            if let Some(answer) = door.ended(lent, $doing, outcome, &mut tries).await {
                break answer;
            }
        }
    }};
}
pub(super) use on_session;
