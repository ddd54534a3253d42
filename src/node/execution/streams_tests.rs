//! Streams: what is given, what is told to the runner, and whatever a runner or a reader may get wrong.

use super::super::frame::Frame;
use super::super::stream::FrameReader;
use super::*;
use std::os::unix::net::UnixStream;

const LIMITS: StreamLimits = StreamLimits { items: 3, bytes: 100, idle: Duration::from_secs(9) };
const ATTEMPT: (TaskId, Token, Codec) = (TaskId(1), Token(7), Codec::Json);
const SEQ: u64 = 5;
const ME: u128 = 11;
const NOW: Duration = Duration::ZERO;

struct Bench {
    streams: Streams,
    runner: Arc<Runner>,
    told: FrameReader<UnixStream>,
}

impl Bench {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("a socket");
        let told = FrameReader::new(theirs, 1_000);
        Bench { streams: Streams::new(LIMITS), runner: Runner::without_process(ours), told }
    }

    /// The words the runner got since the last look, as `(next, chain)`.
    fn told(&mut self) -> Vec<(u64, u128)> {
        let mut told = Vec::new();
        while let Ok(Some(body)) = self.told.read_body() {
            match frame::decode(body) {
                Ok(Frame::Taken { seq: SEQ, next, chain }) => told.push((next, chain)),
                other => panic!("{other:?}"),
            }
        }
        told
    }
}

fn pull(next: u64) -> Pull {
    let (task, token, _) = ATTEMPT;
    Pull { task, token, reader: ME, next, chain: u128::from(next) * 3, items: 10, bytes: 100 }
}

