//! The core in a program of your own: publish a volume read-only, and take it away again.
//!
//! As root: `cargo run -p gitrepo-core --example embed -- https://git.example.com/team/site.git /srv/site`
//!
//! What was fetched stays in its store, `/var/lib/gitrepo-embed`, for the next time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Policy;
use gitrepo_core::progress::Silent;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::store::Origin;
use gitrepo_core::store::Store;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Confined;

fn main() -> ExitCode {
    // The confined worker is this program, started again: this line must come first.
    gitrepo_core::worker::run_if_worker();

    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed <repository> <target>".into());
    };

    let config = Config::for_person();
    let store = Store::open(Path::new("/var/lib/gitrepo-embed"))?;
    let mounter = LinuxMounter::new(store.mounting());
    let worker = Arc::new(Confined::new(&config.worker));
    let gateway = Gateway::new(Policy::new(config), worker);
    let volumes = Volumes::new(store, gateway, Arc::new(mounter));

    let request = VolumeRequest {
        volume_id: "embed".to_owned(),
        target: target.into(),
        origin: Origin::Cli,
        spec: VolumeSpec::new(RepositoryUrl::parse(&url)?),
        credentials: Credentials::none(),
        read_only: true,
        group: None,
    };
    let watch = Watch { cancel: Cancel::new(), progress: Arc::new(Silent) };
    let published = volumes.publish(&request, &watch)?;
    println!("{} shows commit {}", request.target.display(), published.commit);

    let entries = std::fs::read_dir(&request.target)?.count();
    println!("{entries} entries at its root");

    volumes.unpublish(Some(&request.volume_id), &request.target, &Cancel::new())?;
    Ok(())
}
