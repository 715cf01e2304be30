// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network that takes its time: a proxy that passes everything on unchanged, but later.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::serving::{Ending, Serving, spawn};

/// How many pieces of [`PIECE`] bytes at the most are under way in one direction.
const UNDER_WAY: usize = 256;
const PIECE: usize = 32 << 10;

/// The proxy.
pub struct Delay {
    serving: Serving,
}

impl Delay {
    /// Starts one before `address` (`ADDRESS:PORT`); everything takes `delay` longer each way, the handshake of TCP too.
    pub fn to(address: &str, delay: Duration) -> Self {
        let address: SocketAddr = address.parse().expect("an address and a port");
        let serving = Serving::new(IpAddr::V4(Ipv4Addr::LOCALHOST), move |client, ending| {
            let Ok(server) = TcpStream::connect(address) else { return };
            let Ok(_watched) = ending.watch(&server) else { return };
            let _ = server.set_nodelay(true);
            let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { return };
            // The loopback device has connected already, but on such a network the client would not know yet.
            let connected = Instant::now() + 2 * delay;
            let back = pass(server, client, connected, delay, ending);
            let forth = pass(from, to, connected, delay, ending);
            let _ = forth.join();
            let _ = back.join();
        });
        Self { serving }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.serving.address.to_string()
    }

    /// How many connections pass through it now.
    pub fn open(&self) -> usize {
        self.serving.open() / 2
    }
}

/// Passes on what one stream says to another. Reading and writing have a thread each: what waits keeps nothing behind it.
fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    connected: Instant,
    delay: Duration,
    ending: &Arc<Ending>,
) -> std::thread::JoinHandle<()> {
    let (send, receive) = sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let ending = Arc::clone(ending);
    let writer = spawn(move || {
        for (due, piece) in receive {
            let wait = due.saturating_duration_since(Instant::now());
            if ending.pause(wait).is_err() {
                break;
            }
            // An empty piece is the end.
            let done = if piece.is_empty() { to.shutdown(Shutdown::Write) } else { to.write_all(&piece) };
            if done.is_err() {
                break;
            }
        }
    });
    spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let due = Instant::now().max(connected) + delay;
            if send.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
                break;
            }
        }
        drop(send);
        let _ = writer.join();
    })
}
