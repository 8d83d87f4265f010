//! A homeserver that lies: stands before the true one and changes what it answers. It can also be
//! gone, and come back.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// `GET` and so on.
    pub method: String,
    /// With the query.
    pub path: String,
    /// The HTTP status.
    pub status: u16,
    /// Null if it is not JSON; then the bytes are passed on as they are, unless this is replaced.
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

/// The homeserver that lies, as long as it is not dropped. It listens on 127.0.0.1.
pub struct Liar {
    /// Its address for clients.
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
    pub fn before(homeserver: &str) -> io::Result<Self> {
        let port = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let shared = Arc::new(Shared {
            upstream: homeserver.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
            lie: Mutex::new(Box::new(|_: &mut Exchange| {})),
            seen: Mutex::default(),
            breaks: Notify::new(),
        });
        let url = format!("http://{}", port.local_addr()?);
        let liar = Self { url, port, shared, door: Mutex::default() };
        liar.comes_back()?;
        Ok(liar)
    }

    /// From now on every answer goes through this.
    pub fn lie(&self, lie: impl FnMut(&mut Exchange) + Send + 'static) {
        *lock(&self.shared.lie) = Box::new(lie);
    }

    /// What was asked and answered so far, with the lies.
    pub fn seen(&self) -> Vec<Exchange> {
        lock(&self.shared.seen).clone()
    }

    /// Where it is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Breaks all connections off, and refuses new ones.
    pub async fn goes_away(&self) -> io::Result<()> {
        self.shared.breaks.notify_one();
        self.is_gone().await
    }

    /// Waits until an answer has made it go away.
    pub async fn is_gone(&self) -> io::Result<()> {
        let door = lock(&self.door).take();
        let door = door.ok_or_else(|| io::Error::other("it is gone already"))?;
        Ok(door.await?)
    }

    /// Takes connections again.
    pub fn comes_back(&self) -> io::Result<()> {
        let mut door = lock(&self.door);
        if door.is_some() {
            return Err(io::Error::other("it is there already"));
        }
        let listener = socket(self.address()?)?.listen(1024)?;
        *door = Some(tokio::spawn(open(listener, Arc::clone(&self.shared))));
        Ok(())
    }
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Liar").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        if let Some(door) = lock(&self.door).take() {
            door.abort();
        }
    }
}

/// A socket on an address that several may have, of which one listens.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A test that has failed elsewhere is no reason to fail here.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        let is_json = json.is_some();
        let response = json.unwrap_or_default();
        let mut exchange = Exchange { method, path, status, response, breaks: false };
        (lock(lie))(&mut exchange);
        if exchange.breaks {
            breaks.notify_one();
            return None;
        }
        let (body, content_type) = if is_json || !exchange.response.is_null() {
            (serde_json::to_vec(&exchange.response).ok()?, "application/json")
        } else {
            (bytes.to_vec(), "application/octet-stream")
        };
        let head = format!(
            "HTTP/1.1 {} Lie\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            exchange.status,
            body.len()
        );
        lock(seen).push(exchange);
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}
