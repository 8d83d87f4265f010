//! The program in a terminal, as people use it, on a real homeserver: with MLS, without, and one beside
//! the other.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

use std::{
    env,
    io::{Read as _, Write},
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use matrix_mls_tests::{Account, HttpClient};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(90);

const ROWS: NonZeroU16 = NonZeroU16::new(40).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(150).unwrap();

/// One of the two programs that the same source makes.
struct Program {
    path: PathBuf,
    is_mls: bool,
}

impl Program {
    /// With the feature `mls`.
    fn with_mls() -> Self {
        Self { path: env!("CARGO_BIN_EXE_matrix-mls-chat").into(), is_mls: true }
    }

    /// Without it. Cargo gives a test the program with the test's own features only, so `cargo xtask test`
    /// builds this one.
    fn without_mls() -> Self {
        let path = env::var_os("MLS_TEST_CHAT_WITHOUT_MLS");
        Self { path: path.expect("MLS_TEST_CHAT_WITHOUT_MLS is not set").into(), is_mls: false }
    }

    /// How a new room is shown among the others.
    const fn new_room(&self) -> &'static str {
        if self.is_mls { "MLS? evening" } else { "E2EE evening" }
    }

    /// How it is when somebody has spoken in it.
    const fn room(&self) -> &'static str {
        if self.is_mls { "MLS  evening" } else { "E2EE evening" }
    }
}

/// Somebody who sits before the program, in a terminal of its own.
struct Person {
    name: &'static str,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// All that was ever written.
    written: Vec<u8>,
    _terminal: Box<dyn MasterPty + Send>,
}

/// Where to log in, and as whom.
struct Login<'a>(&'a HttpClient, &'a Account);

impl Person {
    /// Starts the program.
    fn sits_down(name: &'static str, program: &Program, folder: &Path) -> Self {
        let size = PtySize { rows: ROWS.get(), cols: COLUMNS.get(), ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(&program.path);
        command.arg("--folder");
        command.arg(folder);
        command.env("TERM", "xterm-256color");
        command.env("MLS_CHAT_PASSPHRASE", "a passphrase");
        command.env_remove("MLS_CHAT_PASSWORD");
        let child = pair.slave.spawn_command(command).unwrap();
        // So that reading ends with the program.
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (bytes, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if bytes.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        let screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        let written = Vec::new();
        Self { name, child, keyboard, output, screen, written, _terminal: pair.master }
    }

    /// The first time on the user's first device, which is verified by that.
    fn logs_in(name: &'static str, program: &Program, folder: &Path, at: &Login<'_>) -> Self {
        let mut person = Self::enters(name, program, folder, at);
        person.sees("this device is verified");
        person
    }

    /// The first time: everything is asked for.
    fn enters(name: &'static str, program: &Program, folder: &Path, at: &Login<'_>) -> Self {
        let Login(http, account) = *at;
        let mut person = Self::sits_down(name, program, folder);
        person.sees("Homeserver:");
        person.types(&http.base_url);
        person.sees("User:");
        person.types(account.user_id.as_str());
        person.sees("Password:");
        person.types(&account.password);
        person.sees("online");
        let written = String::from_utf8_lossy(&person.written).into_owned();
        assert!(written.contains(account.user_id.as_str()) && !written.contains(&account.password));
        person
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    fn presses(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    fn types(&mut self, line: &str) {
        self.presses(line);
        self.presses("\r");
    }

    /// Looks at the screen until something is so.
    fn watches(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(&self.text()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.screen.process(&bytes);
                    self.written.extend(bytes);
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} waits in vain for {what}:\n{}", self.name, self.text())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} waits for {what}, but it has ended:\n{}", self.name, self.text())
                }
            }
        }
    }

    fn sees(&mut self, words: &str) {
        self.watches(&format!("{words:?}"), |screen| screen.contains(words));
    }

    /// What is to be compared, line by line.
    fn emojis(&mut self) -> Vec<String> {
        self.sees("on both screens? /yes or /no");
        let screen = self.text();
        let panel = screen.lines().skip_while(|line| !line.contains("Verification")).skip(1);
        let panel = panel.filter_map(|line| line.trim_end_matches('│').rsplit('│').next());
        panel.map(|line| line.trim().to_owned()).take_while(|line| !line.is_empty()).collect()
    }

    /// The lines on the screen with these words.
    fn lines_with(&self, words: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(words)).map(ToOwned::to_owned).collect()
    }

    /// Ends the program, which gives the terminal back as it was.
    fn leaves(mut self) {
        self.types("/quit");
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.screen.process(&bytes);
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status:?}\n{}", self.name, self.text());
        assert!(!self.screen.screen().alternate_screen());
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // By its ID; it is gone if all went well.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

const F2: &str = "\x1bOQ";
const F3: &str = "\x1bOR";
const F4: &str = "\x1bOS";

