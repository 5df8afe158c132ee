//! A client just large enough to ask a simulator: one request a connection, plain or TLS.
//! What the answers must be is left to the tests.
#![allow(clippy::expect_used)]
#![allow(dead_code)] // each test file uses its own part

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use pancake_simulator::{PageHandle, Settings, Simulator};
use serde_json::Value;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

pub const PAGE: &str = "100000000000001";

pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &&str| line.to_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(line).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    /// The ids of a conversations reply.
    pub fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let rows = self.json()["conversations"].as_array().expect("conversations").clone();
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    }
}

pub struct Shop {
    pub simulator: Simulator,
    pub page: PageHandle,
}

/// A simulator of one page with so many conversations.
pub fn shop(conversations: usize) -> Shop {
    with(Settings::of(conversations))
}

pub fn with(settings: Settings) -> Shop {
    let simulator = Simulator::start(settings).expect("a simulator");
    let page = simulator.first_page();
    Shop { simulator, page }
}

impl Shop {
    /// A conversations request with these parameters, well-mannered.
    pub fn list(&self, params: &str) -> Got {
        let url = format!("/public_api/v2/pages/{}/conversations?{params}", self.page.id());
        self.get(&url).expect("a reply")
    }

    /// A v1 request of this page.
    pub fn v1(&self, path: &str, params: &str) -> Got {
        self.get(&format!("/public_api/v1/pages/{}/{path}?{params}", self.page.id())).expect("a reply")
    }

    /// A request with the page's token.
    pub fn get(&self, url: &str) -> io::Result<Got> {
        self.raw(&format!("{url}&page_access_token={}", self.page.token()), "Accept: application/json\r\n")
    }

    pub fn raw(&self, url: &str, headers: &str) -> io::Result<Got> {
        let address = self.simulator.base_url();
        let (_, rest) = address.split_once("://").expect("a scheme");
        let (host, api) = rest.split_at(rest.find('/').expect("a path"));
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request =
            format!("GET {api}{url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        let Some(ca) = self.simulator.ca_pem() else { return ask(&mut stream, &request) };
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        ask(&mut rustls::StreamOwned::new(session, stream), &request)
    }

    /// All ids in the order they come, walking by cursor from batch to batch.
    pub fn walk(&self, params: &str) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        let mut batch = self.list(params).ids();
        while let Some(last) = batch.last() {
            let cursor = format!("{params}&last_conversation_id={last}");
            ids.append(&mut batch);
            batch = self.list(&cursor).ids();
        }
        ids
    }
}

fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<Got> {
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    if let Err(error) = stream.read_to_end(&mut reply)
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(error);
    }
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut body = reply.split_off(end + 4);
    let got = Got { status, head, body: Vec::new() };
    if got.header("transfer-encoding") == Some("chunked") {
        body = unchunk(&body).ok_or(io::ErrorKind::UnexpectedEof)?;
    }
    if got.header("content-length").is_some_and(|length| length != body.len().to_string()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Got { body, ..got })
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(line + 2..line + 2 + size)?);
        body = body.get(line + 4 + size..)?;
    }
}
