// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that does what a test says, and remembers everything that it was asked.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Certificates;
use super::request::Request;
use super::serving::{Ending, Serving, lock};

/// The server.
pub struct Hostile {
    serving: Serving,
    record: Arc<Record>,
    scheme: &'static str,
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    busy: AtomicUsize,
    busiest: AtomicUsize,
    sent: AtomicU64,
}

/// A connection that waits for an answer: what a test's function writes to.
pub struct Reply<'a> {
    stream: &'a mut dyn Write,
    record: &'a Record,
    ending: &'a Ending,
    /// Whether the answer has no body.
    is_head: bool,
    /// Whether the connection can be used again.
    keep: bool,
}

impl Hostile {
    /// Starts one on 127.0.0.1. `answer` works on every request, in the thread of its connection; what it returns is
    /// only for `?`: clients close connections early, and that is no failure.
    pub fn new(answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, answer)
    }

    /// As [`Hostile::new`], on another address of the loopback device, which is another host to a client.
    pub fn at(
        address: Ipv4Addr,
        answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(address, None, answer)
    }

    /// As [`Hostile::new`], with TLS.
    pub fn tls(
        certificates: &Certificates,
        answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Ipv4Addr::LOCALHOST, Some(certificates.server_config()), answer)
    }

    fn start(
        address: Ipv4Addr,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = Serving::new(IpAddr::V4(address), move |stream, ending| {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            // What a client does wrong, or that it goes away, is for the test to find in the record.
            let _ = match &tls {
                None => converse(stream, &shared, ending, &answer),
                Some(config) => ServerConnection::new(Arc::clone(config))
                    .map_err(io::Error::other)
                    .and_then(|tls| converse(StreamOwned::new(tls, stream), &shared, ending, &answer)),
            };
        });
        Self { serving, record, scheme }
    }

    /// `ADDRESS:PORT`.
    pub fn address(&self) -> String {
        self.serving.address.to_string()
    }

    /// `SCHEME://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.record.requests).clone()
    }

    /// Methods and targets of everything that was asked so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    /// The bytes of answers that were written so far; the kernel takes some that the client never reads.
    pub fn sent(&self) -> u64 {
        self.record.sent.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.serving.open()
    }

    /// How many requests were worked on at the same time, at the most.
    pub fn busiest(&self) -> usize {
        self.record.busiest.load(Ordering::Relaxed)
    }
}

/// Answers requests until the client or an answer ends the connection.
fn converse<S: Read + Write>(
    stream: S,
    record: &Record,
    ending: &Ending,
    answer: &impl Fn(&Request, &mut Reply<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = Request::read(&mut stream)? {
        {
            let mut requests = lock(&record.requests);
            request.earlier = requests.iter().filter(|earlier| earlier.line() == request.line()).count();
            requests.push(request.clone());
        }
        record.busiest.fetch_max(record.busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let is_head = request.method == "HEAD";
        let is_last = request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let mut reply = Reply { stream: stream.get_mut(), record, ending, is_head, keep: false };
        let result = answer(&request, &mut reply);
        let keep = reply.keep;
        record.busy.fetch_sub(1, Ordering::Relaxed);
        result?;
        if !keep || is_last {
            break;
        }
    }
    Ok(())
}

impl Reply<'_> {
    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        self.record.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a status line and headers as they are given.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut lines = vec![format!("HTTP/1.1 {status} {}", reason(status))];
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        self.write(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    /// A whole and correct answer; without the body for `HEAD`. The connection stays open.
    pub fn send(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend_from_slice(headers);
        self.head(status, &all)?;
        self.keep = true;
        if self.is_head { Ok(()) } else { self.write(body) }
    }

    /// Ends the connection after this answer, although nothing in it said so.
    pub fn vanish(&mut self) {
        self.keep = false;
    }

    /// Whether the client asked by `HEAD`.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// Waits; an error when the server ends meanwhile.
    pub fn pause(&self, time: Duration) -> io::Result<()> {
        self.ending.pause(time)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unnamed",
    }
}
