//! The one integration test binary: every file beside this one is a suite, named here.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod access;
mod bad_input;
mod bash_driver;
mod benchmarks;
mod cache;
mod capabilities;
mod cases;
mod clone;
mod command_line;
mod compaction;
mod concurrency;
mod configuration;
mod csi;
mod csi_services;
mod csi_wire;
mod doctor;
mod documented_kinds;
mod drivers;
mod erofs;
mod eviction;
mod fake_kubelet;
mod flex;
mod full_disk;
mod git_sync;
mod hostile;
mod hostile_servers;
mod image;
mod install;
mod kept_packs;
mod kills;
mod lfs;
mod machine;
mod makefile;
mod manifests;
mod modules;
mod mounter;
mod narrow;
mod node_commands;
mod node_scripts;
mod old_manifests;
mod parsers;
mod power_loss;
mod prefetch;
mod programs;
mod proxies;
mod publish;
mod quota;
mod remotes;
mod repositories;
mod resolve;
mod secrets;
mod semantics;
mod servers;
mod shares;
mod signatures;
mod static_binary;
mod steps;
mod stores;
mod submodules;
mod tinyproxy;
mod worker;

/// A file without a `mod` line is not compiled, and its tests would never run.
#[test]
fn every_file_in_suites_is_named_here() {
    let named = include_str!("main.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("suites");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let suite = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(suite == "main" || named.contains(&format!("\nmod {suite};\n")), "main.rs does not name {name}");
    }
}
