//! libgit2's smart protocol over our own HTTP.
//!
//! libgit2 calls the transport registered for `http` and `https` instead of its own client, on the connecting thread,
//! and passes only the URL. So the state of the conversation is kept in a thread-local variable.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use git2::transport::Service;
use git2::transport::SmartSubtransport;
use git2::transport::SmartSubtransportStream;
use git2::transport::Transport;

use crate::remote::RemoteError;
use crate::remote::http::Client;
use crate::remote::http::Question;
use crate::remote::http::Server;

thread_local! {
    static CONVERSATION: RefCell<Option<Arc<Http>>> = const { RefCell::new(None) };
}

/// What a conversation shares with its transports.
pub(super) struct Http {
    server: Server,
    refusal: Mutex<Option<RemoteError>>,
}

impl Http {
    pub(super) fn new(server: Server) -> Arc<Self> {
        Arc::new(Self { server, refusal: Mutex::new(None) })
    }

    /// Runs `work`, during which libgit2 may connect.
    pub(super) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Cleans up, even if `work` panics.
        struct Guard;

        impl Drop for Guard {
            fn drop(&mut self) {
                drop(CONVERSATION.take());
            }
        }

        CONVERSATION.set(Some(Arc::clone(self)));
        let _guard = Guard;
        work()
    }

    /// Why a transport failed; libgit2 keeps only a text.
    pub(super) fn take_refusal(&self) -> Option<RemoteError> {
        lock(&self.refusal).take()
    }

    fn refuse(&self, error: RemoteError) -> io::Error {
        *lock(&self.refusal) = Some(error);
        io::Error::other("the HTTP conversation ended")
    }
}

/// The transport that libgit2 calls to connect over `http` or `https`.
pub(super) fn transport(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let http = CONVERSATION.with_borrow(Option::clone);
    let http = http.ok_or_else(|| git2::Error::from_str("no conversation over HTTP is going on"))?;
    let client = Arc::new(Mutex::new(Client::new(http.server.clone())));
    Transport::smart(remote, true, Subtransport { http, client })
}

struct Subtransport {
    http: Arc<Http>,
    client: Arc<Mutex<Client>>,
}

impl SmartSubtransport for Subtransport {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let request = match service {
            Service::UploadPackLs => None,
            Service::UploadPack => Some(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed"));
            }
        };
        let (http, client) = (Arc::clone(&self.http), Arc::clone(&self.client));
        Ok(Box::new(Exchange { http, client, request, asked: false }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        lock(&self.client).close();
        Ok(())
    }
}

/// One request and its response.
struct Exchange {
    http: Arc<Http>,
    client: Arc<Mutex<Client>>,
    /// The body of a POST; `None` for the list of refs.
    request: Option<Vec<u8>>,
    asked: bool,
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.request {
            Some(request) if !self.asked => {
                request.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(io::Error::other("the request has been sent")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut client = lock(&self.client);
        if !self.asked {
            self.asked = true;
            let question = self.request.as_deref().map_or(Question::Refs, Question::UploadPack);
            client.ask(question).map_err(|error| self.http.refuse(error))?;
        }
        client.read(buffer).map_err(|error| self.http.refuse(error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
