//! `mount`: mounts the volume that the options describe on the directory.

use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::chain;
use gitrepo_core::spec::Choice;
use gitrepo_core::spec::Writable;
use gitrepo_core::store::Record;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::State;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_flex::stores::ORIGIN;
use gitrepo_frontend::audit;
use gitrepo_frontend::audit::Requester;
use gitrepo_frontend::configuration::Configuration;
use gitrepo_frontend::node_credentials;

use crate::error::CallError;
use crate::host_target;
use crate::options::Options;
use crate::options::Pod;
use crate::target;
use crate::volume_id::VolumeName;

/// A volume to mount, and its store.
pub(crate) struct Mount {
    pod: Pod,
    request: VolumeRequest,
    credentials: Credentials,
    volumes: Volumes,
}

impl Mount {
    /// Reads the options and opens the store. Does not touch the volume yet.
    pub(crate) fn prepare(configuration: Configuration, target: &Path, options: &[u8]) -> Result<Self, CallError> {
        let target = target::of_a_pod(target)?;
        let Options { pod, read_only, group, credentials, host_target, mut spec } = Options::parse(options)?;
        let default = configuration.frontend.flex_writable;
        let volumes = host_target::volumes(configuration, host_target.as_deref())?;

        let record = volumes.store().record_of_target(&target)?;
        let of_the_node = &volumes.snapshots().gateway().policy().config().node_credentials;
        let namespace = pod.known_namespace(&target);
        let credentials = match node_credentials::for_pod(of_the_node, &spec.repository, namespace, credentials) {
            // A repeated call needs no credentials.
            Err(error) if record.as_ref().is_some_and(|record| is_mounted(&volumes, record)) => {
                tracing::warn!(error = %chain(&error), directory = %target.display(), "the volume stays mounted");
                Credentials::none()
            }
            credentials => credentials?,
        };
        if !read_only {
            spec.writable = spec.writable.or_else(|| record.as_ref().and_then(recorded)).or(Some(default));
        }
        let name = VolumeName::new(&pod, &target, &spec, group);
        let volume_id = match record.as_ref().and_then(|record| name.recorded(record)) {
            Some(volume_id) => volume_id,
            None => name.with(&volumes.store().access().credential(&spec.repository, &credentials)?),
        };
        let mut request = VolumeRequest::new(volume_id, target, spec);
        request.origin = ORIGIN;
        request.read_only = read_only;
        request.group = group;
        request.id_mapped = gitrepo_frontend::pods::have_user_namespace(&request.target);
        request.tenant = (!pod.namespace.is_empty()).then(|| pod.namespace.clone());
        Ok(Self { pod, request, credentials, volumes })
    }

    /// Mounts the volume, the last step of a call.
    pub(crate) fn publish(&self, cancel: &Cancel) -> Result<(), CallError> {
        let Self { pod, request, credentials, volumes } = self;
        let started = Instant::now();
        let secrets: Vec<_> = credentials.secret_keys().keys().collect();
        tracing::debug!(
            directory = %request.target.display(), spec = ?request.spec, volume_id = request.volume_id, ?secrets,
            group = request.group, store = %volumes.store().root().display(), "mounting"
        );
        let watch = Watch::until(cancel.clone());
        let requester = requester(pod);
        let published = volumes
            .publish(request, credentials, &watch)
            .inspect_err(|error| audit::refused(&requester, request, credentials, volumes, error))?;
        audit::published(&requester, request, &published);
        // Why a read-only volume is no image.
        let reason = (published.format == Format::Directory).then(|| volumes.serving().without_images).flatten();
        tracing::info!(
            directory = %request.target.display(), repository = %request.spec.repository,
            revision = %request.spec.revision, commit = %published.commit, received_bytes = received(published.outcome),
            read_only = request.read_only, format = published.format.name(), reason, namespace = pod.namespace,
            pod = pod.name, volume = pod.volume,
            milliseconds = started.elapsed().as_millis(), "mounted"
        );
        Ok(())
    }

    /// Returns the volumes of the store.
    pub(crate) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Returns the directory, with links on its path resolved.
    pub(crate) fn target(&self) -> &PathBuf {
        &self.request.target
    }
}

/// Returns what the kubelet says of the pod, for the audit log.
fn requester(pod: &Pod) -> Requester {
    let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Requester {
        namespace: known(&pod.namespace),
        pod: known(&pod.name),
        service_account: known(&pod.service_account),
        volume: pod.volume.clone(),
    }
}

/// Whether the volume of this record is mounted.
fn is_mounted(volumes: &Volumes, record: &Record) -> bool {
    let found = volumes.find(&record.volume_id, &record.target);
    found.is_ok_and(|found| found.is_some_and(|volume| volume.state == State::Mounted))
}

/// Returns the bytes of the pack that this call fetched.
fn received(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Fetched { received_bytes } => received_bytes,
        Outcome::Hit | Outcome::AlreadyPublished => 0,
    }
}

/// Returns the value of `writable` that the target's record has. It survives reboots, and changes of the configuration.
fn recorded(record: &Record) -> Option<Writable> {
    record.content.get("writable").and_then(|word| Writable::from_word(word))
}
