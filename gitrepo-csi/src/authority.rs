//! Replaces a client's `:authority` with `localhost` before the HTTP/2 library sees it.
//!
//! A kubelet up to 1.25 sends the socket's path as `:authority` on every call, and newer ones (1.32 seen) send it
//! percent-encoded on the registration socket. h2, under tonic, parses the pseudo-header as the authority of a URI and
//! answers both with RST_STREAM PROTOCOL_ERROR before any of our code runs (hyperium/h2#487, hyperium/tonic#243). On
//! a Unix socket the name means nothing, so [`AnyAuthority`] replaces it in the client's bytes and passes everything
//! else on.
//!
//! Header compression has state, so every header block of the connection is decoded (`hpack`) and encoded again without
//! a dynamic table (`rewriter`). The server's bytes pass unchanged: its frame and table settings apply to the client
//! and to us alike, as long as it keeps the default table size; a test checks that.

mod hpack;
mod rewriter;

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

pub use rewriter::Rewriter;
pub use rewriter::Violation;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tonic::transport::server::Connected;

/// Bytes to read from the client at once.
const READ: usize = 8 * 1024;

/// Buffer capacity that an idle connection may keep.
const KEPT: usize = 16 * 1024;

/// A server's side of a connection whose client may send any `:authority`.
///
/// Holds at most one read and one header block, and reads more only when the server has taken everything. If a client
/// violates the parts of HTTP/2 that are parsed here, its connection ends with a [`Violation`].
#[derive(Debug)]
pub struct AnyAuthority<S> {
    inner: S,
    rewriter: Rewriter,
    input: Box<[u8]>,
    /// The part of `input` that is not rewritten yet.
    unread: std::ops::Range<usize>,
    output: Vec<u8>,
    /// How much of `output` the server has taken.
    taken: usize,
    violation: Option<Violation>,
}

impl<S> AnyAuthority<S> {
    /// Wraps the server's side of a fresh connection.
    pub fn new(inner: S) -> Self {
        let input = vec![0; READ].into_boxed_slice();
        Self {
            inner,
            rewriter: Rewriter::default(),
            input,
            unread: 0..0,
            output: Vec::new(),
            taken: 0,
            violation: None,
        }
    }

    /// Copies rewritten bytes to the server. Returns false if there are none.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let ready = self.output.get(self.taken..).unwrap_or_default();
        let part = &ready[..ready.len().min(buffer.remaining())];
        if part.is_empty() {
            return false;
        }
        buffer.put_slice(part);
        self.taken += part.len();
        if self.taken == self.output.len() {
            self.output.clear();
            self.output.shrink_to(KEPT);
            self.taken = 0;
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.hand_over(buffer) {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.violation {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
            if this.unread.is_empty() {
                let mut fresh = ReadBuf::new(&mut this.input);
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut fresh))?;
                this.unread = 0..fresh.filled().len();
                if this.unread.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            match this.rewriter.advance(&this.input[this.unread.clone()], &mut this.output) {
                Ok(consumed) => this.unread.start += consumed,
                // First hand over the bytes before the violation, so that the server answers them.
                Err(violation) => this.violation = Some(violation),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests;
