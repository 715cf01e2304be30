// SPDX-License-Identifier: MIT OR Apache-2.0
//! A listener with a thread for every connection, all of which end with it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Of a thread: tests hold hundreds of connections.
const STACK: usize = 256 << 10;

/// A mutex's content, also after a panic elsewhere, which is told on its own.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The listener.
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    ending: Arc<Ending>,
    acceptor: Option<JoinHandle<()>>,
}

/// What every connection knows of the listener's end.
#[derive(Default)]
pub struct Ending {
    ended: Mutex<bool>,
    changed: Condvar,
    open: Mutex<(usize, HashMap<usize, TcpStream>)>,
    panicked: AtomicBool,
}

/// A stream that is shut down when this is dropped, or before, when the listener ends.
pub struct Watched<'a>(&'a Ending, usize);

impl Ending {
    /// Waits; an error when the listener ends meanwhile.
    pub fn pause(&self, time: Duration) -> io::Result<()> {
        let (ended, _) = self.changed.wait_timeout_while(lock(&self.ended), time, |ended| !*ended).expect("no panic");
        if *ended { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// Has the stream end with the listener.
    pub fn watch(&self, stream: &TcpStream) -> io::Result<Watched<'_>> {
        let copy = stream.try_clone()?;
        let mut open = lock(&self.open);
        if *lock(&self.ended) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        open.0 += 1;
        let number = open.0;
        open.1.insert(number, copy);
        Ok(Watched(self, number))
    }

    /// How many streams are watched now.
    pub fn open(&self) -> usize {
        lock(&self.open).1.len()
    }

    fn end(&self) {
        let open = lock(&self.open);
        *lock(&self.ended) = true;
        self.changed.notify_all();
        open.1.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let stream = lock(&self.0.open).1.remove(&self.1);
        // A copy of the stream may live on in another thread: closing it is not enough.
        let _ = stream.map(|stream| stream.shutdown(Shutdown::Both));
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
    }
}

/// Starts a thread with a small stack.
pub fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread")
}

impl Serving {
    /// Listens on a free port of `address` and has `serve` work on every connection.
    pub fn new(address: IpAddr, serve: impl Fn(TcpStream, &Arc<Ending>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port of the loopback device");
        let address = listener.local_addr().expect("an address");
        let (ending, serve) = (Arc::new(Ending::default()), Arc::new(serve));
        let shared = Arc::clone(&ending);
        let acceptor = spawn(move || {
            let mut threads: Vec<JoinHandle<()>> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if *lock(&shared.ended) {
                    break;
                }
                let (ending, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                threads.retain(|thread| !thread.is_finished());
                threads.push(spawn(move || {
                    let _ = stream.set_nodelay(true);
                    if let Ok(_watched) = ending.watch(&stream) {
                        serve(stream, &ending);
                    }
                }));
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Self { address, ending, acceptor: Some(acceptor) }
    }

    /// How many streams are open now.
    pub fn open(&self) -> usize {
        self.ending.open()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.ending.end();
        // The acceptor looks after its next connection.
        let _ = TcpStream::connect(self.address);
        let ended = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the acceptor panicked");
            assert!(!self.ending.panicked.load(Ordering::Relaxed), "a handler panicked: see standard error");
        }
    }
}
