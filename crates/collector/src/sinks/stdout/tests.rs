//! The stdout sink against a pipe that breaks.

use async_trait::async_trait;

use super::*;
use crate::sinks::{
    conformance::{self, Subject},
    testing::{batch, record, records},
};

/// A pipe, as its reader sees it.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    read: Vec<u8>,
    /// Takes this many more bytes, then fails once.
    fail_after: Option<usize>,
    fail_flush: bool,
}

impl Pipe {
    fn sink(&self) -> StdoutSink {
        StdoutSink::build_on(
            StdoutConfig {
                name: "stdout".parse().unwrap(),
            },
            Box::new(self.clone()),
        )
    }

    fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().read.clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap();
        // Never all at once, as a pipe that is nearly full.
        let mut count = bytes.len().min(4_096);
        if let Some(left) = inner.fail_after {
            if left == 0 {
                inner.fail_after = None;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            count = count.min(left);
            inner.fail_after = Some(left - count);
        }
        inner.read.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.0.lock().unwrap().fail_flush) {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}

struct StdoutSubject {
    pipe: Pipe,
    sink: StdoutSink,
}

#[async_trait]
impl Subject for StdoutSubject {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn arrived(&self) -> Vec<String> {
        let read = self.pipe.read();
        let whole = read.rfind('\n').map_or(0, |end| end + 1);
        read[..whole]
            .split_terminator('\n')
            .map(str::to_owned)
            .collect()
    }

    fn fail_after(&self, bytes: usize) {
        self.pipe.0.lock().unwrap().fail_after = Some(bytes);
    }

    fn refuse(&self, _marker: &'static str) -> bool {
        false
    }

    fn as_it_arrives(&self, text: &str) -> String {
        text.replace(['\r', '\n'], " ")
    }

    fn may_repeat(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn stdout_keeps_every_promise_of_a_sink() {
    conformance::check(async || {
        let pipe = Pipe::default();
        StdoutSubject {
            sink: pipe.sink(),
            pipe,
        }
    })
    .await;
}

#[tokio::test]
async fn a_line_that_broke_off_is_finished_by_the_next_try() {
    let pipe = Pipe::default();
    let sink = pipe.sink();
    let sent = batch(&records(0, 2));
    pipe.0.lock().unwrap().fail_after = Some(record(0).len() + 1 + 20);
    let failure = sink.deliver(&sent).await.unwrap_err();
    assert_eq!(failure.delivered_count, 1);
    assert_eq!(pipe.read(), format!("{}\n{}", record(0), &record(1)[..20]));
    sink.deliver(&sent.skip(1)).await.unwrap();
    assert_eq!(pipe.read(), format!("{}\n{}\n", record(0), record(1)));
}

#[tokio::test]
async fn a_piece_of_a_line_never_runs_into_another_record() {
    let pipe = Pipe::default();
    let sink = pipe.sink();
    pipe.0.lock().unwrap().fail_after = Some(20);
    sink.deliver(&batch(&records(0, 1))).await.unwrap_err();
    sink.deliver(&batch(&records(1, 1))).await.unwrap();
    assert_eq!(
        pipe.read(),
        format!("{}\n{}\n", &record(0)[..20], record(1))
    );
}

#[tokio::test]
async fn a_flush_that_fails_is_a_failed_delivery() {
    let pipe = Pipe::default();
    let sink = pipe.sink();
    pipe.0.lock().unwrap().fail_flush = true;
    let failure = sink.deliver(&batch(&records(0, 2))).await.unwrap_err();
    assert!(matches!(failure.error, Error::Io { .. }));
    sink.deliver(&batch(&records(0, 2)).skip(failure.delivered_count))
        .await
        .unwrap();
    assert_eq!(pipe.read(), format!("{}\n{}\n", record(0), record(1)));
}
