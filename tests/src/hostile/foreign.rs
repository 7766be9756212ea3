//! A server that announces another repository's commit as its own, hoping that its clients already have it.

use std::io;
use std::io::Write;

use openssl::hash::MessageDigest;

use crate::http::Answer;
use crate::http::Ending;
use crate::http::Request;
use crate::http::Wire;
use crate::pktline;

/// Announces HEAD and `main` at `commit`; a client that fetches it gets a valid pack without objects.
pub fn announces(commit: &str) -> impl Fn(&Request) -> Answer + use<> {
    let mut pack = b"PACK\0\0\0\x02\0\0\0\0".to_vec();
    let checksum = openssl::hash::hash(MessageDigest::sha1(), &pack).unwrap();
    pack.extend_from_slice(&checksum);
    let served = [pktline::band(1, &pack), pktline::FLUSH.to_vec()].concat();
    let serves = move |request: &Request| {
        let served: &[u8] = if wants_pack(&request.body) { &served } else { &[] };
        [&preamble(&request.body), served].concat()
    };
    liar(commit, serves)
}

/// Announces HEAD and `main` at `commit`; a client that fetches it is told that it does not exist.
pub fn announces_without_serving(commit: &str) -> impl Fn(&Request) -> Answer + use<> {
    let refusal = pktline::packet(format!("ERR upload-pack: not our ref {commit}"));
    liar(commit, move |_| refusal.clone())
}

fn liar<S>(commit: &str, serves: S) -> impl Fn(&Request) -> Answer + use<S>
where
    S: Fn(&Request) -> Vec<u8>,
{
    let capabilities = "multi_ack multi_ack_detailed thin-pack side-band-64k ofs-delta shallow no-progress include-tag \
                        allow-tip-sha1-in-want allow-reachable-sha1-in-want symref=HEAD:refs/heads/main";
    let advertisement = [
        pktline::packet("# service=git-upload-pack\n"),
        pktline::FLUSH.to_vec(),
        pktline::packet(format!("{commit} HEAD\0{capabilities}\n")),
        pktline::packet(format!("{commit} refs/heads/main\n")),
        pktline::FLUSH.to_vec(),
    ]
    .concat();
    move |request| {
        let (kind, body) =
            if request.is_info_refs() { ("advertisement", advertisement.clone()) } else { ("result", serves(request)) };
        Answer::raw(move |wire| whole(wire, kind, &body))
    }
}

/// The lines before a pack in protocol version 0: the shallow boundary, if `asked` for, and the end of negotiation,
/// unless it continues in another request.
pub(super) fn preamble(asked: &[u8]) -> Vec<u8> {
    let mut preamble = Vec::new();
    if lines(asked).any(|line| line.starts_with("deepen ")) {
        for want in lines(asked).filter_map(|line| line.strip_prefix("want ")) {
            preamble.extend(pktline::packet(format!("shallow {}", &want[..40])));
        }
        preamble.extend_from_slice(pktline::FLUSH);
    }
    if wants_pack(asked) {
        preamble.extend(pktline::packet("NAK\n"));
    }
    preamble
}

/// Whether a request ends negotiation, so that a pack must follow.
pub(super) fn wants_pack(asked: &[u8]) -> bool {
    lines(asked).any(|line| line.trim_end() == "done")
}

fn lines(asked: &[u8]) -> impl Iterator<Item = &str> {
    pktline::contents(asked).filter_map(|place| str::from_utf8(&asked[place]).ok())
}

fn whole(wire: &mut Wire, kind: &str, body: &[u8]) -> io::Result<Ending> {
    let length = body.len();
    write!(wire, "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n")?;
    write!(wire, "Content-Length: {length}\r\n\r\n")?;
    wire.write_all(body)?;
    Ok(Ending::Complete)
}
