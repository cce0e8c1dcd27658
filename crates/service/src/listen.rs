//! Listens on all addresses of a machine, with and without IPv6.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel holds until they are accepted, as tokio has it.
const BACKLOG: i32 = 1024;

/// Binds an address. All addresses of IPv6 include those of IPv4, and mean those alone if the kernel has no IPv6.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    match address.parse::<SocketAddr>() {
        Ok(all) if all.is_ipv6() && all.ip().is_unspecified() => TcpListener::from_std(on_all(all, dual_stack)?.into()),
        _ => TcpListener::bind(address).await,
    }
}

fn on_all(all: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Socket> {
    match open(all) {
        Err(error) if lacks_ipv6(&error) => open((Ipv4Addr::UNSPECIFIED, all.port()).into()),
        result => result,
    }
}

/// Opens a socket that listens. One of IPv6 accepts IPv4 too, whatever the default of the kernel
/// (`net.ipv6.bindv6only`).
fn dual_stack(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether an error means that the kernel has no IPv6: the family is not supported, or has no addresses.
fn lacks_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn all_addresses_include_those_of_ipv4() {
        let listener = bind("[::]:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        TcpStream::connect(("127.0.0.1", port)).await.expect("IPv4");
        if listener.local_addr().expect("an address").is_ipv6() {
            TcpStream::connect(("::1", port)).await.expect("IPv6");
        }
    }

    #[test]
    fn without_ipv6_all_addresses_are_those_of_ipv4() {
        let all: SocketAddr = "[::]:0".parse().expect("an address");
        for missing in [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL] {
            let without = |address: SocketAddr| match address {
                SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(missing.raw_os_error())),
                SocketAddr::V4(_) => dual_stack(address),
            };
            let socket = on_all(all, without).expect("a listener");
            let address = socket.local_addr().expect("an address").as_socket().expect("an address of IP");
            assert!(address.is_ipv4() && address.ip().is_unspecified(), "{address}");
        }
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let all: SocketAddr = "[::]:0".parse().expect("an address");
        let in_use = |_| Err(io::Error::from_raw_os_error(rustix::io::Errno::ADDRINUSE.raw_os_error()));
        assert_eq!(on_all(all, in_use).expect_err("no listener").kind(), io::ErrorKind::AddrInUse);
    }
}
