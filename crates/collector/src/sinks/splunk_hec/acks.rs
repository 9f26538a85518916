//! Waiting for the indexers. What Splunk took and has yet to say it has indexed is asked for together, by one task for all
//! batches under way: many may wait, and Splunk is asked as seldom as if it were one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use super::door::Door;
use super::reply::{Ack, AckId};
use crate::sinks::Error;

/// How long indexers take, as long as nothing is known of these.
const UNKNOWN: Duration = Duration::from_millis(100);
/// The shortest and the longest pause between two questions about a request. More often costs Splunk work and brings
/// nothing.
pub(super) const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What is yet to be indexed.
pub(super) struct Acks(Arc<Shared>);

struct Shared {
    door: Arc<Door>,
    state: Mutex<State>,
    /// Told when something came that may have to be asked for sooner than the rest.
    news: Notify,
}

struct State {
    /// In the order in which Splunk took them.
    waiting: Vec<Waiting>,
    /// Requests with events that are under way, by number.
    posts: Vec<u64>,
    post_count: u64,
    /// How long the indexers take, as it looks from here.
    usual: Duration,
    /// Who asks, from the first that waits until none does.
    asking: Option<JoinHandle<()>>,
}

struct Waiting {
    id: AckId,
    since: Instant,
    ask_at: Instant,
    /// Splunk has said that it is indexed, while these requests were under way. If Splunk was restarted in between, it may
    /// have meant one of them, so each must be answered with another id first.
    said_among: Option<Vec<u64>>,
    tell: oneshot::Sender<Result<(), Error>>,
}

impl Waiting {
    fn fail(self, what: String) {
        drop(self.tell.send(Err(Error::Unavailable {
            what,
            retry_after: None,
        })));
    }
}

/// A request with events that is under way, until this is dropped. What Splunk made of it is not known, unless
/// [`answered`](Self::answered) is called.
pub(super) struct Post {
    shared: Arc<Shared>,
    number: u64,
    is_answered: bool,
}

impl Post {
    /// It is known, and [`Acks::taken`] was told its id if it has one.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended(self.number, self.is_answered, &self.shared.door);
    }
}

/// A request whose acknowledgement is being asked for, until this is dropped.
pub(super) struct Pending(oneshot::Receiver<Result<(), Error>>);

impl Pending {
    /// Waits until the indexers have it.
    ///
    /// # Errors
    /// When Splunk refuses to answer at all, or has begun to count anew: nothing is known then of the request.
    ///
    /// # If interrupted
    /// May be waited for again.
    pub(super) async fn indexed(&mut self) -> Result<(), Error> {
        let told = (&mut self.0).await;
        told.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                what: "splunk is not asked any more whether it has a batch".to_owned(),
                retry_after: None,
            })
        })
    }
}

impl Acks {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self(Arc::new(Shared {
            door,
            state: Mutex::new(State {
                waiting: Vec::new(),
                posts: Vec::new(),
                post_count: 0,
                usual: UNKNOWN,
                asking: None,
            }),
            news: Notify::new(),
        }))
    }

    /// A request with events begins.
    pub(super) fn post(&self) -> Post {
        let mut state = self.0.state();
        state.post_count += 1;
        let number = state.post_count;
        state.posts.push(number);
        Post {
            shared: Arc::clone(&self.0),
            number,
            is_answered: false,
        }
    }

    /// Splunk has just taken the request that it calls `id`.
    pub(super) fn taken(&self, id: AckId) -> Pending {
        let (tell, told) = oneshot::channel();
        let since = Instant::now();
        let mut state = self.0.state();
        // The same id a second time: Splunk was restarted and counts anew. A yes is of the later request, and of the earlier
        // one nothing will be heard.
        if let Some(earlier) = state.take(&id) {
            let what = "splunk counts anew; what it had not acknowledged is sent again";
            earlier.fail(self.0.door.say(what));
        }
        // Sooner than it usually takes, so that it shows when it takes less.
        let ask_at = since + (state.usual * 3 / 4).clamp(MIN_PAUSE, MAX_PAUSE);
        state.waiting.push(Waiting {
            id,
            since,
            ask_at,
            said_among: None,
            tell,
        });
        if state.asking.as_ref().is_none_or(JoinHandle::is_finished) {
            // A task of its own: Splunk says of each request but once that it is indexed, and whoever waits for one may be
            // dropped while the answer about all others is on its way.
            state.asking = Some(tokio::spawn(Arc::clone(&self.0).ask_while_any_waits()));
        } else {
            self.0.news.notify_one();
        }
        Pending(told)
    }
}

