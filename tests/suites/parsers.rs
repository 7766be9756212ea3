//! The properties of `tests/fuzz`, over input that is nearly right. Coverage-guided runs find more; these run on stable
//! Rust, for a bounded time.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
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

/// Objects of a pack, or nearly: the number of objects, and each with a header and its content.
fn objects() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        4 => (1..=4_u8, 0..16_u8).prop_map(|(kind, size)| vec![kind << 4 | size]),
        2 => (0..16_u8, 0..64_u8).prop_map(|(size, back)| vec![6 << 4 | size, back]),
        1 => (0..16_u8).prop_map(|size| [&[7 << 4 | size][..], &EMPTY_BLOB].concat()),
        1 => any::<Vec<u8>>(),
    ];
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..16),
        Just(vec![0, 3, 3, b'a', b'b', b'c']),
        Just(vec![0, 0]),
        Just(vec![5, 5, 0x90, 5]),
    ];
    let object = (header, content).prop_map(|(mut object, content)| {
        if let Some(first) = object.first_mut() {
            *first = (*first & 0x70) | u8::try_from(content.len()).unwrap();
        }
        let mut zlib = ZlibEncoder::new(&mut object, Compression::fast());
        zlib.write_all(&content).unwrap();
        zlib.finish().unwrap();
        object
    });
    (prop::collection::vec(object, 0..6), 0..2_u32).prop_map(|(objects, more)| {
        let count = u32::try_from(objects.len()).unwrap() + more;
        [&count.to_be_bytes()[..], &objects.concat()].concat()
    })
}

/// A manifest, or nearly.
fn manifest() -> impl Strategy<Value = Vec<u8>> {
    const SEGMENT: &str = "segment-1111111111111111111111111111111111111111";
    let path = "(a|b|c|\\.git|\\.\\.|a~1|[ -~]{1,3}){1,2}(/(a|b|\\.|[a-z]{1,3})){0,3}";
    let number = "[0-9]{1,3}|0|1024|4096|-1|18446744073709551615";
    let record = prop_oneof![
        8 => (number, number, path, any::<bool>()).prop_map(|(size, offset, path, has_second)| {
            let second = if has_second { format!(" {}", ID.replace('0', "f")) } else { String::new() };
            format!("100644 blob {ID} {size} 0 {offset}{second}\t{path}")
        }),
        2 => (number, path).prop_map(|(size, path)| format!("120000 blob {ID} {size} 0 0\t{path}")),
        2 => path.prop_map(|path| format!("100755 blob {ID} 1 0 0\t{path}")),
        2 => path.prop_map(|path| format!("160000 commit {ID} -\t{path}")),
        2 => path.prop_map(|path| format!("040000 tree {ID} -\t{path}/")),
        1 => Just(format!("shallow {ID}")),
        1 => "[ -~]{0,80}",
    ];
    let is_shown = any::<bool>();
    (is_shown, prop::collection::vec(record, 0..8), any::<bool>()).prop_map(|(is_shown, mut records, is_sorted)| {
        if is_sorted {
            records.sort_by_key(|record| record.split_once('\t').map(|(_, path)| path.to_owned()));
        }
        let pack = is_shown.then(|| format!("pack pack-{ID} {ID} {ID} 32 {ID} 1072"));
        let head = ["time 1700000000".to_owned(), format!("segment {SEGMENT}")];
        head.into_iter().chain(pack).chain(records).map(|record| record + "\0").collect::<String>().into_bytes()
    })
}

/// A commit that a trusted key signed, with more in its message than was signed.
fn changed_commit() -> impl Strategy<Value = Vec<u8>> {
    let signed = prop_oneof![
        Just(&include_bytes!("../../gitrepo-core/src/signature/vectors/openpgp/ed25519.commit")[..]),
        Just(&include_bytes!("../../gitrepo-core/src/signature/vectors/openpgp/subkey.commit")[..]),
        Just(&include_bytes!("../../gitrepo-core/src/signature/vectors/ed25519.commit")[..]),
        Just(&include_bytes!("../../gitrepo-core/src/signature/vectors/certified.commit")[..]),
    ];
    (signed, prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(signed, more)| [signed, &more].concat())
}

/// A commit with a signature, or nearly.
fn nearly_signed_commit() -> impl Strategy<Value = Vec<u8>> {
    let armor = prop_oneof![Just("PGP SIGNATURE"), Just("SSH SIGNATURE"), Just("PGP MESSAGE")];
    let (header, body) = (prop_oneof![Just("gpgsig"), Just("gpgsig-sha256"), Just("author")], any::<Vec<u8>>());
    // A signature packet of version 4, as a document by Ed25519 with SHA-256, or the beginning of one for SSH.
    let start = prop_oneof![
        Just(vec![0xc2, 0x3a, 4, 0, 27, 8]),
        Just(vec![0x88, 0x5d, 4, 0, 22, 10, 0, 6, 5, 2, 0x60, 0, 0, 0]),
        Just(b"SSHSIG\0\0\0\x01".to_vec()),
        Just(Vec::new()),
    ];
    (header, armor, start, body, ".{0,20}").prop_map(|(header, armor, start, body, message)| {
        let encoded = BASE64_STANDARD.encode([start, body].concat());
        let lines = format!("-----BEGIN {armor}-----\n\n{encoded}\n-----END {armor}-----").replace('\n', "\n ");
        format!("tree {ID}\n{header} {lines}\n\n{message}\n").into_bytes()
    })
}

/// The id of the empty blob.
const EMPTY_BLOB: [u8; 20] = [
    0xe6, 0x9d, 0xe2, 0x9b, 0xb2, 0xd1, 0xd6, 0x43, 0x4b, 0x8b, 0x29, 0xae, 0x77, 0x5a, 0xd8, 0xc2, 0xe4, 0x8c, 0x53,
    0x91,
];

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_manifest_of_a_worker_is_read_within_its_limits_or_refused(manifest in manifest(), bytes in any::<Vec<u8>>()) {
        fuzz::manifest(&manifest);
        fuzz::manifest(&bytes);
    }

    #[test]
    fn s20_a_commit_that_no_trusted_key_signed_is_refused(
        commit in prop_oneof![nearly_signed_commit(), changed_commit()],
        bytes in any::<Vec<u8>>(),
    ) {
        fuzz::unsigned_commit(&commit);
        fuzz::unsigned_commit(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_pack_is_kept_whole_or_refused(objects in objects()) {
        fuzz::pack(&objects);
    }
}

/// A target without a section in the manifest is not built, and would never run.
#[test]
fn every_fuzz_target_is_named_in_its_manifest() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
    let targets = gitrepo_tests::volumes::entries(&directory.join("fuzz_targets"));
    assert!(targets.len() >= 10, "{targets:?}");
    for target in targets {
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
