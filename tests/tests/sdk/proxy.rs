//! A homeserver that lies: stands before the true one and changes what it answers. It can also be
//! gone, and come back.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

/// A request that has come, and what the true server says to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: String,
    /// With the query.
    pub path: String,
    pub status: u16,
    /// Null if it is not JSON.
    pub response: Value,
    /// Whether the connection breaks before this is answered, and all others with it: from then on
    /// there is nobody, until [`Liar::comes_back`].
    pub breaks: bool,
}

impl Exchange {
    /// Whether the path has this in it.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

type Lie = Box<dyn FnMut(&mut Exchange) + Send>;

pub struct Liar {
    pub url: String,
    /// Has the port without listening on it, so that nobody else gets it while it is closed.
    port: TcpSocket,
    shared: Arc<Shared>,
    door: Mutex<Option<JoinHandle<()>>>,
}

/// What all connections have in common.
struct Shared {
    upstream: String,
    http: reqwest::Client,
    lie: Mutex<Lie>,
    seen: Mutex<Vec<Exchange>>,
    /// The connections are to be broken off.
    breaks: Notify,
}

impl Liar {
    /// Stands before the homeserver, and tells the truth for now.
    pub fn before(homeserver: &str) -> Self {
        let port = socket("127.0.0.1:0".parse().unwrap());
        let shared = Arc::new(Shared {
            upstream: homeserver.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
            lie: Mutex::new(Box::new(|_: &mut Exchange| {})),
            seen: Mutex::default(),
            breaks: Notify::new(),
        });
        let url = format!("http://{}", port.local_addr().unwrap());
        let liar = Self { url, port, shared, door: Mutex::default() };
        liar.comes_back();
        liar
    }

    /// From now on every answer goes through this.
    pub fn lie(&self, lie: impl FnMut(&mut Exchange) + Send + 'static) {
        *self.shared.lie.lock().unwrap() = Box::new(lie);
    }

    /// What was asked and answered so far, with the lies.
    pub fn seen(&self) -> Vec<Exchange> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.port.local_addr().unwrap()
    }

    /// Breaks all connections off, and refuses new ones.
    pub async fn goes_away(&self) {
        self.shared.breaks.notify_one();
        self.is_gone().await;
    }

    /// Waits until an answer has made it go away.
    pub async fn is_gone(&self) {
        let door = self.door.lock().unwrap().take();
        door.expect("it is gone already").await.unwrap();
    }

    /// Takes connections again.
    pub fn comes_back(&self) {
        let listener = socket(self.address()).listen(1024).unwrap();
        let door = tokio::spawn(open(listener, Arc::clone(&self.shared)));
        let before = self.door.lock().unwrap().replace(door);
        assert!(before.is_none(), "it is there already");
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        if let Some(door) = self.door.lock().unwrap().take() {
            door.abort();
        }
    }
}

/// A socket on an address that several may have, of which one listens.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Takes connections until they break.
async fn open(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shared.breaks.notified() => break,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { break };
                let shared = Arc::clone(&shared);
                // It ends when the client hangs up.
                connections.spawn(async move { serve(stream, &shared).await });
            }
            // So that they do not pile up.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    let Shared { upstream, http, lie, seen, breaks } = shared;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut request = http.request(method.parse().ok()?, format!("{upstream}{path}"));
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await.ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" | "content-type" => request = request.header(name, value),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let response = request.body(body).send().await.ok()?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.ok()?;
        let response = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut exchange = Exchange { method, path, status, response, breaks: false };
        (lie.lock().unwrap())(&mut exchange);
        if exchange.breaks {
            breaks.notify_one();
            return None;
        }
        let body = serde_json::to_vec(&exchange.response).ok()?;
        let head = format!(
            "HTTP/1.1 {} Lie\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            exchange.status,
            body.len()
        );
        seen.lock().unwrap().push(exchange);
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}