/// Has two people do something on the homeserver that `cargo xtask test` has started.
async fn two_people(what: impl FnOnce(&HttpClient, &Account, &Account) + Send + 'static) {
    let url = env::var("MLS_TEST_HOMESERVER").expect("MLS_TEST_HOMESERVER is not set");
    let http = HttpClient::connect(url).await.unwrap();
    let (alice, _) = Account::register(&http, "alice").await.unwrap();
    let (bob, _) = Account::register(&http, "bob").await.unwrap();
    tokio::task::spawn_blocking(move || what(&http, &alice, &bob)).await.unwrap();
}

#[tokio::test]
async fn two_people_chat_and_one_of_them_comes_back_later() {
    two_people(|http, alice, bob| evening(&Program::with_mls(), http, alice, bob)).await;
}

/// The same evening, with the program that has nothing of MLS.
#[tokio::test]
async fn two_people_chat_without_mls() {
    two_people(|http, alice, bob| evening(&Program::without_mls(), http, alice, bob)).await;
}

fn evening(program: &Program, http: &HttpClient, alice: &Account, bob: &Account) {
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut at_hers = Person::logs_in("Alice", program, folders.0.path(), &Login(http, alice));
    let mut at_his = Person::logs_in("Bob", program, folders.1.path(), &Login(http, bob));

    at_hers.types("/new evening");
    at_hers.sees(program.new_room());
    at_hers.types(&format!("/invite {}", bob.user_id));
    at_hers.sees("is invited");
    at_his.sees("new  evening");
    at_his.types("/join");
    at_his.sees(program.new_room());
    at_hers.sees("has joined");
    for line in at_hers.lines_with("has joined") {
        assert!(!line.contains("not encrypted"), "{line}");
    }
    at_hers.types("good evening");
    at_hers.sees("-alice> good evening");
    // He has not verified her, and is told so.
    at_his.sees("-alice> good evening [not verified]");
    at_his.sees(program.room());
    at_hers.sees(program.room());
    at_his.types("good evening yourself");
    at_hers.sees("-bob> good evening yourself [not verified]");
    at_his.sees("-bob> good evening yourself");

    at_hers.types("/reply how are you?");
    at_his.sees("↪ how are you?");
    at_hers.sees("↪ how are you?");
    at_hers.types("/edit and how are you?");
    at_his.sees("and how are you? (edited)");
    at_his.types("/react 👍");
    at_hers.sees("👍");
    at_hers.types("/nonsense");
    at_hers.sees("! there is no /nonsense");
    // Ctrl-U: it stays to be mended.
    at_hers.presses("\x15");

    // What can never be sent is taken back.
    at_hers.presses(&format!("\x1b[200~{}\x1b[201~", "too long ".repeat(6_000)));
    at_hers.presses("\r");
    at_hers.sees("! a message was not sent");
    at_hers.sees("1 waiting to be sent");
    at_hers.types("/cancel");
    at_hers.watches("nothing that waits", |screen| !screen.contains("waiting to be sent"));
    // Lines that are pasted are one message.
    at_hers.presses("\x1b[200~one line\ranother line\x1b[201~");
    at_hers.presses("\r");
    at_his.sees("-alice> one line");
    at_his.sees("another line");
    let (sent, saved) = (folders.0.path().join("note.txt"), folders.1.path().join("saved.txt"));
    std::fs::write(&sent, "something to keep").unwrap();
    at_hers.types(&format!("/file {}", sent.display()));
    at_his.sees("[file, /save PATH] note.txt");
    at_his.types(&format!("/save {}", saved.display()));
    at_his.sees("saved.txt is written");
    assert_eq!(std::fs::read_to_string(&saved).unwrap(), "something to keep");

    at_hers.presses(F2);
    if program.is_mls {
        at_hers.sees("reads along, verified");
        at_hers.sees("reads along, not verified");
    } else {
        at_hers.sees(&format!("{} join not verified", bob.user_id));
    }
    at_hers.presses(F3);
    if program.is_mls {
        at_hers.sees("2 devices");
        at_hers.sees("1 branches");
        at_hers.sees("founds");
    } else {
        at_hers.sees("This is not an MLS room.");
    }
    at_hers.presses(F3);
    at_hers.watches("no panel", |screen| {
        !screen.contains("2 devices") && !screen.contains("This is not")
    });

    at_his.leaves();
    at_hers.types("still there?");
    at_hers.sees("-alice> still there?");
    let mut at_his = Person::sits_down("Bob", program, folders.1.path());
    at_his.sees(program.room());
    at_his.sees("good evening yourself");
    at_his.sees("and how are you? (edited)");
    at_his.sees("-alice> still there? [not verified]");
    at_his.types("yes");
    at_hers.sees("-bob> yes");
    at_hers.leaves();
    at_his.leaves();
    for folder in [folders.0, folders.1] {
        assert_eq!(folder.path().join("matrix-sdk-mls.sqlite3").exists(), program.is_mls);
    }
}

