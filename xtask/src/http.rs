//! As much HTTP as it takes to see whether a homeserver on this machine answers.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A port of the loopback interface that was free a moment ago. Another process may take it before
/// it is used, so the caller must be ready to try again.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether a GET of this path on this machine is answered with 200.
pub fn answers(port: u16, path: &str) -> bool {
    status_line(port, path).is_ok_and(|line| is_ok(&line))
}

fn status_line(port: u16, path: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

fn is_ok(status_line: &str) -> bool {
    let mut words = status_line.split_ascii_whitespace();
    words.next().is_some_and(|version| version.starts_with("HTTP/1."))
        && words.next() == Some("200")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn only_200_is_an_answer() {
        assert!(is_ok("HTTP/1.1 200 OK\r\n"));
        assert!(!is_ok("HTTP/1.1 503 200\r\n"));
        assert!(!is_ok(""));
    }

    #[test]
    fn a_server_that_answers_is_seen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<_> = request.take_while(|line| !line.is_empty()).collect();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            request
        });
        assert!(answers(port, "/ready"));
        assert_eq!(server.join().unwrap().first().unwrap(), "GET /ready HTTP/1.1");
        assert!(!answers(port, "/ready"), "the server is gone");
    }
}