fn items(texts: &[&'static str]) -> Pulled {
    let items = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    Pulled { open: true, codec: Some(Codec::Json), items }
}

#[tokio::test]
async fn items_are_given_by_index_until_they_are_taken() {
    let mut bench = Bench::new();
    let (runner, streams) = (bench.runner.clone(), &bench.streams);
    let mut outflow = Outflow::new(streams, &runner);
    assert_eq!(streams.pull(pull(0), NOW).await, Ok(Pulled::default()), "nobody yields yet");
    assert!(outflow.add(SEQ, 0, b"a").is_err(), "not before somebody reads");
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    assert!(outflow.add(SEQ, 0, b"a").is_err(), "not before somebody reads");
    let waited = streams.pull(pull(0), NOW).await;
    assert_eq!(waited, Ok(Pulled { open: true, ..Pulled::default() }));
    outflow.add(SEQ, 0, b"a").expect("there is room");
    outflow.add(SEQ, 1, b"b").expect("there is room");
    assert_eq!(streams.pull(pull(0), NOW).await, Ok(items(&["a", "b"])));
    assert_eq!(streams.pull(pull(0), NOW).await, Ok(items(&["a", "b"])), "an answer may be lost");
    assert_eq!(streams.pull(pull(1), NOW).await, Ok(items(&["b"])));
    let few = Pull { items: 0, ..pull(2) };
    assert_eq!(streams.pull(few, NOW).await, Ok(items(&[])));
    outflow.close();
    assert_eq!(streams.pull(pull(2), NOW).await, Ok(Pulled::default()));
    drop(outflow);
    assert_eq!(bench.told(), [(0, 0), (1, 3), (2, 6)]);
}

#[tokio::test]
async fn a_later_attempt_is_told_where_its_reader_stands() {
    let mut bench = Bench::new();
    let runner = bench.runner.clone();
    let mut outflow = Outflow::new(&bench.streams, &runner);
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    let _ = bench.streams.pull(pull(40), NOW).await;
    assert!(outflow.add(SEQ, 0, b"x").is_err(), "those it passes over it keeps to itself");
    outflow.add(SEQ, 40, b"forty").expect("there is room");
    assert_eq!(bench.streams.pull(pull(40), NOW).await, Ok(items(&["forty"])));
    drop(outflow);
    assert_eq!(bench.told(), [(40, 120)]);
}

#[tokio::test]
async fn a_runner_that_waits_hears_that_its_reader_lives() {
    let mut bench = Bench::new();
    let runner = bench.runner.clone();
    let mut outflow = Outflow::new(&bench.streams, &runner);
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    let alive = Pull { items: 0, ..pull(0) };
    for _ in 0..3 {
        bench.streams.pull(alive, NOW).await.expect("its reader");
    }
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    for _ in 0..2 {
        bench.streams.pull(alive, NOW).await.expect("its reader");
    }
    outflow.add(SEQ, 0, b"a").expect("there is room");
    bench.streams.pull(pull(1), NOW).await.expect("its reader");
    // It had not heard of the last word when it said that.
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    bench.streams.pull(Pull { items: 0, ..pull(1) }, NOW).await.expect("its reader");
    drop(outflow);
    assert_eq!(bench.told(), [(0, 0), (0, 0), (0, 0), (1, 3)]);
}

#[tokio::test]
async fn there_is_one_reader_and_it_does_not_go_back() {
    let bench = Bench::new();
    let mut outflow = Outflow::new(&bench.streams, &bench.runner);
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    let _ = bench.streams.pull(pull(0), NOW).await;
    let other = Pull { reader: 12, ..pull(0) };
    assert_eq!(bench.streams.pull(other, NOW).await, Err(PullRefused::OtherReader));
    outflow.add(SEQ, 0, b"a").expect("there is room");
    let _ = bench.streams.pull(pull(1), NOW).await;
    let gone = |next| Err(PullRefused::Gone { next, first: 1, end: 1 });
    assert_eq!(bench.streams.pull(pull(0), NOW).await, gone(0));
    assert_eq!(bench.streams.pull(pull(2), NOW).await, gone(2));
    let strange = Pull { task: TaskId(2), ..pull(1) };
    assert_eq!(bench.streams.pull(strange, NOW).await, Ok(Pulled::default()));
}

#[tokio::test]
async fn no_more_is_held_than_the_bounds_say() {
    let bench = Bench::new();
    let mut outflow = Outflow::new(&bench.streams, &bench.runner);
    outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
    let _ = bench.streams.pull(pull(0), NOW).await;
    assert!(outflow.add(SEQ, 0, &[0; 101]).is_err(), "one item alone is too large");
    assert!(outflow.add(SEQ, 1, b"b").is_err(), "item 0 is due");
    assert!(outflow.add(SEQ + 1, 0, b"a").is_err(), "another run");
    for index in 0..3 {
        outflow.add(SEQ, index, b"i").expect("there is room");
    }
    assert!(outflow.add(SEQ, 3, b"i").is_err(), "too many");
    let most = Pull { bytes: 2, ..pull(0) };
    assert_eq!(bench.streams.pull(most, NOW).await, Ok(items(&["i", "i"])));
    let least = Pull { bytes: 0, ..pull(0) };
    assert_eq!(bench.streams.pull(least, NOW).await, Ok(items(&["i"])), "one at least");
    assert!(outflow.wait(SEQ, 0, None).is_err(), "it does not run that");
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_an_item_and_by_the_end() {
    let bench = Bench::new();
    let long = Duration::from_secs(60);
    let mut outflow = Outflow::new(&bench.streams, &bench.runner);
    let opened = async {
        outflow.wait(SEQ, 0, Some(ATTEMPT)).expect("it runs that");
        // Until somebody reads.
        while outflow.add(SEQ, 0, b"a").is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (first, ()) = tokio::join!(bench.streams.pull(pull(0), long), opened);
    assert_eq!(first, Ok(items(&["a"])));
    let ended = async {
        tokio::task::yield_now().await;
        outflow.close();
    };
    let (last, ()) = tokio::join!(bench.streams.pull(pull(1), long), ended);
    assert_eq!(last, Ok(Pulled::default()));
}

#[test]
fn a_link_tells_order_and_borders() {
    let chain = |items: &[&[u8]]| items.iter().fold(0, |chain, item| link(chain, item));
    assert_eq!(chain(&[b"a", b"b"]), chain(&[b"a", b"b"]));
    assert_ne!(chain(&[b"a", b"b"]), chain(&[b"b", b"a"]));
    assert_ne!(chain(&[b"a", b"b"]), chain(&[b"ab"]));
    assert_ne!(chain(&[b""]), chain(&[]));
}

#[test]
fn limits_travel_as_text() {
    assert_eq!(StreamLimits::from_text(&LIMITS.to_text()), Some(LIMITS));
    for bad in ["", "1", "1,2", "1,2,x", "1,2,3,4", "-1,2,3"] {
        assert_eq!(StreamLimits::from_text(bad), None, "{bad:?}");
    }
}
