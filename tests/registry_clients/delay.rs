// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network that takes its time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::registries::{Delay, Hostile};
use crate::wait_until;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";

/// All that comes before the end.
fn get(address: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(GET).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn everything_arrives_later_and_unchanged() {
    let content: Vec<u8> = (0..20_000_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
    let expected = content.clone();
    let server = Hostile::new(move |_, reply| {
        reply.head(200, &[])?;
        reply.write(&content)
    });
    let delay = Duration::from_millis(50);
    let network = Delay::to(&server.address(), delay);
    let start = Instant::now();
    let answer = get(&network.address());
    // Once there and back for the connection, once for the request.
    assert!(start.elapsed() >= 4 * delay, "{:?}", start.elapsed());
    assert!(answer.ends_with(&expected));
    assert_eq!(server.lines(), ["GET /"]);
}

#[test]
fn a_hundred_connections_wait_at_the_same_time() {
    let (arrived, all) = (AtomicUsize::new(0), 100);
    let server = Hostile::new(move |_, reply| {
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < all {
            reply.pause(Duration::from_millis(5))?;
        }
        reply.welcome()
    });
    let network = Delay::to(&server.address(), Duration::from_millis(20));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..all).map(|_| scope.spawn(|| get(&network.address()))).collect();
        for client in clients {
            assert!(client.join().unwrap().ends_with(b"{}"));
        }
    });
    assert_eq!((server.requests().len(), server.busiest()), (all, all));
}

#[test]
fn it_ends_although_nobody_answers() {
    let server = Hostile::new(|_, reply| reply.silence());
    let network = Delay::to(&server.address(), Duration::from_millis(1));
    let mut client = TcpStream::connect(network.address()).unwrap();
    client.write_all(GET).unwrap();
    wait_until("the request arrives", || !server.requests().is_empty());
    drop(network);
    let mut answer = Vec::new();
    // Either kind of end will do.
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn a_server_that_is_not_there() {
    let network = Delay::to("127.0.0.1:1", Duration::from_millis(1));
    let mut client = TcpStream::connect(network.address()).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}
