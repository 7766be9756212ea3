//! The properties of `tests/fuzz`, over input that is nearly right. Coverage-guided runs find more; these run on stable
//! Rust, for a bounded time.

use gitrepo_core::testing::fuzz;
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// A packet with a text of git's protocol, or nearly one.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("version 2\n".to_owned()),
        Just("version 1\n".to_owned()),
        Just("# service=git-upload-pack\n".to_owned()),
        Just("ls-refs=unborn\n".to_owned()),
        Just("object-format=sha256\n".to_owned()),
        Just(format!("{ID} refs/heads/main\n")),
        Just(format!("{ID} HEAD\0 symref=HEAD:refs/heads/main shallow agent=git/2.39\n")),
        Just(format!("{ID} HEAD symref-target:refs/heads/main\n")),
        Just(format!("{ID} refs/tags/v1 peeled:{ID}\n")),
        Just("unborn HEAD symref-target:refs/heads/main\n".to_owned()),
        Just(format!("shallow {ID}\n")),
        Just(format!("unshallow {ID}")),
        Just(format!("ACK {ID}\n")),
        Just("NAK\n".to_owned()),
        Just("shallow-info\n".to_owned()),
        Just("packfile\n".to_owned()),
        Just("\u{1}PACK".to_owned()),
        Just("\u{2}counting".to_owned()),
        Just("\u{3}disk full".to_owned()),
        Just("ERR not our ref".to_owned()),
        "[ -~]{0,40}",
    ];
    prop_oneof![
        8 => text.prop_map(|text| [format!("{:04x}", text.len() + 4).as_bytes(), text.as_bytes()].concat()),
        2 => prop_oneof![Just(b"0000".to_vec()), Just(b"0001".to_vec()), Just(b"0002".to_vec()), Just(b"0003".to_vec())],
        1 => any::<Vec<u8>>(),
    ]
}

/// A message, possibly cut short.
fn message() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(packet(), 0..12), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(packets, cut, is_cut)| {
            let mut message = packets.concat();
            if is_cut && !message.is_empty() {
                message.truncate(cut.index(message.len()));
            }
            message
        },
    )
}

fn head() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "HTTP/[0-9.]{0,4} [0-9]{0,6}( [ -~]{0,10})?",
        "(Content-Type|location|RETRY-AFTER|Www-Authenticate|content-encoding)[ \t]{0,2}:?[ \t]{0,2}[ -~]{0,30}[ \t]{0,2}",
        "[ \t][ -~]{0,20}",
        "\\PC{0,20}",
    ];
    (prop::collection::vec(line, 0..10), prop_oneof![Just("\r\n"), Just("\n")])
        .prop_map(|(lines, newline)| lines.iter().map(|line| format!("{line}{newline}")).collect())
}

fn challenges() -> impl Strategy<Value = String> {
    let word = "(Basic|Bearer|Negotiate|NTLM|Digest|,|, | |=|\"|\\\\|\n|realm=|realm=\"a, b\"|[ -~]{0,5})";
    prop::collection::vec(word, 0..20).prop_map(|words| words.concat())
}

fn location() -> impl Strategy<Value = String> {
    let part = "(https?:|HTTP:|ssh:|file:|//|/|\\.\\.|\\.|git\\.example\\.com|evil\\.example\\.com|\\[::1\\]|:[0-9]{0,6}|@|\\?|#|%[0-9a-f]{0,2}|info/refs|git-upload-pack|service=git-upload-pack|\\PC{0,4})";
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_message_of_gits_protocol_is_read_or_refused(message in message()) {
        fuzz::packets(&message);
        fuzz::hello(&message);
        fuzz::refs(&message);
        fuzz::fetch(&message);
    }

    #[test]
    fn any_head_is_read_or_refused(head in head(), bytes in any::<Vec<u8>>()) {
        fuzz::head(head.as_bytes());
        fuzz::head(&bytes);
    }

    #[test]
    fn any_challenges_are_read(challenges in challenges(), bytes in any::<Vec<u8>>()) {
        fuzz::challenges(challenges.as_bytes());
        fuzz::challenges(&bytes);
    }

    #[test]
    fn any_location_stays_on_its_host_or_is_refused(location in location(), bytes in any::<Vec<u8>>()) {
        fuzz::location(location.as_bytes());
        fuzz::location(&bytes);
    }
}

/// A target without a section in the manifest is not built, and would never run.
#[test]
fn every_fuzz_target_is_named_in_its_manifest() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
    let targets = gitrepo_tests::volumes::entries(&directory.join("fuzz_targets"));
    assert!(targets.len() >= 9, "{targets:?}");
    for target in targets {
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
