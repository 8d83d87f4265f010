//! The port that takes commands for the link, one line each.
//!
//! ```text
//! ready localhost:40001 localhost:40002     the link is yours; the servers' names, a and b
//! > cut                                     neither server reaches the other
//! ok
//! > cut a                                   b does not reach a
//! > delay 200                               what goes through takes 200 ms longer, each way
//! > heal                                    as it was in the beginning
//! ```

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use super::{names, relay::Relay, spawn};

/// No command is longer than this, in bytes.
const MAX_LINE: u64 = 256;

/// The control port. It is gone when this is dropped.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_closed: AtomicBool,
    client: Mutex<Option<TcpStream>>,
}

/// A line that somebody has sent.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// Lets nothing through to these servers.
    Cut(&'static [usize]),
    Delay(Duration),
    Heal,
}

impl Control {
    /// Opens the port.
    pub fn open(relays: Arc<[Relay; 2]>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let control = Self { address, shared: Arc::clone(&shared) };
        spawn("link control", move || {
            for client in listener.incoming() {
                if shared.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                // However the client has gone: the next one finds the link whole.
                let _ = client.and_then(|client| serve(&client, &relays, &shared));
                relays.iter().for_each(Relay::heal);
            }
        })?;
        Ok(control)
    }

    /// Where it is.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        let client = self.shared.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(client) = client {
            // It may have gone.
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
        // The thread that accepts sees that it is over when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: &TcpStream, relays: &[Relay; 2], shared: &Shared) -> std::io::Result<()> {
    *shared.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.try_clone()?);
    let mut out = client;
    let [a, b] = names(relays);
    writeln!(out, "ready {a} {b}")?;
    let mut lines = BufReader::new(client);
    loop {
        let mut line = String::new();
        if std::io::Read::take(&mut lines, MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        match Command::parse(&line) {
            Some(command) => {
                command.run(relays);
                writeln!(out, "ok")?;
            }
            None => writeln!(out, "error: cut [a|b], delay MILLISECONDS or heal")?,
        }
    }
}

impl Command {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        Some(match words[..] {
            ["cut"] => Self::Cut(&[0, 1]),
            ["cut", "a"] => Self::Cut(&[0]),
            ["cut", "b"] => Self::Cut(&[1]),
            ["delay", time] => Self::Delay(Duration::from_millis(time.parse().ok()?)),
            ["heal"] => Self::Heal,
            _ => return None,
        })
    }

    fn run(&self, relays: &[Relay; 2]) {
        match self {
            Self::Cut(which) => which.iter().filter_map(|i| relays.get(*i)).for_each(Relay::cut),
            Self::Delay(time) => relays.iter().for_each(|relay| relay.delay(*time)),
            Self::Heal => relays.iter().for_each(Relay::heal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::{echo, says};

    /// A client of the control port, once it has been served.
    struct Client(BufReader<TcpStream>);

    impl Client {
        fn connect(address: &str) -> Self {
            let mut client = Self(BufReader::new(TcpStream::connect(address).unwrap()));
            assert!(client.line().starts_with("ready localhost:"));
            client
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn ask(&mut self, command: &str) -> String {
            writeln!(self.0.get_mut(), "{command}").unwrap();
            self.line()
        }
    }

    fn relays() -> Arc<[Relay; 2]> {
        let relays = Arc::new([Relay::open().unwrap(), Relay::open().unwrap()]);
        relays.iter().for_each(|relay| relay.lead_to(echo()));
        relays
    }

    fn lets_through(relay: &Relay) -> bool {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        says(&mut stream, "hello").is_ok_and(|answer| answer == "hello")
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(Command::parse("cut\n"), Some(Command::Cut(&[0, 1])));
        assert_eq!(Command::parse("cut b"), Some(Command::Cut(&[1])));
        let delay = Command::Delay(Duration::from_millis(200));
        assert_eq!(Command::parse("delay 200"), Some(delay));
        assert_eq!(Command::parse("heal"), Some(Command::Heal));
        for line in ["", "cut c", "delay", "delay x", "heal now"] {
            assert_eq!(Command::parse(line), None, "{line}");
        }
    }

    #[test]
    fn each_direction_is_cut_by_itself() {
        let relays = relays();
        let control = Control::open(Arc::clone(&relays)).unwrap();
        let mut client = Client::connect(&control.address());
        assert_eq!(client.ask("cut a"), "ok");
        assert!(!lets_through(&relays[0]) && lets_through(&relays[1]));
        assert_eq!(client.ask("cut"), "ok");
        assert!(!lets_through(&relays[0]) && !lets_through(&relays[1]));
        assert!(client.ask("heel").starts_with("error"));
        assert_eq!(client.ask("heal"), "ok");
        assert!(lets_through(&relays[0]) && lets_through(&relays[1]));
    }

    #[test]
    fn clients_are_served_one_after_the_other_and_find_the_link_whole() {
        let relays = relays();
        let control = Control::open(Arc::clone(&relays)).unwrap();
        let address = control.address();
        let mut first = Client::connect(&address);
        assert_eq!(first.ask("cut"), "ok");
        let second = std::thread::spawn(move || Client::connect(&address));
        assert!(!lets_through(&relays[0]) && !lets_through(&relays[1]));
        drop(first);
        let _second = second.join().unwrap();
        assert!(lets_through(&relays[0]) && lets_through(&relays[1]));
    }
}
