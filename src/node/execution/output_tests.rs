//! What is heard of a runner: lines as they fall into reads, records of `logging`, bars, bounds.

use super::*;
use std::io::Write;
use std::os::fd::FromRawFd;

struct Nobody;

impl Whereabouts for Nobody {
    fn at_work(&self) -> Option<AtWork> {
        None
    }

    fn progressed(&self, progress: Progress) {
        assert_eq!(progress, Progress { done: 3.0, total: 4.5, note: "half".into() });
    }
}

/// A runner's ends of its socket and its pipes, and ours.
struct Bench {
    theirs: UnixStream,
    ours: UnixStream,
    writers: [std::fs::File; 2],
    pipes: Option<Pipes>,
}

fn pipe() -> (OwnedFd, std::fs::File) {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, each owned once from here on.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        assert_eq!(libc::fcntl(fds[0], libc::F_SETFL, libc::O_NONBLOCK), 0);
        (OwnedFd::from_raw_fd(fds[0]), std::fs::File::from_raw_fd(fds[1]))
    }
}

impl Bench {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (out, printed) = pipe();
        let (err, erred) = pipe();
        Bench { theirs, ours, writers: [printed, erred], pipes: Some([out, err]) }
    }

    /// What is kept of what was said before a byte came over the socket.
    fn heard(&mut self, limit: usize) -> String {
        self.theirs.write_all(b"!").unwrap();
        let mut hearing = Hearing::new(&self.ours, self.pipes.take(), limit, "n1".into(), Nobody);
        assert_eq!(hearing.read(&mut [0; 8]).unwrap(), 1);
        String::from_utf8(hearing.take_output().to_vec()).unwrap()
    }
}

#[test]
fn all_that_was_printed_before_a_frame_is_heard_with_it() {
    let mut bench = Bench::new();
    write!(bench.writers[0], "one\ntwo\r\n\nthree").unwrap();
    writeln!(bench.writers[1], "warned").unwrap();
    assert_eq!(bench.heard(1_000), "one\ntwo\nwarned\nthree\n");
}

#[test]
fn a_record_of_logging_is_told_from_what_is_printed() {
    let mut bench = Bench::new();
    writeln!(bench.writers[1], "{MARK}L30{FIELD}app.work{FIELD}low on{BREAK}room").unwrap();
    writeln!(bench.writers[1], "{MARK}Lx{FIELD}no record").unwrap();
    writeln!(bench.writers[1], "begun{MARK}P3{FIELD}4.5{FIELD}half").unwrap();
    writeln!(bench.writers[0], "{MARK}L30{FIELD}app{FIELD}printed").unwrap();
    let heard = bench.heard(1_000);
    assert!(heard.contains("WARNING app.work: low on\nroom\n"), "{heard:?}");
    assert!(heard.contains("begun\n") && !heard.contains("half"), "{heard:?}");
    assert!(heard.contains(&format!("{MARK}Lx{FIELD}no record\n")), "{heard:?}");
    assert!(heard.contains(&format!("{MARK}L30{FIELD}app{FIELD}printed\n")), "{heard:?}");
}

#[test]
fn a_bar_counts_as_its_last_look() {
    let mut bench = Bench::new();
    (0..3_000).for_each(|n| write!(bench.writers[1], "\r{n:>5} done").unwrap());
    assert_eq!(bench.heard(1_000), " 2999 done\n");
}

#[test]
fn the_last_lines_are_kept_whole_within_the_bound() {
    let mut bench = Bench::new();
    (0..100).for_each(|n| writeln!(bench.writers[0], "line é {n}").unwrap());
    let heard = bench.heard(64);
    assert!(heard.len() <= 64 && heard.ends_with("line é 99\n"), "{heard:?}");
    assert!(heard.starts_with("line é "), "{heard:?}");
    assert_eq!(Bench::new().heard(0), "");
}

#[test]
fn a_line_without_end_is_cut_and_bytes_that_are_no_text_are_shown_as_such() {
    let mut bench = Bench::new();
    bench.writers[0].write_all(&vec![b'x'; MAX_LINE + 10]).unwrap();
    bench.writers[1].write_all(b"\xff\n").unwrap();
    let heard = bench.heard(64 << 10);
    assert!(heard.contains(&"x".repeat(MAX_LINE)) && heard.contains('\u{fffd}'));
}

#[test]
fn what_a_dead_runner_said_last_is_not_lost() {
    let mut bench = Bench::new();
    writeln!(bench.writers[1], "Fatal: out of luck").unwrap();
    let hearing = Hearing::new(&bench.ours, bench.pipes.take(), 100, "n1".into(), Nobody);
    let output = hearing.finish();
    assert_eq!(last_line(&output).as_deref(), Some("Fatal: out of luck"));
    assert_eq!(last_line(b" \n"), None);
}
