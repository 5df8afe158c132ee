//! A server that serves one body whatever it is asked, for replies that no JSON library would
//! write.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use e2e::{Session, Shop};

use super::impatient;

pub const REQUEST_ID: &str = "F-canned-1";

/// A shop whose server serves `body` to the first request of a scan, and an empty list to one that
/// goes on from there.
pub fn shop(body: &[u8]) -> (Shop<'static>, Session) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = body.to_vec();
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &body);
        }
    });
    let shop = impatient(0);
    let mut session = shop.connect().unwrap();
    let alter = format!("ALTER SERVER shop OPTIONS (SET base_url 'http://127.0.0.1:{port}/api')");
    session.execute(&alter).unwrap();
    (shop, session)
}

/// The same with a list of these rows.
pub fn rows(rows: &str) -> (Shop<'static>, Session) {
    shop(format!(r#"{{"success":true,"conversations":[{rows}]}}"#).as_bytes())
}

fn answer(mut stream: TcpStream, body: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let skips = head.contains("current_count=") && !head.contains("current_count=0&");
    let body = if head.contains("last_conversation_id") || skips {
        &br#"{"success":true,"conversations":[],"messages":[]}"#[..]
    } else {
        body
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: {REQUEST_ID}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
