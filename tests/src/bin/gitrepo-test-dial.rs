//! Connects to the Unix socket given as its argument, sends the beginning of HTTP/2, and prints how many bytes came
//! back. For tests that need to do this as another user.

use std::env;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    let mut stream = UnixStream::connect(env::args_os().nth(1).unwrap_or_default())?;
    // A server that refuses may have closed the connection already.
    drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"));
    let mut answer = [0; 9];
    let read = stream.read(&mut answer).unwrap_or(0);
    writeln!(io::stdout(), "{read}")
}
