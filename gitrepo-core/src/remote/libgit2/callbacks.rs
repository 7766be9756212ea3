//! libgit2's callbacks, and their own errors.
//!
//! An error that a callback returns gets lost: libgit2 replaces its text, and for host keys its meaning. So the real
//! error is kept here until libgit2 returns.

use std::cell::Cell;
use std::cell::RefCell;

use git2::ErrorClass;
use git2::ErrorCode;
use git2::RemoteCallbacks;

use super::authentication::Authentication;
use super::host_key;
use super::host_key::Verdict;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::remote::transfer::Arrived;
use crate::remote::transfer::Transfer;

/// The state of one conversation that libgit2's callbacks share.
pub(super) struct Callbacks<'a> {
    request: &'a ConnectRequest,
    pub(super) authentication: RefCell<Authentication<'a>>,
    pub(super) transfer: RefCell<Transfer<'a>>,
    refusal: Cell<Option<RemoteError>>,
    accepted_host_key: RefCell<Option<String>>,
}

impl<'a> Callbacks<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self {
            request,
            authentication: RefCell::new(Authentication::new(request)),
            transfer: RefCell::new(Transfer::new(request)),
            refusal: Cell::new(None),
            accepted_host_key: RefCell::new(None),
        }
    }

    /// The error with which a callback stopped libgit2.
    pub(super) fn take_refusal(&self) -> Option<RemoteError> {
        self.refusal.take()
    }

    /// The `known_hosts` line of a host key that was trusted because the host was unknown.
    pub(super) fn accepted_host_key(&self) -> Option<String> {
        self.accepted_host_key.borrow().clone()
    }

    /// The callbacks in libgit2's form.
    pub(super) fn attach<'c>(&'c self) -> RemoteCallbacks<'c> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(|_asker, _user, allowed| {
            let answer = self.authentication.borrow_mut().answer(allowed);
            answer.map_err(|error| self.refuse(error))
        });
        callbacks.certificate_check(|certificate, _host| {
            let verdict = host_key::check(certificate, &self.request.errand.url, &self.request.errand.host_keys);
            let verdict = verdict.map_err(|error| self.refuse(error))?;
            let status = verdict.status();
            if let Verdict::Believed(Some(line)) = verdict {
                self.accepted_host_key.replace(Some(line));
            }
            Ok(status)
        });
        callbacks.transfer_progress(|stats| {
            let arrived = Arrived { bytes: stats.received_bytes() as u64, objects: stats.received_objects() as u64 };
            self.goes_on(self.transfer.borrow_mut().advance(arrived, stats.total_objects() as u64))
        });
        // The remote chooses the text of these messages, so they are ignored.
        callbacks.sideband_progress(|_remarks| self.goes_on(self.transfer.borrow_mut().hear()));
        callbacks
    }

    fn goes_on(&self, outcome: Result<(), RemoteError>) -> bool {
        outcome.map_err(|error| self.refuse(error)).is_ok()
    }

    fn refuse(&self, error: RemoteError) -> git2::Error {
        self.refusal.set(Some(error));
        stop()
    }
}

/// Makes libgit2 return.
fn stop() -> git2::Error {
    git2::Error::new(ErrorCode::User, ErrorClass::Callback, "stopped by a callback")
}
