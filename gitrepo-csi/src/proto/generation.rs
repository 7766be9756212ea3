//! Tests that the checked-in code matches `proto/*.proto`, and that messages withhold their secrets.
//!
//! `GITREPO_REGENERATE=1 cargo test -p gitrepo-csi --lib proto::generation` regenerates the code.

use std::path::Path;

use prost::Message;
use protox::prost_reflect::DescriptorPool;
use protox::prost_reflect::DynamicMessage;
use protox::prost_reflect::ExtensionDescriptor;
use protox::prost_reflect::MapKey;
use protox::prost_reflect::MessageDescriptor;
use protox::prost_reflect::Value;

use super::csi::v1::*;

const CSI: &str = "csi.proto";
const REGISTRATION: &str = "pluginregistration.proto";

/// A message that the definition does not mark, but whose comment says that it may be sensitive.
const MOUNT_VOLUME: &str = "csi.v1.VolumeCapability.MountVolume";

fn compiled(proto: &str) -> protox::Compiler {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.include_imports(true).open_file(proto).unwrap();
    compiler
}

fn marked_secret(pool: &DescriptorPool) -> ExtensionDescriptor {
    pool.get_extension_by_name("csi.v1.csi_secret").unwrap()
}

/// Returns the messages that have a field marked `csi_secret`.
fn secretive(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let mark = marked_secret(pool);
    let is_marked = |message: &MessageDescriptor| {
        message.fields().any(|field| field.options().get_extension(&mark).as_ref() == &Value::Bool(true))
    };
    pool.all_messages().filter(is_marked).collect()
}

fn generate(proto: &str, into: &Path) {
    let compiler = compiled(proto);
    let mut builder = tonic_prost_build::configure()
        .out_dir(into)
        .disable_comments(["."])
        .build_transport(false)
        .generate_default_stubs(true)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]");
    if proto == CSI {
        let secretive = secretive(&compiler.descriptor_pool());
        builder = builder.skip_debug(secretive.iter().map(MessageDescriptor::full_name)).skip_debug([MOUNT_VOLUME]);
    }
    builder.compile_fds(compiler.file_descriptor_set()).unwrap();
}

#[test]
fn the_checked_in_code_matches_the_definitions() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto/generated");
    let fresh = tempfile::tempdir().unwrap();
    for (proto, file) in [(CSI, "csi.v1.rs"), (REGISTRATION, "pluginregistration.rs")] {
        generate(proto, fresh.path());
        let generated = std::fs::read_to_string(fresh.path().join(file)).unwrap();
        if std::env::var_os("GITREPO_REGENERATE").is_some() {
            std::fs::write(checked_in.join(file), &generated).unwrap();
        }
        let kept = std::fs::read_to_string(checked_in.join(file)).unwrap();
        assert!(kept == generated, "src/proto/generated/{file} does not match proto/{proto}; see proto/README.md");
    }
}

/// Encodes a message of this type whose secret fields and mount flags all hold `value`.
fn filled(message: &MessageDescriptor, mark: &ExtensionDescriptor, value: &str) -> Vec<u8> {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let marked = field.options().get_extension(mark).as_ref() == &Value::Bool(true);
        if field.is_map() {
            let entry = (MapKey::String("key".to_owned()), Value::String(value.to_owned()));
            filled.set_field(&field, Value::Map([entry].into()));
        } else if field.name() == "mount_flags" {
            filled.set_field(&field, Value::List(vec![Value::String(value.to_owned())]));
        } else {
            assert!(!marked, "{} is marked as a secret and is not a map: fill it here", field.full_name());
        }
    }
    filled.encode_to_vec()
}

fn debug<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> String {
    format!("{:?} {0:#?}", M::decode(bytes).unwrap())
}

macro_rules! debug_of {
    ($($message:ident)*) => { [$((concat!("csi.v1.", stringify!($message)), debug::<$message> as fn(&[u8]) -> String)),*] };
}

#[test]
fn no_message_prints_its_secrets() {
    let pool = compiled(CSI).descriptor_pool();
    let mark = marked_secret(&pool);
    let known = debug_of!(
        CreateVolumeRequest DeleteVolumeRequest ControllerPublishVolumeRequest ControllerUnpublishVolumeRequest
        ValidateVolumeCapabilitiesRequest ControllerModifyVolumeRequest CreateSnapshotRequest DeleteSnapshotRequest
        ListSnapshotsRequest GetSnapshotRequest ControllerExpandVolumeRequest NodeStageVolumeRequest
        NodePublishVolumeRequest NodeExpandVolumeRequest CreateVolumeGroupSnapshotRequest
        DeleteVolumeGroupSnapshotRequest GetVolumeGroupSnapshotRequest GetMetadataAllocatedRequest
        GetMetadataDeltaRequest
    );
    let messages = secretive(&pool);
    assert!(messages.len() >= 19, "the definition marks {} messages", messages.len());
    for message in messages {
        let (_, debug) = known.iter().find(|(name, _)| *name == message.full_name()).unwrap_or_else(|| {
            panic!("{} holds a secret and is not tested here", message.full_name());
        });
        let printed = debug(&filled(&message, &mark, "hunter2"));
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("secrets: <1 withheld>"), "{printed}");
    }
}

#[test]
fn mount_flags_are_counted_not_printed() {
    let pool = compiled(CSI).descriptor_pool();
    let message = pool.get_message_by_name(MOUNT_VOLUME).unwrap();
    let printed = debug::<volume_capability::MountVolume>(&filled(&message, &marked_secret(&pool), "hunter2"));
    assert!(!printed.contains("hunter2") && printed.contains("mount_flags: <1 withheld>"), "{printed}");
}

#[test]
fn the_debug_text_of_a_request_identifies_it() {
    let request = NodePublishVolumeRequest {
        volume_id: "csi-0123".to_owned(),
        volume_context: [("repository".to_owned(), "https://u:hunter2@example.com/r".to_owned())].into(),
        ..NodePublishVolumeRequest::default()
    };
    let printed = format!("{request:?}");
    assert!(printed.contains("csi-0123") && printed.contains("volume_context: {\"repository\"}"), "{printed}");
}
