//! A TCP relay between a daemon and its control plane that injects faults, because this kernel has no netem.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Behaviour of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Forwards everything unchanged.
    Pass,
    /// Delays each piece by this time.
    Delay(Duration),
    /// Closes the connection at this percentage of pieces.
    Lose(u64),
    /// Sends a client's bytes on two connections, and drops the second answer.
    Twice,
    /// Accepts connections and never forwards anything.
    HalfOpen,
    /// Forwards one byte at a time, slowly.
    Trickle,
    /// Accepts no connection and closes the open ones.
    Cut,
}

struct State {
    manner: Mutex<Manner>,
    target: Mutex<SocketAddr>,
    streams: Mutex<Vec<TcpStream>>,
    pieces: AtomicU64,
    seed: u64,
    closed: AtomicBool,
}

/// A relay, which ends when it is dropped.
pub struct Relay {
    state: Arc<State>,
    pub address: SocketAddr,
}

impl Relay {
    pub fn start(ip: IpAddr, target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            manner: Mutex::new(Manner::Pass),
            target: Mutex::new(target),
            streams: Mutex::default(),
            pieces: AtomicU64::new(0),
            seed,
            closed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(client) = client {
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.carry(client));
                }
            }
        });
        Self { state, address }
    }

    /// Changes the behaviour, for open connections too. Half-open connections stay open, because neither side is
    /// notified.
    pub fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
        if manner == Manner::Cut {
            self.reset();
        }
    }

    /// Ends every connection.
    pub fn reset(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forwards later connections to another address.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = target;
        self.reset();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        self.reset();
        // The connection wakes the listener's thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    fn carry(self: Arc<Self>, client: TcpStream) {
        if self.manner() == Manner::Cut {
            return;
        }
        let target = *self.target.lock().unwrap();
        let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else { return };
        let second = (self.manner() == Manner::Twice).then(|| TcpStream::connect(target).ok()).flatten();
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        self.streams.lock().unwrap().extend([clone(&client), clone(&server)]);
        if let Some(second) = &second {
            let mut thrown_away = clone(second);
            self.streams.lock().unwrap().push(clone(second));
            std::thread::spawn(move || std::io::copy(&mut thrown_away, &mut std::io::sink()));
        }
        let (up, from, to) = (Arc::clone(&self), clone(&client), clone(&server));
        std::thread::spawn(move || up.pump(from, to, second));
        self.pump(server, client, None);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut also: Option<TcpStream>) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let piece = &buffer[..length];
            let number = self.pieces.fetch_add(1, Ordering::Relaxed);
            match self.manner() {
                Manner::Delay(time) => std::thread::sleep(time),
                Manner::Lose(of_a_hundred) if mixed(self.seed ^ number) % 100 < of_a_hundred => break,
                Manner::HalfOpen => continue,
                Manner::Trickle => {
                    for byte in piece {
                        std::thread::sleep(Duration::from_millis(20));
                        if to.write_all(&[*byte]).is_err() {
                            break;
                        }
                    }
                    continue;
                }
                _ => {}
            }
            if let Some(also) = &mut also {
                let _ = also.write_all(piece);
            }
            if to.write_all(piece).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Returns a pseudorandom number (the finalizer of SplitMix64).
pub fn mixed(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
