//! Connects to the Unix socket that is its argument, sends the beginning of HTTP/2, and prints how many bytes came back.
//! For tests that need another user to do so.

use std::env;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    let mut stream = UnixStream::connect(env::args_os().nth(1).unwrap_or_default())?;
    // Whoever refuses may have closed already.
    drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"));
    let mut answer = [0; 9];
    let read = stream.read(&mut answer).unwrap_or(0);
    writeln!(io::stdout(), "{read}")
}
