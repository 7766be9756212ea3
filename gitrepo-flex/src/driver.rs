//! Runs one call and answers it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::chain;
use gitrepo_flex::configuration;
use gitrepo_flex::program;
use gitrepo_frontend::log::LogConfig;

use crate::answer::Answer;
use crate::answer::Channel;
use crate::arguments::Arguments;
use crate::call::Call;
use crate::error::CallError;
use crate::fault;
use crate::interrupt;
use crate::log;
use crate::mount::Mount;
use crate::sweep;
use crate::target;
use crate::unmount;

/// How long an unmount may wait for other calls, or for a target in use. The kubelet retries.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);

/// Runs the call, and answers in any case. `dropped` says whether the unneeded capabilities could be dropped.
pub(crate) fn run(arguments: Arguments, dropped: io::Result<()>) {
    let cancel = Cancel::new();
    fault::watch(cancel.clone());
    let channel = Arc::new(Channel::take_over());
    if fault::contained(|| answer(arguments, dropped, &channel, &cancel)).is_none() {
        let place = fault::place().unwrap_or_default();
        tracing::error!(place, "panicked");
        let message = format!("gitrepo-flex panicked at {place}, which is a fault of its own; the kubelet tries again");
        channel.send(&Answer::failure(&message));
    }
}

fn answer(arguments: Arguments, dropped: io::Result<()>, channel: &Arc<Channel>, cancel: &Cancel) {
    match Call::parse(arguments.values) {
        // The kubelet calls this repeatedly while it holds locks, so it must not touch anything.
        Call::Init => drop(channel.send(&Answer::initialised())),
        Call::Version => drop(channel.send(&Answer::version())),
        Call::Unsupported => drop(channel.send(&Answer::not_supported())),
        Call::Malformed { what } => {
            log::start(&LogConfig::default());
            send(channel, Path::new(""), Err(CallError::Arguments { what }));
        }
        Call::Mount { target, options } => {
            interrupt::watch(cancel);
            mount(
                channel,
                cancel,
                &target,
                &options,
                [hidden_complaint(arguments.hidden), capabilities_complaint(dropped)],
            );
        }
        Call::Unmount { target } => {
            interrupt::watch(cancel);
            unmount(channel, cancel, &target, capabilities_complaint(dropped));
        }
    }
}

/// A warning for the log, which is opened later. It does not fail the call.
type Complaint = Option<String>;

fn hidden_complaint(hidden: io::Result<()>) -> Complaint {
    let error = hidden.err()?;
    Some(format!("the arguments stay visible in /proc while this call lasts: {error}"))
}

fn capabilities_complaint(dropped: io::Result<()>) -> Complaint {
    let error = dropped.err()?;
    Some(format!("this call keeps all capabilities of the kubelet, since they could not be dropped: {error}"))
}

fn complain(complaints: impl IntoIterator<Item = Complaint>) {
    complaints.into_iter().flatten().for_each(|complaint| tracing::warn!("{complaint}"));
}

fn mount(channel: &Arc<Channel>, cancel: &Cancel, target: &Path, options: &[u8], complaints: [Complaint; 2]) {
    let configuration = match configuration::read(program::directory().as_deref()) {
        Ok(configuration) => configuration,
        Err(error) => {
            log::start(&LogConfig::default());
            return send(channel, target, Err(error.into()));
        }
    };
    log::start(&configuration.frontend.log);
    complain(complaints);
    let limit = configuration.frontend.flex_timeout;
    interrupt::end_after(limit, channel);
    let cancel = cancel.within(limit);
    match Mount::prepare(configuration, target, options) {
        Ok(mount) => {
            send(channel, target, mount.publish(&cancel));
            sweep::in_passing(&[mount.volumes()], mount.target(), &cancel);
        }
        Err(error) => send(channel, target, Err(error)),
    }
}

fn unmount(channel: &Arc<Channel>, cancel: &Cancel, target: &Path, complaint: Complaint) {
    let (configurations, refused) = configuration::read_or_guess(program::directory().as_deref());
    let log = configurations.first().map(|configuration| configuration.frontend.log.clone());
    log::start(&log.unwrap_or_default());
    complain([complaint]);
    if let Some(error) = refused {
        tracing::error!(error = %chain(&error), "refused; searching the stores that it seems to name");
    }
    interrupt::end_after(UNMOUNT_LIMIT, channel);
    let cancel = cancel.within(UNMOUNT_LIMIT);
    let resolved = match target::resolve(target) {
        Ok(resolved) => resolved,
        Err(error) => return send(channel, target, Err(error.into())),
    };
    let unmounted = unmount::run(&configurations, &resolved, &cancel);
    let result = unmounted.result.and_then(|found| match found {
        true => Ok(()),
        // What this driver mounted elsewhere, by hand or in an older version, can be unmounted.
        false => target::of_a_pod(target).map(drop).map_err(CallError::from),
    });
    let target = resolved;
    send(channel, &target, result);
    sweep::in_passing(&unmounted.stores.iter().collect::<Vec<_>>(), &target, &cancel);
}

/// Sends the result of the call.
fn send(channel: &Channel, target: &Path, result: Result<(), CallError>) {
    let answer = match result {
        Ok(()) => Answer::success(),
        Err(error) => {
            let mut message = error.message();
            if let Some(place) = fault::place() {
                message.push_str(&format!(" (a part of gitrepo-flex panicked at {place})"));
            }
            tracing::error!(directory = %target.display(), kind = ?error.kind(), reason = message, "failed");
            Answer::failure(&message)
        }
    };
    channel.send(&answer);
}
