//! A sink that takes records as a script says, and keeps what it took.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ledger::SinkName;

use crate::record::Batch;
use crate::sinks::{Error, Failure, Receipt, Refused, Sink};

/// What becomes of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    Take,
    /// It takes this long, and takes all.
    TakeIn(Duration),
    /// It takes all but these (indexes into the batch), which it can never take.
    Refuse(Vec<usize>),
    /// It takes the first so many and fails.
    TakeSome(usize),
    Fail,
    /// It fails in a way that a person must mend.
    FailForGood,
    /// The disk it writes to is full.
    FailForRoom,
    /// The ledger does not keep what it has to know.
    FailOfLedger,
    /// It asks to be left alone.
    FailFor(Duration),
    /// It never answers.
    Hang,
    Panic,
}

#[derive(Debug)]
pub(crate) struct FakeSink {
    name: SinkName,
    batch_bytes: usize,
    max_in_flight: usize,
    has_position: bool,
    lets_go: bool,
    keeps_tenants_apart: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Turn>,
    /// What happens when the script is at its end.
    otherwise: Option<Turn>,
    taken: Vec<String>,
    batches: Vec<Vec<String>>,
    let_go: Vec<bool>,
    resumed: Vec<Option<String>>,
    resume_turns: VecDeque<Turn>,
    ticks: u32,
}

impl FakeSink {
    /// A sink that takes whatever comes, one batch at a time, large ones.
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self::plain(name))
    }

    fn plain(name: &str) -> Self {
        Self {
            name: name.parse().unwrap(),
            batch_bytes: 4 * 1024 * 1024,
            max_in_flight: 1,
            has_position: false,
            lets_go: false,
            keeps_tenants_apart: false,
            state: Mutex::default(),
        }
    }

    /// A sink that takes one part a batch and so many batches at once.
    pub(crate) fn by_parts(name: &str, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            batch_bytes: 1,
            max_in_flight,
            ..Self::plain(name)
        })
    }

    /// A sink that takes one part a batch and lets go of its text at once, so many batches at a time.
    pub(crate) fn letting_go(name: &str, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            batch_bytes: 1,
            max_in_flight,
            lets_go: true,
            ..Self::plain(name)
        })
    }

    /// A sink of whose batches none may hold records of several tenants.
    pub(crate) fn keeping_tenants_apart(name: &str) -> Arc<Self> {
        Arc::new(Self {
            keeps_tenants_apart: true,
            ..Self::plain(name)
        })
    }

    /// A sink whose position is how many records it has, and which goes back to the position that it is given.
    pub(crate) fn with_position(name: &str) -> Arc<Self> {
        Arc::new(Self {
            has_position: true,
            ..Self::plain(name)
        })
    }

    /// What becomes of the next deliveries. After them it takes everything.
    pub(crate) fn script(&self, turns: impl IntoIterator<Item = Turn>) {
        let mut state = self.state.lock().unwrap();
        state.script = turns.into_iter().collect();
        state.otherwise = None;
    }

    /// What becomes of every delivery from here on.
    pub(crate) fn always(&self, turn: Turn) {
        let mut state = self.state.lock().unwrap();
        state.script.clear();
        state.otherwise = Some(turn);
    }

    /// What becomes of the next calls of `resume`.
    pub(crate) fn script_resume(&self, turns: impl IntoIterator<Item = Turn>) {
        self.state.lock().unwrap().resume_turns = turns.into_iter().collect();
    }

    /// Every record that it took, as often as it took it, in order.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.state.lock().unwrap().taken.clone()
    }

    /// The records that it took, sorted.
    pub(crate) fn taken_sorted(&self) -> Vec<String> {
        let mut taken = self.taken();
        taken.sort();
        taken
    }

    /// What it was offered, one entry a delivery.
    pub(crate) fn batches(&self) -> Vec<Vec<String>> {
        self.state.lock().unwrap().batches.clone()
    }

    /// Whether it let go of each batch's text.
    pub(crate) fn let_go(&self) -> Vec<bool> {
        self.state.lock().unwrap().let_go.clone()
    }

    /// What it was given at each `resume`.
    pub(crate) fn resumed(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().resumed.clone()
    }

    pub(crate) fn tick_count(&self) -> u32 {
        self.state.lock().unwrap().ticks
    }
}

