//! A TCP forwarder that can be switched off and slowed down.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::spawn;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Takes connections on a port of its own and passes them on, unless it is cut.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    wire: Arc<Mutex<Wire>>,
}

/// What happens to the connections.
#[derive(Debug, Default)]
struct Wire {
    /// Where they go; nowhere before that is known.
    target: Option<u16>,
    is_cut: bool,
    /// How long each piece of data is held back, in each direction.
    delay: Duration,
    is_closed: bool,
    /// Both ends of those that are open, each under its number.
    open: Vec<(u64, [TcpStream; 2])>,
    count: u64,
}

impl Relay {
    /// Opens the port.
    pub fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let port = listener.local_addr()?.port();
        let wire = Arc::new(Mutex::default());
        let relay = Self { port, wire: Arc::clone(&wire) };
        spawn("relay", move || accept(&listener, &wire))?;
        Ok(relay)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says where connections go from now on.
    pub fn lead_to(&self, port: u16) {
        lock(&self.wire).target = Some(port);
    }

    /// Breaks the open connections, and lets no new one through until [`Self::heal`].
    pub fn cut(&self) {
        let mut wire = lock(&self.wire);
        wire.is_cut = true;
        wire.break_all();
    }

    /// Lets connections through again, at once.
    pub fn heal(&self) {
        let mut wire = lock(&self.wire);
        wire.is_cut = false;
        wire.delay = Duration::ZERO;
    }

    /// Holds data back for this time, in each direction.
    pub fn delay(&self, delay: Duration) {
        lock(&self.wire).delay = delay;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut wire = lock(&self.wire);
        wire.is_closed = true;
        wire.break_all();
        drop(wire);
        // The thread that accepts sees that it is over when somebody comes.
        let _ = connect(self.port);
    }
}

impl Wire {
    fn break_all(&mut self) {
        for (_, ends) in self.open.drain(..) {
            for end in ends {
                // It may have ended by itself.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, wire: &Arc<Mutex<Wire>>) {
    for near in listener.incoming() {
        if lock(wire).is_closed {
            return;
        }
        // What cannot be passed on is closed, as it is while the wire is cut. The caller tries again.
        if let Ok(near) = near {
            let _ = pass_on(near, wire);
        }
    }
}

fn pass_on(near: TcpStream, wire: &Arc<Mutex<Wire>>) -> std::io::Result<()> {
    let target = {
        let wire = lock(wire);
        wire.target.filter(|_| !wire.is_cut)
    };
    let Some(target) = target else { return Ok(()) };
    let far = connect(target)?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
    }
    let ends = [near.try_clone()?, far.try_clone()?];
    let number = {
        let mut wire = lock(wire);
        // It may have been cut in the meantime.
        if wire.is_cut || wire.is_closed {
            return Ok(());
        }
        wire.count += 1;
        let number = wire.count;
        wire.open.push((number, ends));
        number
    };
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let wire = Arc::clone(wire);
        spawn("relay", move || {
            copy(&from, &to, &wire);
            lock(&wire).open.retain(|(other, _)| *other != number);
        })?;
    }
    Ok(())
}

/// Copies until one side ends, which ends the other one too.
fn copy(mut from: &TcpStream, mut to: &TcpStream, wire: &Mutex<Wire>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let delay = lock(wire).delay;
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        let Some(piece) = buffer.get(..length) else { break };
        if to.write_all(piece).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // It may have ended by itself.
        let _ = end.shutdown(Shutdown::Both);
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_LIMIT)
}

/// The wire is never left half-changed, so a panic elsewhere does no harm.
fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::{echo, says};

    #[test]
    fn what_goes_in_comes_out_in_both_directions() {
        let relay = Relay::open().unwrap();
        relay.lead_to(echo());
        let mut stream = connect(relay.port()).unwrap();
        assert_eq!(says(&mut stream, "hello").unwrap(), "hello");
        relay.delay(Duration::from_millis(1));
        assert_eq!(says(&mut stream, "slowly").unwrap(), "slowly");
    }

    #[test]
    fn a_cut_breaks_what_is_open_and_lets_nothing_through_until_it_heals() {
        let relay = Relay::open().unwrap();
        relay.lead_to(echo());
        let mut before = connect(relay.port()).unwrap();
        assert_eq!(says(&mut before, "hello").unwrap(), "hello");

        relay.cut();
        assert!(says(&mut before, "still there?").is_err());
        let mut during = connect(relay.port()).unwrap();
        assert!(says(&mut during, "anybody?").is_err());

        relay.heal();
        assert!(says(&mut before, "again?").is_err(), "what broke stays broken");
        let mut after = connect(relay.port()).unwrap();
        assert_eq!(says(&mut after, "hello again").unwrap(), "hello again");
    }

    #[test]
    fn there_is_nobody_before_it_leads_anywhere() {
        let relay = Relay::open().unwrap();
        let mut stream = connect(relay.port()).unwrap();
        assert!(says(&mut stream, "hello").is_err());
    }

    #[test]
    fn the_port_is_free_when_it_is_dropped() {
        let relay = Relay::open().unwrap();
        relay.lead_to(echo());
        let mut stream = connect(relay.port()).unwrap();
        assert_eq!(says(&mut stream, "hello").unwrap(), "hello");
        let port = relay.port();
        drop(relay);
        assert!(says(&mut stream, "still there?").is_err());
        // The listener ends on a thread of its own.
        while connect(port).is_ok() {
            thread::yield_now();
        }
    }
}
