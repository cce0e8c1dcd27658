//! `TCP_NODELAY` for sockets that a library opened without it.
//!
//! A client that writes twice before it reads (PostgreSQL's COPY: the rows, then "done") is delayed
//! by Nagle's algorithm until the first write is acknowledged, and the other side's kernel may take
//! 40 ms to do that. `sqlx` neither sets the option nor gives access to its socket.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use socket2::SockRef;

/// Sets the option on every TCP socket that the process has open, because none of them should be delayed.
/// Descriptors that are not TCP sockets refuse the option, and the refusal is ignored.
pub fn on_all_sockets() {
    // `/dev/fd` exists on Linux and on macOS.
    let Ok(open) = fs::read_dir("/dev/fd") else { return };
    // Collected first, because reading the folder opens a descriptor too.
    let numbers: Vec<RawFd> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        // SAFETY: the descriptor is borrowed for one call of `setsockopt` only. If another thread closes it in the
        // meantime, the call fails or sets the option on a socket that has just been opened.
        #[allow(unsafe_code, reason = "there is no safe way to borrow a descriptor by its number")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = SockRef::from(&descriptor).set_tcp_nodelay(true);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_that_is_open_no_longer_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!socket.nodelay().unwrap());
        on_all_sockets();
        assert!(socket.nodelay().unwrap());
    }
}