impl Shared {
    async fn ask_while_any_waits(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let (ids, next_at) = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.tell.is_closed());
                let Some(next_at) = state.next_at() else {
                    // Under the lock, so that whoever comes next finds nobody asking.
                    state.asking = None;
                    return;
                };
                (state.due(now), next_at)
            };
            if ids.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep_until(next_at) => {}
                    () = self.news.notified() => {}
                }
                continue;
            }
            let answer = self.door.ask(&ids).await;
            self.state().answered(answer, &ids, &self.door);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_at(&self) -> Option<Instant> {
        self.unsaid().map(|waiting| waiting.ask_at).min()
    }

    /// What it is time to ask for, and what is about to be, when it is time to ask for anything.
    fn due(&self, now: Instant) -> Vec<AckId> {
        if self.next_at().is_none_or(|next_at| next_at > now) {
            return Vec::new();
        }
        let until = now + (self.usual / 8).clamp(MIN_PAUSE, MAX_PAUSE);
        let due = self.unsaid().filter(|one| one.ask_at <= until);
        due.map(|one| one.id.clone()).collect()
    }

    /// Those that Splunk has not said to be indexed; it says so once.
    fn unsaid(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|one| one.said_among.is_none())
    }

    /// A request is not under way any more. When its answer did not come, nobody knows whose id it has: of a Splunk that was
    /// restarted, that of any batch of which nothing had been said when it was posted.
    fn ended(&mut self, post: u64, is_answered: bool, door: &Door) {
        self.posts.retain(|one| *one != post);
        for mut waiting in std::mem::take(&mut self.waiting) {
            let may_be_meant = match &waiting.said_among {
                Some(among) => among.contains(&post),
                None => true,
            };
            if may_be_meant && !is_answered {
                let what = "splunk may have been restarted, so that its yes may mean another batch; it is sent again";
                waiting.fail(door.say(what));
                continue;
            }
            if let Some(among) = &mut waiting.said_among {
                among.retain(|one| *one != post);
                if among.is_empty() {
                    drop(waiting.tell.send(Ok(())));
                    continue;
                }
            }
            self.waiting.push(waiting);
        }
    }

    fn answered(&mut self, answer: Result<Ack, Error>, ids: &[AckId], door: &Door) {
        let now = Instant::now();
        match answer {
            Ok(Ack::Indexed(indexed)) => {
                for id in indexed {
                    let Some(mut waiting) = self.take(&id) else {
                        continue;
                    };
                    self.took(now.duration_since(waiting.since));
                    if self.posts.is_empty() {
                        drop(waiting.tell.send(Ok(())));
                    } else {
                        waiting.said_among = Some(self.posts.clone());
                        self.waiting.push(waiting);
                    }
                }
            }
            // The token lost its acknowledgement meanwhile: that Splunk took the events is all there is to know.
            Ok(Ack::Disabled) => {
                for waiting in self.waiting.drain(..) {
                    drop(waiting.tell.send(Ok(())));
                }
            }
            // Splunk restarts, or a proxy lost it: the events may be safe all the same, so asking goes on.
            Err(Error::Unavailable { what, .. }) => {
                debug!(sink = %door.name, what, "cannot ask splunk yet");
            }
            Err(error) => {
                for waiting in self.waiting.drain(..) {
                    let what = error.to_string();
                    drop(waiting.tell.send(Err(Error::Refused { what })));
                }
            }
        }
        for waiting in self.waiting.iter_mut().filter(|one| ids.contains(&one.id)) {
            let age = now.duration_since(waiting.since);
            waiting.ask_at = now + (age / 4).clamp(MIN_PAUSE, MAX_PAUSE);
        }
    }

    fn take(&mut self, id: &AckId) -> Option<Waiting> {
        let at = self.waiting.iter().position(|one| one.id == *id)?;
        Some(self.waiting.remove(at))
    }

    /// Shorter is believed at once: it was asked for no sooner. Longer may be this one's bad luck.
    fn took(&mut self, took: Duration) {
        self.usual = took.min(self.usual + took.saturating_sub(self.usual) / 8);
    }
}
