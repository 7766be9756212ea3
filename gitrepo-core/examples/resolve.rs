//! Where a revision stands: no store, no mount, no root.
//!
//! `cargo run -p gitrepo-core --example resolve -- https://git.example.com/team/site.git main`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::policy::Config;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Revision;
use gitrepo_core::watch::Watch;

fn main() -> Result<(), Box<dyn Error>> {
    gitrepo_core::worker::run_if_worker();

    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(revision)) = (arguments.next(), arguments.next()) else {
        return Err("usage: resolve <repository> <revision>".into());
    };
    let (url, revision) = (RepositoryUrl::parse(&url)?, Revision::parse(&revision)?);
    let gateway = Gateway::confined(Config::for_person());
    let resolved = gateway.resolve(&url, &revision, &Credentials::none(), &Watch::default())?;
    println!("{} {}", resolved.commit, resolved.reference.unwrap_or_default());
    Ok(())
}
