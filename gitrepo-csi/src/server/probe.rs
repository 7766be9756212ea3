//! Checks whether a server answers on a socket.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// The beginning of an HTTP/2 connection: the preface and empty settings.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The type of a SETTINGS frame, the first frame of a server.
const SETTINGS: u8 = 4;

/// Opens an HTTP/2 connection to the socket at `path` and waits for the server's first frame, without a timeout.
///
/// # Errors
///
/// If no server listens there, or the server speaks another protocol.
pub async fn answers(path: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(OPENING).await?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    if head[3] == SETTINGS { Ok(()) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
}
