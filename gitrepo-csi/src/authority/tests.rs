//! Replays recorded bytes of clients to a real tonic server behind the adaptor; recorded/README.md says how they were
//! recorded.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Server;

use super::hpack::Decoder;
use super::hpack::Malformed;
use super::*;
use crate::proto::csi::v1::NodeGetInfoRequest;
use crate::proto::csi::v1::NodeGetInfoResponse;
use crate::proto::csi::v1::node_server::Node;
use crate::proto::csi::v1::node_server::NodeServer;
use crate::proto::registration::v1::InfoRequest;
use crate::proto::registration::v1::PluginInfo;
use crate::proto::registration::v1::RegistrationStatus;
use crate::proto::registration::v1::RegistrationStatusResponse;
use crate::proto::registration::v1::registration_server::Registration;
use crate::proto::registration::v1::registration_server::RegistrationServer;

/// File, number of calls, and whether an unmodified server refuses it.
const RECORDED: [(&str, &[u8], usize, bool); 6] = [
    ("1.40 csi", include_bytes!("recorded/grpc-go-1.40-csi.bin"), 1, true),
    ("1.40 csi, localhost", include_bytes!("recorded/grpc-go-1.40-csi-localhost.bin"), 1, false),
    ("1.40 registration", include_bytes!("recorded/grpc-go-1.40-registration.bin"), 2, true),
    ("1.67 csi", include_bytes!("recorded/grpc-go-1.67-csi.bin"), 1, true),
    ("1.67 csi, localhost", include_bytes!("recorded/grpc-go-1.67-csi-localhost.bin"), 1, false),
    ("1.67 registration", include_bytes!("recorded/grpc-go-1.67-registration.bin"), 2, true),
];

/// Length of the preface and empty SETTINGS, which a client sends before it hears from the server.
const OPENING: usize = 24 + 9;

struct Answers;

#[tonic::async_trait]
impl Node for Answers {
    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "n".to_owned(), ..NodeGetInfoResponse::default() }))
    }
}

#[tonic::async_trait]
impl Registration for Answers {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo::default()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        assert!(request.get_ref().plugin_registered, "the request's body came through");
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

fn serve<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S::ConnectInfo: Clone + Send + Sync + 'static,
{
    let server = Server::builder().add_service(NodeServer::new(Answers)).add_service(RegistrationServer::new(Answers));
    tokio::spawn(server.serve_with_incoming(tokio_stream::once(Ok::<_, io::Error>(stream))));
}

/// Reads a frame of the server: kind, flags, payload.
async fn next_frame(from: &mut UnixStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let [l0, l1, l2, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    from.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, payload))
}

/// Returns the server's settings, and for each call its last status field or its reset.
async fn replay(mut client: UnixStream, bytes: &[u8], piece: usize, calls: usize) -> (Vec<u8>, Vec<String>) {
    client.write_all(&bytes[..OPENING]).await.unwrap();
    let (kind, _, settings) = next_frame(&mut client).await.unwrap();
    assert_eq!(kind, 4, "the server begins with its settings");
    for part in bytes[OPENING..].chunks(piece) {
        client.write_all(part).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut decoder = Decoder::new();
    let mut outcomes = Vec::new();
    while outcomes.len() < calls {
        match next_frame(&mut client).await {
            Some((1, flags, block)) => {
                let mut status = String::new();
                let each = |field: hpack::Field<'_>| {
                    if field.name.ends_with(b"status") {
                        status = format!("{}: {}", field.name.escape_ascii(), field.value.escape_ascii());
                    }
                    Ok::<(), Malformed>(())
                };
                decoder.decode(&block, each).unwrap();
                if flags & 1 != 0 {
                    outcomes.push(status);
                }
            }
            Some((3, _, code)) => outcomes.push(format!("reset: {code:?}")),
            Some(_) => {}
            None => outcomes.push("closed".to_owned()),
        }
    }
    (settings, outcomes)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an answer within a minute")
}

#[tokio::test]
async fn recorded_clients_are_answered() {
    for (name, bytes, calls, _) in RECORDED {
        for piece in [1, 5, 4096] {
            let (client, server) = UnixStream::pair().unwrap();
            serve(AnyAuthority::new(server));
            let (_, outcomes) = within(replay(client, bytes, piece, calls)).await;
            assert_eq!(outcomes, vec!["grpc-status: 0"; calls], "{name} in pieces of {piece}");
        }
    }
}

/// If this fails, h2 has become lenient, and this module can be removed.
#[tokio::test]
async fn without_the_adaptor_clients_with_a_path_as_authority_are_refused() {
    for (name, bytes, calls, is_refused) in RECORDED {
        let (client, server) = UnixStream::pair().unwrap();
        serve(server);
        let (_, outcomes) = within(replay(client, bytes, 4096, calls)).await;
        let expected = if is_refused { "reset: [0, 0, 0, 1]" } else { "grpc-status: 0" };
        assert_eq!(outcomes, vec![expected; calls], "{name}");
    }
}

#[tokio::test]
async fn the_server_announces_no_other_table_size_and_no_larger_frames() {
    let (client, server) = UnixStream::pair().unwrap();
    serve(AnyAuthority::new(server));
    let (settings, _) = within(replay(client, RECORDED[0].1, 4096, 1)).await;
    assert!(!settings.is_empty() && settings.len() % 6 == 0, "{settings:?}");
    for setting in settings.chunks(6) {
        assert_ne!(setting[..2], [0, 1], "SETTINGS_HEADER_TABLE_SIZE would change what clients may send");
        assert!(setting[..2] != [0, 5] || setting[2..] == [0, 0, 0x40, 0], "SETTINGS_MAX_FRAME_SIZE: {setting:?}");
    }
}

/// Returns the bytes of a client that calls NodeGetInfo once, with this encoded authority.
fn call(authority: &[u8]) -> Vec<u8> {
    let mut block = b"\x83\x86\x04\x18/csi.v1.Node/NodeGetInfo".to_vec();
    block.extend_from_slice(authority);
    block.extend(b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0");
    bytes
}

#[tokio::test]
async fn calls_with_any_authority_or_an_empty_one_or_none_are_answered() {
    for authority in [&b""[..], b"\x01\0", b"\x81", b"\x01\x09localhost", b"\x01\x0b/csi//a b\xff\"", b"\x41\x01:"] {
        let (client, server) = UnixStream::pair().unwrap();
        serve(AnyAuthority::new(server));
        let (_, outcomes) = within(replay(client, &call(authority), 3, 1)).await;
        assert_eq!(outcomes, ["grpc-status: 0"], "{}", authority.escape_ascii());
    }
}

#[tokio::test]
async fn a_hostile_client_loses_its_connection_only() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x01\x04\0\0\0\x01\xbe"] {
        let (mut client, server) = UnixStream::pair().unwrap();
        serve(AnyAuthority::new(server));
        client.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        within(client.read_to_end(&mut rest)).await.ok();
    }
}

#[tokio::test]
async fn the_adaptor_does_not_read_ahead_of_the_server() {
    let (client, server) = UnixStream::pair().unwrap();
    let mut adaptor = AnyAuthority::new(server);
    let data = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\0\0\0\0\0\x01"[..], &[7; 1 << 16]].concat();
    let sent = client.try_write(&data).unwrap();
    assert!(sent > 4 * READ, "{sent} bytes wait in the socket");
    let mut first = [0; 1];
    within(adaptor.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"P");
    assert!(adaptor.output.len() <= 2 * READ && adaptor.unread.len() <= READ);
}
