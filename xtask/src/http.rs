//! As much HTTP as it takes to see whether a homeserver on this machine answers.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Ports of the loopback interface that were free a moment ago. Another process may take them before
/// they are used, so the caller must be ready to try again.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // All are held until the last is known, so that none comes twice.
    let mut listeners = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Whether a GET of this path on this machine is answered with 200.
pub fn answers(port: u16, path: &str) -> bool {
    status(port, path) == Some(200)
}

/// The status of the answer to a GET of this path on this machine; none without an answer.
pub fn status(port: u16, path: &str) -> Option<u16> {
    parse_status(&status_line(port, path).ok()?)
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

fn parse_status(status_line: &str) -> Option<u16> {
    let mut words = status_line.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn free_ports_can_be_bound_and_are_different() {
        let [one, two] = free_ports().unwrap();
        let _one = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        let _two = TcpListener::bind((Ipv4Addr::LOCALHOST, two)).unwrap();
    }

    #[test]
    fn the_status_of_an_answer_is_read() {
        assert_eq!(parse_status("HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(parse_status("HTTP/1.1 503 200\r\n"), Some(503));
        assert_eq!(parse_status("SSH-2.0 200"), None);
        assert_eq!(parse_status(""), None);
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
