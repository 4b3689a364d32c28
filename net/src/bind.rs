//! One port number for TCP links and UDP datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use rondo_core::env::Address;

/// How many port numbers are tried before giving up.
const TRIES_MAX: u16 = 64;

/// Both sockets, with the same address.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
    pub(crate) address: SocketAddr,
}

/// Binds `listen`. Port 0 takes any port that is free for both; `next_free` tries the ports behind a
/// taken one too.
pub(crate) fn bind(listen: &Address, next_free: bool) -> io::Result<Bound> {
    let wanted = listen
        .0
        .to_socket_addrs()
        .and_then(|mut found| found.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|error| explain(&error, &format!("cannot listen at {:?}", listen.0)))?;
    let (ip, port) = (wanted.ip(), wanted.port());
    let mut last = None;
    for offset in 0..if port == 0 || next_free { TRIES_MAX } else { 1 } {
        let Some(port) = (if port == 0 { Some(0) } else { port.checked_add(offset) }) else {
            break;
        };
        match bind_both(ip, port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            bound => return bound,
        }
    }
    Err(last.expect("the loop runs at least once"))
}

fn bind_both(ip: IpAddr, port: u16) -> io::Result<Bound> {
    let tcp = TcpListener::bind((ip, port))
        .map_err(|error| explain(&error, &format!("cannot listen at {ip} TCP port {port}")))?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).map_err(|error| {
        explain(&error, &format!("cannot listen at {ip} UDP port {}", address.port()))
    })?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok(Bound { tcp, udp, address })
}

fn explain(error: &io::Error, what: &str) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; choose another port, or stop the program that has it",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        io::ErrorKind::PermissionDenied => "; choose a port above 1023",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{what}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(port: u16) -> Address {
        Address(format!("127.0.0.1:{port}"))
    }

    #[test]
    fn any_port_is_the_same_for_both() {
        let bound = bind(&local(0), false).expect("some port is free");
        assert_eq!(bound.tcp.local_addr().expect("bound"), bound.address);
        assert_eq!(bound.udp.local_addr().expect("bound"), bound.address);
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it_or_is_passed_over() {
        let taken = bind(&local(0), false).expect("some port is free");
        let port = taken.address.port();
        let error = bind(&local(port), false).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("TCP port {port}")), "{error}");
        assert!(error.to_string().contains("choose another port"), "{error}");
        let next = bind(&local(port), true).expect("a port behind it is free");
        assert!(next.address.port() > port);
    }

    #[test]
    fn a_port_that_is_taken_for_datagrams_alone_does_not_do() {
        // Somebody else may have a port for TCP: then it says nothing here, and another one is tried.
        let told = (0..TRIES_MAX).find_map(|_| {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("some port is free");
            let port = udp.local_addr().expect("bound").port();
            let error = bind(&local(port), false).expect_err("taken").to_string();
            (!error.contains("TCP port")).then_some((port, error))
        });
        let (port, error) = told.expect("some port is free for TCP");
        assert!(error.contains(&format!("UDP port {port}")), "{error}");
    }

    #[test]
    fn nonsense_is_an_error_that_repeats_it() {
        let error = bind(&Address("no port".into()), false).expect_err("no address");
        assert!(error.to_string().contains("\"no port\""), "{error}");
    }
}
