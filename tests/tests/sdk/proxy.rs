//! A homeserver that lies: stands before the true one and changes what it answers.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
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
    lie: Arc<Mutex<Lie>>,
    seen: Arc<Mutex<Vec<Exchange>>>,
    task: JoinHandle<()>,
}

impl Liar {
    /// Stands before the homeserver, and tells the truth for now.
    pub async fn before(homeserver: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lie: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(|_: &mut Exchange| {})));
        let seen = Arc::default();
        let upstream = homeserver.trim_end_matches('/').to_owned();
        let task = tokio::spawn({
            let (lie, seen) = (Arc::clone(&lie), Arc::clone(&seen));
            async move {
                let http = reqwest::Client::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (http, upstream) = (http.clone(), upstream.clone());
                    let (lie, seen) = (Arc::clone(&lie), Arc::clone(&seen));
                    // It ends when the client hangs up.
                    tokio::spawn(async move { serve(stream, http, &upstream, &lie, &seen).await });
                }
            }
        });
        Self { url, lie, seen, task }
    }

    /// From now on every answer goes through this.
    pub fn lie(&self, lie: impl FnMut(&mut Exchange) + Send + 'static) {
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    /// What was asked and answered so far, with the lies.
    pub fn seen(&self) -> Vec<Exchange> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    http: reqwest::Client,
    upstream: &str,
    lie: &Mutex<Lie>,
    seen: &Mutex<Vec<Exchange>>,
) -> Option<()> {
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
        let mut exchange = Exchange { method, path, status, response };
        (lie.lock().unwrap())(&mut exchange);
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
