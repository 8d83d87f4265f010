//! A device in a process of its own, which is killed at the n-th write of every command.
//!
//! This process is the world: the server and the other devices. The child is one device, with its two
//! stores. Its requests and syncs are lines on its output, and their answers on its input.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use matrix_sdk_crypto_mls::testing::{DeviceName, RemoteServer, SimLink};
use matrix_sdk_mls_sqlite::WriteHook;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{
    device::{Command, Endangered, Report},
    story::{Victim, World, at_every_write},
};

const DIRECTORY: &str = "MLS_SQLITE_MACHINE_DIRECTORY";
const TEST: &str = "kill::killed_at_every_write_of_every_command";

/// A line to the child.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Open the stores and start the machines.
    Start { name: DeviceName, kill_at: i64 },
    /// Do something, and be killed at a write: 0 is the next one, negative is never.
    Do { command: Command, kill_at: i64 },
    /// The server's answer.
    Answer(String),
}

/// A line from the child.
#[derive(Serialize, Deserialize)]
enum Word {
    /// To the server.
    Ask(String),
    /// It is done.
    Done(Report),
}

/// In the child. The test harness writes to the output too, but no line that begins like ours.
fn say(word: &Word) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{}", serde_json::to_string(word).unwrap()).unwrap();
    out.flush().unwrap();
}

fn hear() -> Option<Order> {
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line).unwrap();
    (length > 0).then(|| serde_json::from_str(&line).unwrap())
}

/// How many syncs are done. Written to another file and renamed, as applications do with such things.
fn syncs_file(directory: &Path) -> PathBuf {
    directory.join("syncs")
}

#[tokio::main(flavor = "current_thread")]
async fn child(directory: &Path) {
    let countdown = Arc::new(AtomicI64::new(-1));
    let left = Arc::clone(&countdown);
    let hook: WriteHook = Arc::new(move |_| {
        if left.fetch_sub(1, Ordering::SeqCst) == 0 {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        Ok(())
    });
    let Some(Order::Start { name, kill_at }) = hear() else { panic!("not started") };
    countdown.store(kill_at, Ordering::SeqCst);
    let olm = Endangered::olm(directory, &name).await;
    let store = Endangered::store(directory, hook).await;
    let synced = fs::read_to_string(syncs_file(directory)).map_or(0, |text| text.parse().unwrap());
    let server = RemoteServer::new(synced, |line| {
        say(&Word::Ask(line));
        match hear() {
            Some(Order::Answer(answer)) => answer,
            _ => panic!("not an answer"),
        }
    });
    let endangered = Endangered::starts(store, olm, server.device(name)).await;
    say(&Word::Done(Report::default()));
    while let Some(order) = hear() {
        let Order::Do { command, kill_at } = order else { panic!("not an order") };
        countdown.store(kill_at, Ordering::SeqCst);
        let report = endangered.obeys(&command).await.unwrap();
        countdown.store(-1, Ordering::SeqCst);
        let new = directory.join("syncs.new");
        fs::write(&new, endangered.device.syncs_done().to_string()).unwrap();
        fs::rename(&new, syncs_file(directory)).unwrap();
        say(&Word::Done(report));
    }
    endangered.store.close().await.unwrap();
}

/// In the parent: the child's process.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn spawns(directory: &Path) -> Self {
        let mut child = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Gives an order, and what the child asks meanwhile to the server. `None` if it was killed.
    fn obeys(&mut self, order: &Order, link: &mut SimLink) -> Option<Report> {
        self.write(order);
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).unwrap() == 0 {
                let status = self.child.wait().unwrap();
                assert_eq!(status.signal(), Some(9), "{status}");
                return None;
            }
            if !line.starts_with('{') {
                continue;
            }
            match serde_json::from_str(&line).unwrap() {
                Word::Ask(call) => self.write(&Order::Answer(link.serves(&call))),
                Word::Done(report) => return Some(report),
            }
        }
    }

    fn write(&mut self, order: &Order) {
        writeln!(self.input, "{}", serde_json::to_string(order).unwrap()).unwrap();
    }

    fn ends(mut self) {
        drop(self.input);
        // What the harness says to the end, so that it can.
        std::io::copy(&mut self.output, &mut std::io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

struct Killed {
    directory: TempDir,
    world: Arc<World>,
    link: SimLink,
    /// `None` before it has started.
    process: Option<Process>,
    /// At which write of every command.
    at: i64,
    kills: usize,
}

impl Killed {
    /// The process, started anew if it must be. A device that was killed when it started is not killed
    /// there again.
    fn process(&mut self) -> &mut Process {
        let mut kill_at = self.at;
        while self.process.is_none() {
            let mut process = Process::spawns(self.directory.path());
            let start = Order::Start { name: self.world.vera.clone(), kill_at };
            if process.obeys(&start, &mut self.link).is_some() {
                self.process = Some(process);
            } else {
                self.kills += 1;
                kill_at = -1;
            }
        }
        self.process.as_mut().unwrap()
    }

    fn tries(&mut self, command: &Command, kill_at: i64) -> Option<Report> {
        self.process();
        let order = Order::Do { command: command.clone(), kill_at };
        let (process, link) = (self.process.as_mut().unwrap(), &mut self.link);
        let report = process.obeys(&order, link);
        if report.is_none() {
            self.process = None;
            self.kills += 1;
        }
        report
    }
}

impl Victim for Killed {
    async fn does(&mut self, command: Command) -> Report {
        if let Some(report) = self.tries(&command, self.at) {
            return report;
        }
        if matches!(&command, Command::Say(_, text) if self.world.has_heard(text)) {
            return Report::default();
        }
        // It goes on from what was stored.
        self.tries(&command, -1).unwrap()
    }
}

/// The story with a kill at the n-th write of every command. How many there were.
async fn story(at: i64) -> usize {
    let world = Arc::new(World::begins().await);
    let link = SimLink::new(&world.server, &world.vera);
    let directory = tempfile::tempdir().unwrap();
    let mut victim =
        Killed { directory, world: Arc::clone(&world), link, process: None, at, kills: 0 };
    world.tells(&mut victim).await;
    if let Some(process) = victim.process.take() {
        process.ends();
    }
    victim.kills
}

#[test]
fn killed_at_every_write_of_every_command() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        child(Path::new(&directory));
        return;
    }
    let (writes, kills) = at_every_write(|at| story(at.into()));
    eprintln!("{kills} kills, at up to {writes} writes");
    assert!(writes > 10 && kills > 100, "{kills} kills, at up to {writes} writes");
}
