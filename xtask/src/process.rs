//! Child processes that end when we do, and the signals that tell us to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

/// How long a process may take to end by itself after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(50);

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// From here on, the first Ctrl-C, SIGTERM or SIGHUP asks for an orderly end, and the second ends
/// us at once.
pub fn catch_signals() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal)?;
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&INTERRUPTED))?;
        flag::register_usize(signal, Arc::clone(&SIGNAL), number)?;
        flag::register(signal, Arc::clone(&INTERRUPTED))?;
    }
    Ok(())
}

/// The exit code that tells a shell which signal ended us, if one did.
pub fn signal_exit_code() -> Option<u8> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => None,
        number => u8::try_from(128 + number).ok(),
    }
}

/// Tells work on another thread that its result is no longer wanted.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks for an early end. Whether this was the first to ask.
    pub fn cancel(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// Fails when somebody asked for an early end, or a signal did.
    pub fn check(&self) -> Result<()> {
        if INTERRUPTED.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        if self.0.load(Ordering::SeqCst) {
            bail!("cancelled, because another part failed");
        }
        Ok(())
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<ExitStatus> {
    run_until(command, &Cancel::default())
}

/// Runs a command to its end, or until it is no longer wanted.
pub fn run_until(command: &mut Command, cancel: &Cancel) -> Result<ExitStatus> {
    wait(spawn(command)?, cancel)
}

/// Runs a command, and fails if the command does.
pub fn check(command: &mut Command) -> Result<()> {
    check_until(command, &Cancel::default())
}

/// Like [`check`], until it is no longer wanted.
pub fn check_until(command: &mut Command, cancel: &Cancel) -> Result<()> {
    let status = run_until(command, cancel)?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(())
}

/// Like [`check`], passing the output on while picking the lines that `wanted` chooses.
pub fn check_picking(command: &mut Command, wanted: fn(&str) -> bool) -> Result<Vec<String>> {
    let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (status, picked) = thread::scope(|scope| {
        let out = scope.spawn(|| pass_on(out, std::io::stdout(), wanted));
        let err = scope.spawn(|| pass_on(err, std::io::stderr(), wanted));
        let status = wait(child, &Cancel::default());
        let picked = [out, err].into_iter().flat_map(|reader| reader.join().unwrap_or_default());
        (status, picked.collect())
    });
    let status = status?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(picked)
}

/// The standard output of a command that must succeed and shows its errors itself.
pub fn capture(command: &mut Command, cancel: &Cancel) -> Result<Vec<u8>> {
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    let out = child.stdout.take();
    let (status, output) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut output = Vec::new();
            out.map(|mut out| out.read_to_end(&mut output)).transpose().map(|_| output)
        });
        (wait(child, cancel), reader.join())
    });
    let status = status?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(output.map_err(|_| anyhow!("cannot read the output"))??)
}

/// The standard output of a short command that must succeed, with its errors in ours.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", display(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", display(command), output.status, errors.trim());
    }
    Ok(output.stdout)
}

/// Whether a program is there and answers: its output does not matter.
pub fn succeeds(command: &mut Command) -> bool {
    output(command).is_ok()
}

/// What a shell would report as the exit code.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The command as one would type it.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Asks a child to end, insists after [`GRACE`], and takes its process group along.
pub fn stop(child: &mut Child) {
    signal_group(child.id(), Signal::TERM);
    if wait_at_most(child, GRACE).is_none() {
        signal_group(child.id(), Signal::KILL);
        // A killed process ends; an error here means that it already has.
        let _ = child.wait();
    }
}

/// Waits for a child to end, for a limited time.
pub fn wait_at_most(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if begin.elapsed() >= limit {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Signals a process that is not our child. That it may be gone is not an error.
pub fn signal_process(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Signals a process group that [`Command::process_group`] made. That it may be gone is not an
/// error.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// The command line of a running process; none if there is no such process.
pub fn command_line(pid: u32) -> Option<String> {
    if std::path::Path::new("/proc/self/cmdline").exists() {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A process that has ended but is not collected yet has no words.
        return (!words.is_empty()).then(|| String::from_utf8_lossy(&words).replace('\0', " "));
    }
    let words = output(Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]));
    words.ok().map(|words| String::from_utf8_lossy(&words).into_owned())
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The group lets us stop what the child itself started; a terminal's Ctrl-C reaches only us.
fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{}`", display(command)))
}

fn wait(mut child: Child, cancel: &Cancel) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Err(reason) = cancel.check() {
            stop(&mut child);
            return Err(reason);
        }
        thread::sleep(POLL);
    }
}

fn pass_on(
    from: Option<impl Read>,
    mut to: impl Write,
    wanted: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut picked = Vec::new();
    let Some(from) = from else { return picked };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // Nothing is lost for the checks when nobody reads our output.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if wanted(&text) {
            picked.push(text.trim().to_owned());
        }
        line.clear();
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        assert_eq!(exit_code(run(&mut command).unwrap()), 7);

        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        assert_eq!(exit_code(run(&mut command).unwrap()), 137);
    }

    #[test]
    fn a_cancelled_command_ends_with_what_it_started() {
        let cancel = Cancel::default();
        cancel.cancel();
        let begin = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & wait"]);
        run_until(&mut command, &cancel).unwrap_err();
        assert!(begin.elapsed() < GRACE);
    }

    #[test]
    fn lines_are_picked_and_the_rest_only_passed_on() {
        let mut passed = Vec::new();
        let picked =
            pass_on(Some(&b"one\n two\nthree"[..]), &mut passed, |line| line.contains('t'));
        assert_eq!(picked, ["two", "three"]);
        assert_eq!(passed, b"one\n two\nthree");
    }

    #[test]
    fn our_own_command_line_is_found_and_an_impossible_one_is_not() {
        assert!(command_line(std::process::id()).unwrap().contains("xtask"));
        assert_eq!(command_line(u32::MAX), None);
    }
}
