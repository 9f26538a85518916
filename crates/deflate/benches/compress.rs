//! Ours beside libdeflate's and zlib-rs's first levels, on one thread: MB/s by divan, and before that the ratio and, of
//! the fastest of several runs in turn, the speed beside libdeflate's. On generated records and, when the environment
//! variable `O365_BENCH_CORPUS` names an NDJSON file, on its lines; as one stream of some MB, and in streams as small as
//! blobs of 100 and of 10 records.

#![expect(
    clippy::print_stdout,
    reason = "a bench says on the terminal what it measured"
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use deflate::{Deflater, Format};
use divan::{Bencher, counter::BytesCount};

const STREAM_BYTES: [usize; 3] = [4 << 20, 140 << 10, 14 << 10];
const GENERATED_COUNT: usize = 10_000;
const RUNS: usize = 7;

fn main() {
    for (name, records) in sources() {
        for stream_bytes in STREAM_BYTES {
            compare(name, &streams(&records, stream_bytes));
        }
    }
    divan::main();
}

/// Gives the compressed length.
type Compress = Box<dyn FnMut(&[u8]) -> usize>;

/// What compresses, with its name.
fn engines() -> Vec<(&'static str, Compress)> {
    let mut out = Vec::new();
    let mut deflater = Deflater::new();
    let ours = move |raw: &[u8]| {
        out.clear();
        deflater
            .compress(Format::Zlib, raw, &mut out, usize::MAX)
            .expect("there is room");
        out.len()
    };
    let level = libdeflater::CompressionLvl::new(1).expect("it has this level");
    let mut compressor = libdeflater::Compressor::new(level);
    let mut room = Vec::new();
    let libdeflate = move |raw: &[u8]| {
        room.resize(compressor.zlib_compress_bound(raw.len()), 0);
        compressor
            .zlib_compress(raw, &mut room)
            .expect("there is room")
    };
    let mut room = Vec::new();
    let mut zlib = flate2::Compress::new(flate2::Compression::new(1), true);
    let zlib_rs = move |raw: &[u8]| {
        room.resize(raw.len() + 1_000, 0);
        zlib.reset();
        zlib.compress(raw, &mut room, flate2::FlushCompress::Finish)
            .expect("there is room");
        zlib.total_out() as usize
    };
    vec![
        ("libdeflate 1", Box::new(libdeflate)),
        ("zlib-rs 1", Box::new(zlib_rs)),
        ("ours", Box::new(ours)),
    ]
}

fn compare(name: &str, streams: &[Vec<u8>]) {
    let mut engines = engines();
    let mut fastest = vec![vec![Duration::MAX; streams.len()]; engines.len()];
    let mut sizes = vec![0; engines.len()];
    for _run in 0..RUNS {
        sizes.fill(0);
        for (n, raw) in streams.iter().enumerate() {
            for (engine, (_, compress)) in engines.iter_mut().enumerate() {
                let started = Instant::now();
                sizes[engine] += compress(raw);
                fastest[engine][n] = fastest[engine][n].min(started.elapsed());
            }
        }
    }
    let raw_bytes: usize = streams.iter().map(Vec::len).sum();
    let seconds = |engine: usize| fastest[engine].iter().sum::<Duration>().as_secs_f64();
    for (engine, (engine_name, _)) in engines.iter().enumerate() {
        println!(
            "{name:>10}, {:>8} B a stream: {engine_name:>12} {:>5.0} MB/s, ratio {:>6.3}; beside libdeflate 1: {:.2} of the time, {:.3} of the size",
            raw_bytes / streams.len(),
            raw_bytes as f64 / seconds(engine) / 1e6,
            raw_bytes as f64 / sizes[engine] as f64,
            seconds(engine) / seconds(0),
            sizes[engine] as f64 / sizes[0] as f64,
        );
    }
}

#[divan::bench(args = [0, 1, 2], consts = STREAM_BYTES)]
fn generated<const STREAM: usize>(bencher: Bencher<'_, '_>, engine: usize) {
    let streams = streams(&generate(), STREAM);
    let (_, mut compress) = engines().swap_remove(engine);
    let raw_bytes: usize = streams.iter().map(Vec::len).sum();
    bencher
        .counter(BytesCount::new(raw_bytes))
        .bench_local(|| streams.iter().map(|raw| compress(raw)).sum::<usize>());
}

fn sources() -> Vec<(&'static str, Vec<String>)> {
    let mut sources = vec![("generated", generate())];
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench has no configuration to take the file from"
    )]
    let corpus = std::env::var("O365_BENCH_CORPUS");
    if let Ok(path) = corpus {
        let text = std::fs::read_to_string(path).expect("O365_BENCH_CORPUS names a readable file");
        sources.push(("corpus", text.lines().map(str::to_owned).collect()));
    }
    sources
}

fn streams(records: &[String], stream_bytes: usize) -> Vec<Vec<u8>> {
    let mut streams = vec![Vec::new()];
    for record in records {
        if streams
            .last()
            .is_none_or(|stream| stream.len() >= stream_bytes)
        {
            streams.push(Vec::new());
        }
        if let Some(stream) = streams.last_mut() {
            stream.extend_from_slice(record.as_bytes());
            stream.push(b'\n');
        }
    }
    streams
}

/// Records of about 1.4 KB in the shape of a sign-in: ids that do not compress amid names that do.
fn generate() -> Vec<String> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..GENERATED_COUNT)
        .map(|n| {
            let mut record = format!(
                r#"{{"CreationTime":"2026-11-{:02}T{:02}:{:02}:{:02}","Id":"{:016x}{:016x}","Operation":"UserLoggedIn","#,
                1 + n % 28,
                n % 24,
                n % 60,
                n * 7 % 60,
                next(),
                next()
            );
            record.push_str(r#""RecordType":15,"ResultStatus":"Success","Workload":"AzureActiveDirectory","ExtendedProperties":["#);
            for name in ["UserAgent", "UserAuthenticationMethod", "RequestType", "ResultStatusDetail", "KeepMeSignedIn"] {
                let value = next() >> 32;
                write!(record, r#"{{"Name":"{name}","Value":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 {value:x}"}},"#)
                    .expect("a String takes any text");
            }
            record.push_str(r#"{"Name":"Last","Value":"1"}],"Actor":["#);
            for kind in 0..5 {
                write!(record, r#"{{"ID":"{:016x}-{:016x}","Type":{kind}}},"#, next(), next())
                    .expect("a String takes any text");
            }
            write!(record, r#"{{"ID":"user{}@example.net","Type":5}}],"ClientIP":"10.{}.{}.{}"}}"#, n % 500, n % 256, n / 256, n % 7)
                .expect("a String takes any text");
            record
        })
        .collect()
}
