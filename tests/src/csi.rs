//! Clients of a CSI socket and a registration socket that act like the kubelet: one connection per call.

use std::path::Path;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tower::service_fn;

/// Connects for one call, with `localhost` as the authority, as kubelets from 1.26 on do on the CSI socket.
///
/// # Errors
///
/// When nobody accepts the connection.
pub async fn dial(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket: PathBuf = socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

/// The `:authority` that a client sends, byte for byte; a Rust HTTP library would refuse to send most of these.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// No `:authority` at all.
    Absent,
    /// These bytes, up to 126 of them.
    Bytes(&'a [u8]),
}

/// Makes one call without any HTTP library and returns the answer's message.
///
/// # Errors
///
/// A description of the answer, if it is not a message.
pub async fn call(socket: &Path, authority: Authority<'_>, method: &str, request: &[u8]) -> Result<Vec<u8>, String> {
    let mut block = b"\x83\x86".to_vec();
    field(b"\x04", method.as_bytes(), &mut block);
    if let Authority::Bytes(bytes) = authority {
        // Indexed, so that it enters the connection's table.
        field(b"\x41", bytes, &mut block);
    }
    field(b"\x0f\x10", b"application/grpc", &mut block);
    field(b"\x00\x02te", b"trailers", &mut block);
    let mut message = vec![0];
    message.extend((request.len() as u32).to_be_bytes());
    message.extend(request);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(4, 0, 0, &[], &mut bytes);
    frame(1, 4, 1, &block, &mut bytes);
    frame(0, 1, 1, &message, &mut bytes);
    let mut stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.map_err(|error| error.to_string())?;
        let [l0, l1, l2, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        stream.read_exact(&mut payload).await.map_err(|error| error.to_string())?;
        match kind {
            0 => return Ok(payload.split_off(5)),
            1 if flags & 1 != 0 => return Err("a status without a message".to_owned()),
            3 => return Err(format!("RST_STREAM {payload:?}")),
            7 => return Err(format!("GOAWAY {payload:?}")),
            _ => {}
        }
    }
}

/// A field whose name is already encoded.
fn field(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    assert!(value.len() < 127, "longer values have a longer length");
    into.extend(name);
    into.push(value.len() as u8);
    into.extend(value);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8], into: &mut Vec<u8>) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    into.extend(length);
    into.extend([kind, flags, 0, 0, 0, stream]);
    into.extend(payload);
}