/// Who has no MLS can be in an MLS room, and neither reads nor says anything there; the others see
/// that.
#[tokio::test]
async fn a_program_without_mls_says_nothing_in_an_mls_room() {
    two_people(|http, alice, bob| {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (with, without) = (Program::with_mls(), Program::without_mls());
        let mut at_hers = Person::logs_in("Alice", &with, folders.0.path(), &Login(http, alice));
        let mut at_his = Person::logs_in("Bob", &without, folders.1.path(), &Login(http, bob));
        at_hers.types(&format!("/new evening {}", bob.user_id));
        at_his.sees("new  evening");
        at_his.types("/join");
        at_his.sees("E2EE evening");
        at_hers.sees("has joined");

        at_hers.types("can you read this?");
        at_hers.sees("-alice> can you read this?");
        at_hers.sees("MLS  evening");
        at_his.sees("-alice> not readable");
        at_hers.presses(F2);
        at_hers.sees("has no MLS, not verified");
        at_hers.presses(F4);
        at_hers.sees("cannot read along");

        at_his.types("in the clear?");
        at_his.sees("! a message was not sent");
        at_his.sees("1 waiting to be sent");
        at_his.leaves();
        // Nor when it starts again.
        let mut at_his = Person::sits_down("Bob", &without, folders.1.path());
        at_his.sees("1 waiting to be sent");
        at_his.types("/retry");
        at_his.sees("! a message was not sent");
        at_hers.types("so you cannot");
        at_his.watches("two messages", |screen| screen.matches("> not readable").count() == 2);
        at_hers.sees("-alice> so you cannot");
        for person in [&at_hers, &at_his] {
            assert!(person.lines_with("-bob>").is_empty(), "{}", person.text());
        }
        at_hers.leaves();
        at_his.leaves();
    })
    .await;
}

#[tokio::test]
async fn people_verify_one_another_and_their_own_devices() {
    two_people(verification).await;
}

/// Somebody asks somebody else, and both find that they see the same.
fn verify(asks: &mut Person, command: &str, is_asked: &mut Person) {
    asks.types(command);
    is_asked.sees("wants to verify. /yes or /no");
    is_asked.types("/yes");
    let emojis = asks.emojis();
    assert_eq!(emojis.len(), 7, "{emojis:?}");
    assert_eq!(is_asked.emojis(), emojis);
    for person in [asks, is_asked] {
        person.types("/yes");
    }
}

fn verification(http: &HttpClient, alice: &Account, bob: &Account) {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let program = Program::with_mls();
    let mut at_hers = Person::logs_in("Alice", &program, folders[0].path(), &Login(http, alice));
    let mut at_his = Person::logs_in("Bob", &program, folders[1].path(), &Login(http, bob));
    at_hers.types(&format!("/new evening {}", bob.user_id));
    at_his.sees("new  evening");
    at_his.types("/join");
    at_hers.sees("has joined");
    at_hers.types("who is there?");
    at_his.sees("who is there? [not verified]");

    at_his.types("/yes");
    at_his.sees("! nothing is being verified");
    verify(&mut at_his, &format!("/verify {}", alice.user_id), &mut at_hers);
    at_his.sees(&format!("{} is verified", alice.user_id));
    at_hers.sees(&format!("{} is verified", bob.user_id));
    at_hers.presses(F2);
    at_hers.sees(&format!("{} join verified", bob.user_id));
    at_his.presses(F2);
    at_his.sees(&format!("{} join verified", alice.user_id));
    at_hers.types("it was me");
    at_his.sees("-alice> it was me");
    for line in at_his.lines_with("-alice> it was me") {
        assert!(!line.contains("not verified"), "{line}");
    }

    // Another device of hers is let in when it is verified, not before.
    let mut again =
        Person::enters("Alice, again", &program, folders[2].path(), &Login(http, alice));
    again.sees("this device is not verified");
    again.sees("MLS? evening");
    verify(&mut again, "/verify", &mut at_hers);
    again.sees("this device is verified");
    let screen = again.text();
    let device = screen.split_whitespace().nth(1).unwrap();
    at_hers.watches("her other device", |screen| {
        let mut lines = screen.lines().filter(|line| line.contains(device));
        lines.any(|line| line.contains("verified") && !line.contains("not verified"))
    });
    at_hers.types("hello, other me");
    again.sees("-alice> hello, other me");
    again.sees("MLS  evening");
    // What was said before is not for it, and it says so.
    again.sees("-alice> not readable (");
    again.types("hello, everybody");
    at_his.sees("-alice> hello, everybody");
    for line in at_his.lines_with("hello, everybody") {
        assert!(!line.contains("not verified"), "{line}");
    }
    for person in [at_hers, at_his, again] {
        person.leaves();
    }
}
