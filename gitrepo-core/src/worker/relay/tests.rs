use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;

use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn relay(addresses: Vec<SocketAddr>, received_limit: u64) -> (Relay, SocketAddr) {
    let (listener, address) = listener();
    let destination = Destination { addresses, connect_timeout: Duration::from_secs(5), received_limit };
    (Relay::start(listener, destination).unwrap(), address)
}

/// Returns an address that refuses connections.
fn closed() -> SocketAddr {
    listener().1
}

#[test]
fn bytes_pass_both_ways_and_an_end_is_passed_on() {
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![address], u64::MAX);
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = content.clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        stream.write_all(&content).unwrap();
        request
    });
    let mut client = TcpStream::connect(entrance).unwrap();
    client.write_all(b"please").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == expected);
    assert_eq!(server.join().unwrap(), "please");
    assert_eq!(relay.traffic().bytes(), expected.len() as u64 + 6);
    assert!(relay.traffic().trouble().is_none());
}

#[test]
fn the_next_address_is_tried_when_one_does_not_answer() {
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![closed(), address], u64::MAX);
    let client = TcpStream::connect(entrance).unwrap();
    drop(server.accept().unwrap());
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    assert!(relay.traffic().trouble().is_none());
}

#[test]
fn a_failure_of_all_addresses_is_known_before_the_connection_ends() {
    let refused = closed();
    let (relay, entrance) = relay(vec![refused], u64::MAX);
    let client = TcpStream::connect(entrance).unwrap();
    assert_eq!((&client).read(&mut [0]).unwrap_or(0), 0);
    let Some(Trouble::Unreachable(cause)) = relay.traffic().trouble() else { panic!("no trouble") };
    assert!(cause.to_string().starts_with(&format!("{refused}: ")), "{cause}");
}

#[test]
fn each_account_has_a_limit_of_its_own() {
    const MOST: u64 = 1 << 20;
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![address], MOST);
    let server = thread::spawn(move || {
        for _ in 0..4 {
            let (mut stream, _) = server.accept().unwrap();
            // Reset once it is too much.
            stream.write_all(&[0; 700_000]).ok();
        }
    });
    let receive = || {
        let mut content = Vec::new();
        TcpStream::connect(entrance).unwrap().read_to_end(&mut content).ok();
        content.len()
    };
    for _ in 0..3 {
        assert_eq!(receive(), 700_000);
        assert!(relay.traffic().trouble().is_none());
        relay.traffic().open_account(MOST);
    }
    // Up to a buffer more may pass before it is noticed.
    relay.traffic().open_account(300_000);
    assert!(receive() < 700_000);
    assert!(matches!(relay.traffic().trouble(), Some(Trouble::TooLarge)));
    server.join().unwrap();
}

#[test]
fn a_remote_that_sends_too_much_is_cut_off() {
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![address], 1 << 20);
    let server = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    let mut client = TcpStream::connect(entrance).unwrap();
    // A dropped connection may be reset, which counts as an error here.
    drop(client.read_to_end(&mut Vec::new()));
    assert!(matches!(relay.traffic().trouble(), Some(Trouble::TooLarge)));
    let read = relay.traffic().bytes();
    assert!(read <= (1 << 20) + (256 << 10), "{read}: not more than one buffer beyond the limit");
    server.join().unwrap();
}

#[test]
fn dropping_the_relay_ends_its_connections() {
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![address], u64::MAX);
    let mut client = TcpStream::connect(entrance).unwrap();
    let (mut accepted, _) = server.accept().unwrap();
    assert!(relay.traffic().is_open());
    drop(relay);
    assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(entrance).is_err(), "nobody listens");
}

#[test]
fn connections_beyond_the_limit_wait() {
    let (server, address) = listener();
    let (relay, entrance) = relay(vec![address], u64::MAX);
    let clients: Vec<_> = (0..=Carrier::AT_ONCE).map(|_| TcpStream::connect(entrance).unwrap()).collect();
    let accepted: Vec<_> = (0..Carrier::AT_ONCE).map(|_| server.accept().unwrap()).collect();
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err());
    drop(clients);
    drop(accepted);
    drop(relay);
}
