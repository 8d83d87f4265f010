//! The network between two servers on this machine, which can be cut.
//!
//! In front of each server's federation listener stands a relay, whose port is in the server's
//! name: so the other server reaches it through the relay only. A control port takes
//! the commands. It serves one client at a time, and when that one goes, in whatever way, the link
//! is whole again: a test that fails does not leave a cut behind.

mod control;
mod relay;

use std::{sync::Arc, thread};

use anyhow::Result;

use self::{control::Control, relay::Relay};

/// Two relays and their control port. It is gone when this is dropped.
#[derive(Debug)]
pub struct Link {
    relays: Arc<[Relay; 2]>,
    control: Control,
}

impl Link {
    /// Opens the ports. There is nobody behind the relays yet.
    pub fn open() -> Result<Self> {
        let relays = Arc::new([Relay::open()?, Relay::open()?]);
        let control = Control::open(Arc::clone(&relays))?;
        Ok(Self { relays, control })
    }

    /// The names of the two servers, as far as others are concerned.
    pub fn names(&self) -> [String; 2] {
        names(&self.relays)
    }

    /// Says where the two servers really listen.
    pub fn lead_to(&self, ports: [u16; 2]) {
        for (relay, port) in self.relays.iter().zip(ports) {
            relay.lead_to(port);
        }
    }

    /// Where the commands go: `host:port`.
    pub fn control(&self) -> String {
        self.control.address()
    }
}

fn names(relays: &[Relay; 2]) -> [String; 2] {
    relays.each_ref().map(|relay| format!("localhost:{}", relay.port()))
}

/// Threads of their own, because a connection blocks one in each direction.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpListener, TcpStream},
    };

    use super::*;

    /// The port of a server that sends back what it gets, on every connection.
    pub(super) fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        port
    }

    /// What such a server answers.
    pub(super) fn says(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes())?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn the_names_lead_to_the_servers() {
        let link = Link::open().unwrap();
        link.lead_to([echo(), echo()]);
        for name in link.names() {
            let (_, port) = name.rsplit_once(':').unwrap();
            let port: u16 = port.parse().unwrap();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert_eq!(says(&mut stream, "hello").unwrap(), "hello");
        }
    }
}
