// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client asked for: as much of HTTP/1.1 (RFC 9112) as the clients of registries use.

use std::io::{self, BufRead, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Of a request's head, and of its body.
const LIMIT: u64 = 1 << 20;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, for instance.
    pub method: String,
    /// The path with its query, as it was sent.
    pub target: String,
    /// Names and values in the order in which they came, as they were sent.
    pub headers: Vec<(String, String)>,
    /// What came after the head.
    pub body: Vec<u8>,
    /// How many requests for the same method and target came before this one.
    pub earlier: usize,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what:?}"))
}

impl Request {
    /// Reads one; none where the client ended the connection instead.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        let mut head = stream.take(LIMIT);
        loop {
            let mut line = Vec::new();
            if head.read_until(b'\n', &mut line)? == 0 {
                return if lines.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let line = String::from_utf8(line).map_err(|_| malformed("bytes"))?;
            match line.trim_end_matches(['\r', '\n']) {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut lines = lines.iter();
        let first = lines.next().ok_or_else(|| malformed("an empty line"))?;
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed(first));
        };
        if !version.starts_with("HTTP/1.") {
            return Err(malformed(first));
        }
        let header = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let headers: Option<Vec<_>> = lines.map(header).collect();
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.ok_or_else(|| malformed("a header without a colon"))?,
            body: Vec::new(),
            earlier: 0,
        };
        let length = request.header("Content-Length").map_or(Ok(0), str::parse);
        let length = length.ok().filter(|length| *length <= LIMIT).ok_or_else(|| malformed("Content-Length"))?;
        head.get_mut().take(length).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query; empty without one.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The values of a parameter of the query, decoded.
    pub fn parameters(&self, name: &str) -> Vec<String> {
        values(self.query(), name)
    }

    /// The values of a field of the form that was sent, decoded.
    pub fn form(&self, name: &str) -> Vec<String> {
        values(&String::from_utf8_lossy(&self.body), name)
    }

    /// The value of a header, whatever the case of its name; of several the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The user and the password of an `Authorization: Basic` (RFC 7617).
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header("Authorization")?.strip_prefix("Basic ")?;
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// Method and target in one line, to compare.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

fn values(form: &str, name: &str) -> Vec<String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
}

/// Decodes what a form encodes.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
