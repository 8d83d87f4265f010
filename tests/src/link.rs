//! The link between two homeservers, as whoever may cut it sees it.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::error::LinkError;

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// The link. It belongs to whoever has this, and is whole again when this is dropped.
#[derive(Debug)]
pub struct Link {
    control: BufReader<TcpStream>,
    names: [String; 2],
}

impl Link {
    /// Takes the link over, as soon as nobody else has it. `control` is the `host:port` of its
    /// control.
    pub async fn take(control: &str) -> Result<Self, LinkError> {
        let mut link = Self {
            control: BufReader::new(TcpStream::connect(control).await?),
            names: [String::new(), String::new()],
        };
        let greeting = link.line().await?;
        let words: Vec<_> = greeting.split_ascii_whitespace().collect();
        let ["ready", a, b] = words[..] else { return Err(LinkError::Answer(greeting)) };
        link.names = [a.to_owned(), b.to_owned()];
        Ok(link)
    }

    /// The name of a server: what its users' IDs end in.
    pub fn server_name(&self, side: Side) -> &str {
        let [a, b] = &self.names;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// From now on neither server reaches the other one; what was under way is broken off.
    pub async fn cut(&mut self) -> Result<(), LinkError> {
        self.ask("cut").await
    }

    /// The same for requests to one server. The other direction stays as it is.
    pub async fn cut_to(&mut self, side: Side) -> Result<(), LinkError> {
        self.ask(match side {
            Side::A => "cut a",
            Side::B => "cut b",
        })
        .await
    }

    /// Everything takes this much longer from now on, in each direction. Whole milliseconds count.
    pub async fn delay(&mut self, time: Duration) -> Result<(), LinkError> {
        self.ask(&format!("delay {}", time.as_millis())).await
    }

    /// Undoes cuts and delays. The servers may take a while to notice.
    pub async fn heal(&mut self) -> Result<(), LinkError> {
        self.ask("heal").await
    }

    async fn ask(&mut self, command: &str) -> Result<(), LinkError> {
        self.control.write_all(format!("{command}\n").as_bytes()).await?;
        match self.line().await? {
            answer if answer == "ok" => Ok(()),
            answer => Err(LinkError::Answer(answer)),
        }
    }

    async fn line(&mut self) -> Result<String, LinkError> {
        let mut line = String::new();
        self.control.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }
}
