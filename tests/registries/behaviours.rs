// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a registry, or what calls itself one, may answer: the good and the bad.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::digest;
use super::hostile::Reply;
use super::request::Request;

/// For ever, as far as a test can tell.
const EVER: Duration = Duration::from_secs(3600);

impl Reply<'_> {
    /// What `/v2/` gives where nobody has to log in.
    pub fn welcome(&mut self) -> io::Result<()> {
        let headers = [("Content-Type", "application/json"), ("Docker-Distribution-Api-Version", "registry/2.0")];
        self.send(200, &headers, b"{}")
    }

    /// A manifest with its type and its true digest.
    pub fn manifest(&mut self, media_type: &str, content: &[u8]) -> io::Result<()> {
        self.manifest_called(media_type, &digest(content), content)
    }

    /// A manifest with whatever digest in `Docker-Content-Digest`.
    pub fn manifest_called(&mut self, media_type: &str, digest: &str, content: &[u8]) -> io::Result<()> {
        self.send(200, &[("Content-Type", media_type), ("Docker-Content-Digest", digest)], content)
    }

    /// A manifest whose digest no header tells.
    pub fn manifest_without_digest(&mut self, media_type: &str, content: &[u8]) -> io::Result<()> {
        self.send(200, &[("Content-Type", media_type)], content)
    }

    /// An error in the form of the OCI distribution specification, such as 404 `MANIFEST_UNKNOWN` or 403 `DENIED`.
    pub fn error(&mut self, status: u16, code: &str, message: &str) -> io::Result<()> {
        self.error_with(status, code, message, &[])
    }

    /// As [`Reply::error`], with more headers.
    pub fn error_with(&mut self, status: u16, code: &str, message: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let body = json!({ "errors": [{ "code": code, "message": message, "detail": null }] }).to_string();
        self.send(status, &[&[("Content-Type", "application/json")], headers].concat(), body.as_bytes())
    }

    /// 401 with these values of `WWW-Authenticate`, each a header of its own.
    pub fn challenge(&mut self, challenges: &[&str]) -> io::Result<()> {
        let headers: Vec<_> = challenges.iter().map(|challenge| ("WWW-Authenticate", *challenge)).collect();
        self.error_with(401, "UNAUTHORIZED", "authentication required", &headers)
    }

    /// What a token server gives.
    pub fn token(&mut self, token: &str) -> io::Result<()> {
        self.send(200, &[("Content-Type", "application/json")], json!({ "token": token }).to_string().as_bytes())
    }

    /// 429 `TOOMANYREQUESTS`; `retry_after` is a number of seconds or a date.
    pub fn too_many(&mut self, retry_after: Option<&str>) -> io::Result<()> {
        let header = retry_after.map(|value| ("Retry-After", value));
        self.error_with(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", header.as_slice())
    }

    /// A manifest with the headers by which Docker Hub tells what is left of its limit
    /// (<https://docs.docker.com/docker-hub/usage/pulls/#view-pull-rate-and-limit>).
    pub fn limited(&mut self, media_type: &str, content: &[u8], remaining: u32) -> io::Result<()> {
        let (remaining, digest) = (format!("{remaining};w=21600"), digest(content));
        let headers = [
            ("Content-Type", media_type),
            ("Docker-Content-Digest", &digest),
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", &remaining),
            ("docker-ratelimit-source", "192.0.2.1"),
        ];
        self.send(200, &headers, content)
    }

    /// Sends the client elsewhere.
    pub fn redirect(&mut self, status: u16, location: &str) -> io::Result<()> {
        self.send(status, &[("Location", location)], b"")
    }

    /// A page for people, as of a captive portal.
    pub fn portal(&mut self) -> io::Result<()> {
        let page = b"<!DOCTYPE html><html><body><h1>Welcome to the hotel!</h1>Please log in.</body></html>";
        self.send(200, &[("Content-Type", "text/html; charset=utf-8")], page)
    }

    /// The page of a repository's tags that was asked for by `n` and `last`, with a link to the next, as Docker Hub and
    /// the OCI distribution specification have it; docker-registry 2.8 has no pages of tags.
    pub fn tags(&mut self, request: &Request, repository: &str, all: &[&str]) -> io::Result<()> {
        let count = request.parameters("n").first().and_then(|n| n.parse().ok()).unwrap_or(all.len());
        let last = request.parameters("last").into_iter().next();
        let begin = last.map_or(0, |last| all.iter().position(|tag| *tag == last).map_or(all.len(), |place| place + 1));
        let page = &all[begin..all.len().min(begin + count)];
        let next = match page.last() {
            Some(tag) if begin + page.len() < all.len() => {
                Some(format!("</v2/{repository}/tags/list?n={count}&last={tag}>; rel=\"next\""))
            }
            _ => None,
        };
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(next.as_deref().map(|next| ("Link", next)));
        self.send(200, &headers, json!({ "name": repository, "tags": page }).to_string().as_bytes())
    }

    /// One of endlessly many pages of tags; every one names the next (`Link`, OCI distribution specification).
    pub fn endless_tags(&mut self, repository: &str, page: usize) -> io::Result<()> {
        let tags: Vec<String> = (0..100).map(|number| format!("{page}.{number}")).collect();
        let next = format!("</v2/{repository}/tags/list?n=100&last={page}.99>; rel=\"next\"");
        let body = json!({ "name": repository, "tags": tags }).to_string();
        self.send(200, &[("Content-Type", "application/json"), ("Link", &next)], body.as_bytes())
    }

    /// The beginning of an index, and then its only string for `length` bytes, with `Content-Length`.
    pub fn huge(&mut self, media_type: &str, length: usize) -> io::Result<()> {
        self.head(200, &[("Content-Type", media_type), ("Content-Length", &length.to_string())])?;
        self.flood(length, false)
    }

    /// As [`Reply::huge`], in chunks, so that no header tells how much will come.
    pub fn huge_in_chunks(&mut self, media_type: &str, length: usize) -> io::Result<()> {
        self.head(200, &[("Content-Type", media_type), ("Transfer-Encoding", "chunked")])?;
        self.flood(length, true)
    }

    fn flood(&mut self, length: usize, chunked: bool) -> io::Result<()> {
        if self.is_head() {
            return Ok(());
        }
        let mut piece = br#"{"schemaVersion":2,"manifests":[],"annotations":{"a":""#.to_vec();
        let mut left = length;
        while left > 0 {
            piece.resize(left.min(64 << 10), b'a');
            if chunked {
                self.write(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            self.write(&piece)?;
            if chunked {
                self.write(b"\r\n")?;
            }
            left -= piece.len();
            piece.clear();
        }
        if chunked { self.write(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// `[[[[…`, this deep, and closed again.
    pub fn nested(&mut self, media_type: &str, depth: usize) -> io::Result<()> {
        let content = [vec![b'['; depth], vec![b']'; depth]].concat();
        self.manifest(media_type, &content)
    }

    /// A head, and then a byte a second.
    pub fn drip(&mut self, media_type: &str) -> io::Result<()> {
        self.head(200, &[("Content-Type", media_type), ("Content-Length", "1000000")])?;
        loop {
            self.pause(Duration::from_secs(1))?;
            self.write(b" ")?;
        }
    }

    /// A head that comes a byte a second.
    pub fn drip_head(&mut self) -> io::Result<()> {
        self.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
        loop {
            self.pause(Duration::from_secs(1))?;
            self.write(b"x")?;
        }
    }

    /// A head without an end.
    pub fn endless_head(&mut self) -> io::Result<()> {
        self.write(b"HTTP/1.1 200 OK\r\n")?;
        for number in 0.. {
            self.write(format!("X-{number}: {}\r\n", "x".repeat(1000)).as_bytes())?;
        }
        Ok(())
    }

    /// A head, and then nothing.
    pub fn stall(&mut self, media_type: &str) -> io::Result<()> {
        self.head(200, &[("Content-Type", media_type), ("Content-Length", "1000")])?;
        self.silence()
    }

    /// Nothing.
    pub fn silence(&mut self) -> io::Result<()> {
        self.pause(EVER)
    }

    /// Half of what the head promises, and the end.
    pub fn half(&mut self, media_type: &str, content: &[u8]) -> io::Result<()> {
        let (digest, length) = (digest(content), content.len().to_string());
        let headers = [("Content-Type", media_type), ("Docker-Content-Digest", &digest), ("Content-Length", &length)];
        self.head(200, &headers)?;
        self.write(&content[..content.len() / 2])
    }

    /// The end, without a byte.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "one of the answers")]
    pub fn hang_up(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Something else than HTTP.
    pub fn garbage(&mut self) -> io::Result<()> {
        self.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\x00\x01\x02\xff\xfe\r\n\r\n")
    }

    /// `Content-Encoding: gzip`, of which `length` zeros come: 159 for every byte that is sent.
    pub fn bomb(&mut self, media_type: &str, length: usize) -> io::Result<()> {
        self.head(200, &[("Content-Type", media_type), ("Content-Encoding", "gzip"), ("Connection", "close")])?;
        if self.is_head() {
            return Ok(());
        }
        // RFC 1952: a header; RFC 1951 3.2.6: a last block of fixed codes, the literal 0, and then "the last byte 258
        // times more" (length 285: 11000101, distance 1: 00000), of which eight fill 13 bytes.
        let deflated = bits(&format!("1 10 00110000 {}", "11000101 00000".repeat(16)));
        let (start, pattern) = (&deflated[..2], &deflated[2..15]);
        debug_assert_eq!(pattern[0], deflated[15]);
        self.write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])?;
        self.write(start)?;
        let many = pattern.repeat(1000);
        for _ in 0..length.div_ceil(8 * 258 * 1000) {
            self.write(&many)?;
        }
        Ok(())
    }
}

/// Bytes of bits, of which the first is the lowest of the first byte.
fn bits(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
    digits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, bit| value << 1 | bit)).collect()
}
