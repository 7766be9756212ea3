//! One fetch for two targets, with its progress.
//!
//! As root: `cargo run -p gitrepo-core --example two_targets -- https://git.example.com/team/site.git /srv/a /srv/b`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::policy::Config;
use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;

/// Prints each step.
struct Printed;

impl Progress for Printed {
    fn report(&self, step: &Step) {
        println!("{step:?}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    gitrepo_core::worker::run_if_worker();

    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: two_targets <repository> <target> <target>")?;
    let spec = VolumeSpec::new(RepositoryUrl::parse(&url)?);
    let mut config = Config::for_person();
    config.store = "/var/lib/gitrepo-embed".into();
    let volumes = Volumes::open(config)?;
    let watch = Watch::new(Cancel::new(), Arc::new(Printed));

    let requests: Vec<_> = arguments.map(|target| VolumeRequest::new("two-targets", target, spec.clone())).collect();
    for request in &requests {
        // The second one finds the tree in the store.
        let published = volumes.publish(request, &Credentials::none(), &watch)?;
        println!("{} shows commit {} ({:?})", request.target.display(), published.commit, published.outcome);
    }
    for request in &requests {
        volumes.unpublish(Some(&request.volume_id), &request.target, &Cancel::new())?;
    }
    Ok(())
}
