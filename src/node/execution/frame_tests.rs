//! The frames both sides speak: round trips, bounds, and whatever a broken peer may send.

use super::*;
use crate::node::execution::stream::FrameReader;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::io::Read;

const LIMIT: usize = 4096;

fn samples() -> Vec<Frame<'static>> {
    vec![
        Frame::Ready { protocol: PROTOCOL },
        Frame::Load(Load {
            hash: FunctionHash(u128::MAX - 7),
            name: "app.résumé",
            source: Source::Reference("app.tasks:Outer.inner"),
        }),
        Frame::Load(Load {
            hash: FunctionHash(0),
            name: "",
            source: Source::Pickled(&[0, 255, 1, 128]),
        }),
        Frame::Run(Run {
            seq: 9,
            hash: FunctionHash(3),
            codec: Codec::Pickle,
            task: TaskId(u128::MAX),
            attempt: u32::MAX,
            token: Token(u64::MAX - 1),
            timeout_ms: 30_000,
            end_by_ms: u64::MAX,
            trace: Some(TraceContext { trace: u128::MAX - 1, span: u64::MAX - 2, flags: 1 }),
            key: "invoice 17",
            payload: b"{\"args\": [1]}",
        }),
        Frame::Waiting { seq: 3, next: 5 },
        Frame::Item { seq: 3, index: u64::MAX, body: b"[1]" },
        Frame::Taken { seq: 3, next: 7, chain: u128::MAX - 3 },
        Frame::Done { seq: 1, result: RunResult::Value { codec: Codec::Json, body: b"" } },
        Frame::Done {
            seq: u64::MAX,
            result: RunResult::Failure {
                type_name: "builtins.ValueError",
                message: "naïve",
                traceback: "Traceback ...",
                pickled: &[1, 2, 3],
            },
        },
    ]
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame, LIMIT, &mut out).expect("fits");
    out
}

#[test]
fn every_frame_survives_the_round_trip() {
    for frame in samples() {
        assert_eq!(decode(&encoded(&frame)[4..]), Ok(frame));
    }
}

#[test]
fn a_cut_or_extended_frame_is_refused() {
    for frame in samples() {
        let bytes = encoded(&frame);
        for length in 4..bytes.len() {
            assert!(decode(&bytes[4..length]).is_err(), "{frame:?} cut to {length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer[4..]), Err(FrameError::Trailing { count: 1 }));
    }
}

#[test]
fn random_and_damaged_bytes_never_panic_and_never_decode_to_more_than_they_hold() {
    let mut rng = StdRng::seed_from_u64(7);
    let originals: Vec<Vec<u8>> = samples().iter().map(encoded).collect();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let body = if round % 2 == 0 {
            let mut bytes = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut bytes);
            if let Some(kind) = bytes.first_mut() {
                *kind %= 7;
            }
            bytes
        } else {
            let mut bytes = originals[round / 2 % originals.len()][4..].to_vec();
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            bytes
        };
        match decode(&body) {
            // Whatever decodes means exactly these bytes.
            Ok(frame) => {
                assert_eq!(&encoded(&frame)[4..], &body[..]);
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
}

/// Gives out one to seven bytes per read.
struct Dribble<'a>(&'a [u8], StdRng);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.1.random_range(1..8).min(out.len()).min(self.0.len());
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn a_stream_is_cut_into_its_frames_wherever_the_reads_fall() {
    let long = vec![42; FrameReader::<&[u8]>::CHUNK + 5];
    let mut frames = samples();
    frames
        .push(Frame::Done { seq: 5, result: RunResult::Value { codec: Codec::Json, body: &long } });
    frames.extend(samples());
    let mut stream = Vec::new();
    for frame in &frames {
        encode(frame, usize::MAX, &mut stream).expect("fits");
    }
    let mut reader = FrameReader::new(Dribble(&stream, StdRng::seed_from_u64(1)), 1 << 20);
    for frame in &frames {
        let body = reader.read_body().expect("valid").expect("not at the end");
        assert_eq!(decode(body), Ok(*frame));
    }
    assert!(reader.read_body().expect("clean end").is_none());
    assert_eq!(reader.buffer.len(), FrameReader::<&[u8]>::CHUNK, "the long frame's memory is back");
}

#[test]
fn a_long_frame_is_refused_before_it_is_held() {
    let bytes = u32::MAX.to_le_bytes();
    let mut reader = FrameReader::new(&bytes[..], LIMIT);
    let error = reader.read_body().expect_err("too long");
    assert_eq!(error.to_string(), "a frame of 4294967295 bytes is over the limit of 4096");
    assert_eq!(reader.buffer.len(), FrameReader::<&[u8]>::CHUNK);

    let body = vec![0; LIMIT];
    let mut out = vec![1];
    let frame =
        Frame::Done { seq: 0, result: RunResult::Value { codec: Codec::Json, body: &body } };
    assert!(matches!(encode(&frame, LIMIT, &mut out), Err(FrameError::TooLong { .. })));
    assert_eq!(out, [1]);
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let bytes = encoded(&samples()[3]);
    for length in 1..bytes.len() {
        let mut reader = FrameReader::new(&bytes[..length], LIMIT);
        assert!(reader.read_body().is_err(), "cut to {length}");
    }
}
