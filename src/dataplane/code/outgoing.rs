//! Archive that is sent as the body of a message.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use tokio::time::timeout;

/// Size of the pieces, in bytes.
const PIECE: usize = 64 << 10;
/// Number of pieces that wait for the network.
const AHEAD: usize = 4;

/// Returns a body with the rest of a file, and the task that feeds it. The body ends early if the file can't be read, or if
/// nobody takes a piece for `idle`: the length that the message announces then shows that it is incomplete.
#[must_use]
pub fn body_of(file: File, idle: Duration) -> (Channel<Bytes>, tokio::task::JoinHandle<()>) {
    let (sender, body) = Channel::new(AHEAD);
    (body, tokio::spawn(feed(file, sender, idle)))
}

async fn feed(mut file: File, mut sender: Sender<Bytes>, idle: Duration) {
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece);
            (file, read.map(|read| (piece, read)))
        });
        let Ok((back, Ok((mut piece, length)))) = read.await else { return };
        file = back;
        if length == 0 {
            return;
        }
        piece.truncate(length);
        match timeout(idle, sender.send_data(piece.into())).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
