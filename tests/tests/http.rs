//! The HTTP client against a server with prepared answers: retries, errors, counting.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use matrix_mls_tests::{HttpClient, HttpError, WireCount};
use reqwest::StatusCode;
use ruma::{
    api::{
        client::{account::whoami, membership::leave_room},
        error::ErrorCode,
    },
    owned_room_id,
};

const VERSIONS: &str = r#"{"versions":["v1.11"]}"#;

type Answer = (&'static str, &'static str, &'static str);

/// Gives one answer (status line, header, body) to each request in turn, and then the lines `METHOD
/// path` that it saw.
fn serve(
    answers: Vec<Answer>,
) -> anyhow::Result<(String, JoinHandle<std::io::Result<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for (status, header, body) in answers {
            let (stream, _) = listener.accept()?;
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line)?;
            seen.push(line.trim_end_matches(" HTTP/1.1\r\n").to_owned());
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            write!(
                reader.get_mut(),
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{header}\r\n{body}",
                body.len()
            )?;
        }
        Ok(seen)
    });
    Ok((url, server))
}

#[tokio::test]
async fn waits_as_long_as_a_rate_limit_says_and_then_tries_again() {
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":120}"#;
    let (url, server) = serve(vec![
        ("200 OK", "", VERSIONS),
        ("429 Too Many Requests", "", limited),
        ("429 Too Many Requests", "", limited),
        ("200 OK", "", "{}"),
    ])
    .unwrap();
    let http = HttpClient::connect(url).await.unwrap().with_token("token");

    let start = Instant::now();
    http.send(leave_room::v3::Request::new(owned_room_id!("!r:x"))).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(240));

    let seen = server.join().unwrap().unwrap();
    assert_eq!(seen[0], "GET /_matrix/client/versions");
    assert_eq!(seen[1..], ["POST /_matrix/client/v3/rooms/!r:x/leave"; 3]);
    let received = u64::try_from(2 * limited.len() + 2).unwrap();
    assert_eq!(http.wire_log.get("POST /leave"), WireCount { requests: 3, sent: 6, received });
}

#[tokio::test]
async fn gives_up_on_a_rate_limit_that_does_not_end() {
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":1}"#;
    let mut answers = vec![("200 OK", "", VERSIONS)];
    answers.extend([("429 Too Many Requests", "", limited); 6]);
    let (url, server) = serve(answers).unwrap();
    let http = HttpClient::connect(url).await.unwrap().with_token("token");

    let error = http.send(whoami::v3::Request::new()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(error.errcode(), Some(&ErrorCode::LimitExceeded));
    assert_eq!(server.join().unwrap().unwrap().len(), 7);
}

#[tokio::test]
async fn tells_kinds_of_failure_apart() {
    let (url, server) = serve(vec![
        ("200 OK", "", VERSIONS),
        ("403 Forbidden", "", r#"{"errcode":"M_FORBIDDEN","error":"no"}"#),
        ("502 Bad Gateway", "", "<html>"),
        ("200 OK", "", r#"{"user_id":3}"#),
        ("401 Unauthorized", "", r#"{"flows":[{"stages":["m.login.dummy"]}],"session":"s"}"#),
    ])
    .unwrap();
    let http = HttpClient::connect(url).await.unwrap();
    let with_token = http.with_token("token");
    let request = whoami::v3::Request::new();

    let error = with_token.send(request.clone()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
    assert_eq!(error.errcode(), Some(&ErrorCode::Forbidden));
    let error = with_token.send(request.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::NotMatrix(StatusCode::BAD_GATEWAY)), "{error:?}");
    let error = with_token.send(request.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::Response(_)), "{error:?}");
    let error = with_token.send(request.clone()).await.unwrap_err();
    let HttpError::InteractiveAuth(challenge) = error else { panic!("{error:?}") };
    assert_eq!(challenge.session.as_deref(), Some("s"));

    server.join().unwrap().unwrap();
    let error = with_token.send(request.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::Transport(_)), "{error:?}");
    let error = http.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::Request(_)), "{error:?}");
}