fn down(retry_after: Option<Duration>) -> Error {
    Error::Unavailable {
        what: "the test has taken it down".to_owned(),
        retry_after,
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    fn keeps_tenants_apart(&self) -> bool {
        self.keeps_tenants_apart
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    async fn probe(&self) -> Result<String, Error> {
        match self.state.lock().unwrap().script.front() {
            Some(Turn::Fail) => Err(down(None)),
            _ => Ok("it takes what comes".to_owned()),
        }
    }

    async fn resume(&self, position: Option<&str>) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap();
        state.resumed.push(position.map(str::to_owned));
        match state.resume_turns.pop_front() {
            Some(Turn::Fail) => return Err(down(None)),
            Some(Turn::Panic) => {
                drop(state);
                panic!("as the test wants it")
            }
            _ => {}
        }
        if self.has_position {
            let length = position.map_or(0, |text| text.parse().unwrap());
            state.taken.truncate(length);
        }
        Ok(())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        self.take(texts(batch)).await
    }

    fn may_let_go(&self) -> bool {
        self.lets_go
    }

    async fn deliver_and_let_go(&self, batch: Batch) -> Result<Receipt, Failure> {
        let texts = texts(&batch);
        let lets_go = self.lets_go && batch.is_kept();
        self.state.lock().unwrap().let_go.push(lets_go);
        if lets_go {
            batch.let_go();
        }
        self.take(texts).await
    }

    async fn tick(&self) -> Result<(), Error> {
        self.state.lock().unwrap().ticks += 1;
        Ok(())
    }
}

fn texts(batch: &Batch) -> Vec<String> {
    batch
        .records()
        .map(|record| String::from_utf8(record.text().to_vec()).unwrap())
        .collect()
}

impl FakeSink {
    /// Does with these records what is its next turn.
    async fn take(&self, texts: Vec<String>) -> Result<Receipt, Failure> {
        let turn = {
            let mut state = self.state.lock().unwrap();
            state.batches.push(texts.clone());
            state
                .script
                .pop_front()
                .or(state.otherwise.clone())
                .unwrap_or(Turn::Take)
        };
        let mut refused = Vec::new();
        let mut taken = texts;
        match turn {
            Turn::Take => {}
            Turn::TakeIn(time) => tokio::time::sleep(time).await,
            Turn::Refuse(indexes) => {
                refused = indexes
                    .iter()
                    .map(|index| Refused {
                        index_in_batch: *index,
                        reason: "the test does not like it".to_owned(),
                    })
                    .collect();
                let mut index = 0;
                taken.retain(|_| {
                    index += 1;
                    !indexes.contains(&(index - 1))
                });
            }
            Turn::TakeSome(count) => {
                taken.truncate(count);
                let delivered_count = taken.len();
                self.state.lock().unwrap().taken.extend(taken);
                return Err(Failure {
                    delivered_count,
                    refused,
                    error: down(None),
                });
            }
            Turn::Fail => return Err(down(None).into()),
            Turn::FailForGood => {
                return Err(Error::Refused {
                    what: "the test has locked it".to_owned(),
                }
                .into());
            }
            Turn::FailForRoom => {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
                let what = "cannot append to the file".to_owned();
                return Err(Error::Io { what, source }.into());
            }
            Turn::FailOfLedger => {
                let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Err(Error::Ledger(ledger::Error::Full(Arc::new(cause))).into());
            }
            Turn::FailFor(time) => return Err(down(Some(time)).into()),
            Turn::Hang => std::future::pending().await,
            Turn::Panic => {
                // Half of it is out.
                taken.truncate(taken.len() / 2);
                self.state.lock().unwrap().taken.extend(taken);
                panic!("as the test wants it")
            }
        }
        let mut state = self.state.lock().unwrap();
        state.taken.extend(taken);
        let position = self.has_position.then(|| state.taken.len().to_string());
        Ok(Receipt { position, refused })
    }
}
