//! The core in a program of your own: publish a volume read-only, and take it away again.
//!
//! As root: `cargo run -p gitrepo-core --example embed -- https://git.example.com/team/site.git /srv/site`
//!
//! What was fetched stays in its store, `/var/lib/gitrepo-embed`, for the next time.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::policy::Config;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;

fn main() -> Result<(), Box<dyn Error>> {
    // The confined worker is this program, started again: this line must come first.
    gitrepo_core::worker::run_if_worker();

    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed <repository> <target>".into());
    };
    let mut config = Config::for_person();
    config.store = "/var/lib/gitrepo-embed".into();
    let volumes = Volumes::open(config)?;

    let request = VolumeRequest::new("embed", target, VolumeSpec::new(RepositoryUrl::parse(&url)?));
    let published = volumes.publish(&request, &Credentials::none(), &Watch::default())?;
    println!("{} shows commit {}", request.target.display(), published.commit);
    println!("{} entries at its root", request.target.read_dir()?.count());

    volumes.unpublish(Some(&request.volume_id), &request.target, &Cancel::new())?;
    Ok(())
}
