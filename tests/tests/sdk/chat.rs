//! The chat client, driven by what is typed and what it writes.

use std::{path::Path, time::Duration};

use matrix_mls_chat::{Options, run};
use matrix_mls_tests::{Account, HttpClient};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, duplex},
    task::JoinHandle,
    time::timeout,
};

use crate::support::homeserver;

/// Somebody who sits before the chat client.
struct Person {
    typed: DuplexStream,
    screen: Lines<BufReader<DuplexStream>>,
    seen: Vec<String>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Person {
    async fn sit_down(http: &HttpClient, account: &Account, folder: &Path) -> Self {
        let (typed, input) = duplex(64 * 1024);
        let (output, screen) = duplex(64 * 1024);
        let options = Options {
            homeserver: http.base_url.clone(),
            user: Some(account.user_id.to_string()),
            password: Some(account.password.clone()),
            folder: folder.to_owned(),
            passphrase: Some("a passphrase".to_owned()),
        };
        let task = tokio::spawn(run(options, BufReader::new(input), output));
        let screen = BufReader::new(screen).lines();
        let mut person = Self { typed, screen, seen: Vec::new(), task };
        person.sees("/help").await;
        person
    }

    async fn types(&mut self, line: &str) {
        self.typed.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads on until there is a line with this in it.
    async fn sees(&mut self, words: &str) -> String {
        let found = timeout(Duration::from_secs(60), async {
            loop {
                let line = self.screen.next_line().await.unwrap().expect("the program has ended");
                self.seen.push(line.clone());
                if line.contains(words) {
                    return line;
                }
            }
        });
        match found.await {
            Ok(line) => line,
            Err(_) => panic!("waited in vain for {words:?}, saw {:#?}", self.seen),
        }
    }

    async fn leaves(mut self) {
        self.types("/quit").await;
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn two_people_chat_and_one_of_them_comes_back_later() {
    let http = homeserver().await;
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (alice, _) = Account::register(&http, "alice").await.unwrap();
    let (bob, _) = Account::register(&http, "bob").await.unwrap();
    let mut at_hers = Person::sit_down(&http, &alice, folders.0.path()).await;
    let mut at_his = Person::sit_down(&http, &bob, folders.1.path()).await;

    at_hers.types(&format!("/new evening {}", bob.user_id)).await;
    let line = at_hers.sees("is open").await;
    let room = line.split(' ').next().unwrap().to_owned();
    at_his.types(&format!("/join {room}")).await;
    at_his.sees("is open").await;
    at_hers.sees(&format!("{}: InvitationAccepted", bob.user_id)).await;
    at_hers.types("good evening").await;
    at_hers.sees("> good evening").await;
    let line = at_his.sees("good evening").await;
    assert_eq!(line, format!("<{}> good evening", alice.user_id));
    at_his.types("good evening yourself").await;
    at_hers.sees("good evening yourself").await;
    at_hers.types("/who").await;
    at_hers.sees("reads along, verified").await;
    at_hers.types("/epoch").await;
    at_hers.sees("2 devices").await;
    at_hers.types("/nonsense").await;
    at_hers.sees("! there is no /nonsense").await;

    at_his.leaves().await;
    at_hers.types("still there?").await;
    at_hers.sees("still there?").await;
    let mut at_his = Person::sit_down(&http, &bob, folders.1.path()).await;
    at_his.types("/rooms").await;
    at_his.sees("evening (Joined)").await;
    at_his.types(&format!("/open {room}")).await;
    at_his.sees("good evening yourself").await;
    at_his.sees("still there?").await;
    at_his.types("yes").await;
    at_hers.sees("> yes").await;
    at_hers.leaves().await;
    at_his.leaves().await;
}
