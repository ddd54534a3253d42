//! One runner subprocess: spawn, send, kill, reap. Knows processes and sockets, not tasks.
//!
//! A runner leads a process group of its own: a Ctrl-C at the terminal does not reach it, and it can be killed
//! together with whatever its callbacks started. Its socket is its stdin, so `std` may use `posix_spawn`; its stdout
//! and stderr are pipes, and nothing else is inherited.

use super::PoolOptions;
use super::output::Pipes;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Stack of the few small threads of this module.
pub(super) const STACK: usize = 256 << 10;

/// A live runner as the node holds it.
pub(super) struct Runner {
    pid: libc::pid_t,
    /// Our end; close-on-exec, so no sibling keeps it open.
    pub(super) socket: UnixStream,
    /// False once the process is reaped: from then on its id may belong to somebody else.
    alive: Mutex<bool>,
    /// What the socket has not taken yet, while a thread sends it.
    unsent: Mutex<Option<Vec<u8>>>,
}

impl Runner {
    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// One without a process, at the other end of a socket.
    #[cfg(test)]
    pub(super) fn without_process(socket: UnixStream) -> Arc<Runner> {
        let (alive, unsent) = (Mutex::new(false), Mutex::default());
        Arc::new(Runner { pid: 0, socket, alive, unsent })
    }

    /// Starts a runner. Takes about a millisecond: never called on a runtime thread.
    pub(super) fn spawn(options: &PoolOptions) -> io::Result<(Arc<Runner>, Child, Option<Pipes>)> {
        let (program, arguments) = options
            .argv
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "argv is empty"))?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(options.env.iter().map(|(key, value)| (key, value)))
            .env_remove("HUSTINGS_TOKEN")
            .env("HUSTINGS_ALLOW_PICKLE", if options.allow_pickle { "1" } else { "0" })
            .env("HUSTINGS_PAYLOAD_LIMIT", options.payload_limit.to_string())
            .env("HUSTINGS_NODE_PID", std::process::id().to_string())
            .env("HUSTINGS_STREAM_LIMITS", options.stream.to_text())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = child.id() as libc::pid_t;
        lower_priority(pid, options.nice);
        let pipes = pipes(&mut child);
        let (alive, unsent) = (Mutex::new(true), Mutex::default());
        Ok((Arc::new(Runner { pid, socket: ours, alive, unsent }), child, pipes))
    }

    /// Sends whole frames, in the order of the calls. Never blocks: what the socket does not take at once, a short-
    /// lived thread sends, at most one at a time.
    pub(super) fn send(self: &Arc<Self>, bytes: &[u8]) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = unsent.as_mut() {
            return rest.extend_from_slice(bytes);
        }
        let sent = match self.write(bytes, libc::MSG_DONTWAIT) {
            Ok(sent) if sent == bytes.len() => return,
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.kill(),
        };
        *unsent = Some(bytes[sent..].to_vec());
        drop(unsent);
        let runner = Arc::clone(self);
        let name = "hustings-send".to_owned();
        let rest = move || runner.send_rest();
        if thread::Builder::new().name(name).stack_size(STACK).spawn(rest).is_err() {
            self.kill();
        }
    }

    /// Sends what is unsent, and what is added meanwhile.
    fn send_rest(&self) {
        loop {
            let bytes = {
                let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
                match unsent.as_mut() {
                    Some(rest) if !rest.is_empty() => std::mem::take(rest),
                    _ => {
                        *unsent = None;
                        return;
                    }
                }
            };
            let mut at = 0;
            while at < bytes.len() {
                match self.write(&bytes[at..], 0) {
                    Ok(count) => at += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return self.kill(),
                }
            }
        }
    }

    fn write(&self, bytes: &[u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and length are those of a live slice, the descriptor is owned by `self.socket`.
        let sent = unsafe {
            libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// SIGKILL to the runner and its whole process group, unless it is gone already.
    pub(super) fn kill(&self) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            self.kill_group();
        }
    }

    /// Tells it that its attempt is not wanted any more, by a signal that `hustings._runner` handles.
    pub(super) fn ask(&self) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            // SAFETY: a plain system call. The process is not reaped yet, so its id cannot belong to anybody else.
            unsafe { libc::kill(self.pid, libc::SIGUSR1) };
        }
    }

    fn kill_group(&self) {
        // SAFETY: plain system calls. The process is not reaped yet, so neither id can belong to anybody else.
        unsafe {
            libc::kill(-self.pid, libc::SIGKILL);
            libc::kill(self.pid, libc::SIGKILL);
        }
    }

    /// Lets an idle runner end by itself: it reads the end of the stream.
    pub(super) fn close(&self) {
        // A socket that is closed already is what we want.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Waits for the end of the process, kills what it left behind in its group, ends the stream, and says in words
    /// how it ended. Waiting on the process and not on the stream: a grandchild may hold the stream open.
    pub(super) fn reap(&self, mut child: Child) -> String {
        self.wait_unreaped();
        {
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            self.kill_group();
            *alive = false;
        }
        let words = match child.wait() {
            Ok(status) => describe(status),
            Err(error) => format!("runner ended, nobody knows how ({error})"),
        };
        // What it sent before its end stays readable.
        let _ = self.socket.shutdown(Shutdown::Both);
        words
    }

    /// Blocks until the process has ended but leaves it a zombie, so that its id stays ours.
    fn wait_unreaped(&self) {
        loop {
            // SAFETY: all-zero is a valid `siginfo_t`, and the kernel writes only into it.
            let result = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::waitid(
                    libc::P_PID,
                    self.pid as libc::id_t,
                    &raw mut info,
                    libc::WEXITED | libc::WNOWAIT,
                )
            };
            if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }
}

/// Our ends of its pipes; reading them never blocks.
fn pipes(child: &mut Child) -> Option<Pipes> {
    let pipes = [OwnedFd::from(child.stdout.take()?), OwnedFd::from(child.stderr.take()?)];
    for pipe in &pipes {
        // SAFETY: a plain system call on a descriptor we own, which has no other flag.
        unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    }
    Some(pipes)
}

/// Callbacks must not starve the control plane, neither this node's nor another's on the same machine.
fn lower_priority(pid: libc::pid_t, nice: i32) {
    // SAFETY: plain system calls on a child that is not reaped. A refusal leaves the priority as it was.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, own.saturating_add(nice).min(19));
    }
}

/// How a process ended, in words.
fn describe(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let hint = match signal {
            libc::SIGKILL => "; out of memory, or killed by hand",
            _ => "",
        };
        return match signal_name(signal) {
            Some(name) => format!("runner killed by signal {signal} ({name}{hint})"),
            None => format!("runner killed by signal {signal}"),
        };
    }
    match status.code() {
        Some(code) => format!("runner exited with code {code}"),
        None => format!("runner ended: {status}"),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
