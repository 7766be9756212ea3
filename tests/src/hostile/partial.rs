//! Answers that break off, go silent, or refuse.

use std::io::Write;

use crate::http::Answer;
use crate::http::Ending;
use crate::http::Request;
use crate::pktline;

/// Every answer ends within its headers.
pub fn headers_end_midway(ending: Ending) -> impl Fn(&Request) -> Answer {
    move |_| {
        Answer::raw(move |wire| {
            wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nContent-Type: application/x-git-upload-p")?;
            Ok(ending)
        })
    }
}

/// The ref advertisement ends halfway.
pub fn advertisement_ends_midway(ending: Ending) -> impl Fn(&Request) -> Answer {
    move |request| if request.is_info_refs() { half(ending, |_| Some(0)) } else { Answer::Git }
}

/// The pack ends halfway. With [`Ending::Complete`] the server claims that it is complete.
pub fn pack_ends_midway(ending: Ending) -> impl Fn(&Request) -> Answer {
    move |request| if request.is_upload_pack() { half(ending, pktline::find_pack) } else { Answer::Git }
}

/// The pack is noise after its header, in valid packets.
pub fn pack_is_garbage() -> impl Fn(&Request) -> Answer {
    const HEADER: usize = 12;
    let scramble = |mut body: Vec<u8>| {
        let start = pktline::find_pack(&body).map_or(body.len(), |start| start + HEADER);
        let packets: Vec<_> = pktline::contents(&body).filter(|place| body[place.start] == 1).collect();
        for at in packets.into_iter().flat_map(|place| place.skip(1)).filter(|&at| at >= start) {
            body[at] ^= 0x5a;
        }
        (body, Ending::Complete)
    };
    move |request| if request.is_upload_pack() { Answer::tampered(scramble) } else { Answer::Git }
}

/// Every credential is refused.
pub fn unauthorized_for_ever() -> impl Fn(&Request) -> Answer {
    |_| Answer::Status {
        status: 401,
        headers: vec![("WWW-Authenticate".to_owned(), "Basic realm=\"never\"".to_owned())],
    }
}

/// Every request is redirected to the same path below `base` (`http://127.0.0.1:8080`).
pub fn redirects_to(base: &str, status: u16) -> impl Fn(&Request) -> Answer + use<> {
    let base = base.to_owned();
    move |request| {
        let location = format!("{base}{}?{}", request.path, request.query);
        Answer::Status { status, headers: vec![("Location".to_owned(), location)] }
    }
}

/// Cuts a body halfway through the part that begins where `start` says, if any.
fn half(ending: Ending, start: fn(&[u8]) -> Option<usize>) -> Answer {
    Answer::tampered(move |mut body| {
        let Some(start) = start(&body) else { return (body, Ending::Complete) };
        body.truncate(start + (body.len() - start) / 2);
        (body, ending)
    })
}
