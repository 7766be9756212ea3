use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::*;

fn id(blob: &[u8]) -> Oid {
    Oid::hash_object(ObjectType::Blob, blob).unwrap()
}

/// Writes a segment of these blobs in a repository.
fn write(repository: &Path, blobs: &[&[u8]]) {
    let directory = repository.join(DIRECTORY);
    fs::create_dir_all(&directory).unwrap();
    let mut segment = SegmentWriter::create(&directory).unwrap();
    let mut records = Vec::new();
    for blob in blobs {
        let offset = segment.begin().unwrap();
        segment.write_all(blob).unwrap();
        records.push((id(blob), offset, blob.len() as u64));
    }
    segment.finish(records.into_iter()).unwrap();
}

fn read(repository: &Path, blob: &[u8]) -> Option<Vec<u8>> {
    let segments = Segments::open(repository).unwrap();
    let extent = segments.locate(&[id(blob)]).unwrap()[0]?;
    let mut content = Vec::new();
    segments.read(extent).read_to_end(&mut content).unwrap();
    Some(content)
}

/// The only segment of a repository, and its index.
fn files(repository: &Path) -> [std::path::PathBuf; 2] {
    let paths = fs::read_dir(repository.join(DIRECTORY)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    paths.try_into().unwrap()
}

#[test]
fn blobs_of_any_length_are_found_and_aligned() {
    let place = tempfile::tempdir().unwrap();
    let blobs: Vec<Vec<u8>> =
        [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 3 << 20].iter().map(|length| vec![7; *length]).collect();
    write(place.path(), &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for blob in &blobs {
        assert!(read(place.path(), blob).as_ref() == Some(blob), "{} bytes", blob.len());
    }
    assert_eq!(read(place.path(), b"another"), None);
    let [content, index] = files(place.path());
    assert_eq!(fs::metadata(&content).unwrap().len() % ALIGNMENT, 0);
    check(stem(&content), &File::open(&content).unwrap(), File::open(index).unwrap()).unwrap();
}

#[test]
fn blobs_of_a_base_and_of_two_segments_are_found() {
    let place = tempfile::tempdir().unwrap();
    let (base, upon) = (place.path().join("base"), place.path().join("upon"));
    write(&base, &[b"in the base", b"twice"]);
    write(&upon, &[b"twice"]);
    write(&upon, &[b"above"]);
    fs::create_dir_all(upon.join("objects/info")).unwrap();
    fs::write(upon.join("objects/info/alternates"), format!("{}\n", base.join("objects").display())).unwrap();
    for blob in [&b"in the base"[..], b"twice", b"above"] {
        assert_eq!(read(&upon, blob).as_deref(), Some(blob));
    }
    assert_eq!(read(&base, b"above"), None);
}

#[test]
fn a_segment_without_blobs_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &[]);
    assert_eq!(fs::read_dir(place.path().join(DIRECTORY)).unwrap().count(), 0);
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let (place, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept: Vec<Vec<u8>> = [5, 700, 1 << 20, (3 << 20) + 7].iter().map(|length| vec![9; *length]).collect();
    write(plain.path(), &kept.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let directory = place.path().join(DIRECTORY);
    fs::create_dir_all(&directory).unwrap();
    let mut segment = SegmentWriter::create(&directory).unwrap();
    let mut records = Vec::new();
    // What is taken back is in the buffer, in the file, or in both.
    for (blob, rejected) in kept.iter().zip([0, 1000, 1 << 20, (9 << 20) + 1]) {
        let offset = segment.begin().unwrap();
        let mark = segment.mark();
        segment.write_all(&vec![1; rejected]).unwrap();
        segment.rewind(&mark).unwrap();
        segment.write_all(blob).unwrap();
        records.push((id(blob), offset, blob.len() as u64));
    }
    segment.finish(records.into_iter()).unwrap();
    let [found, expected] = [&place, &plain].map(|place| files(place.path()));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.file_name(), expected.file_name());
        assert!(fs::read(found).unwrap() == fs::read(expected).unwrap(), "{}", found.display());
    }
}

#[test]
fn a_damaged_index_is_refused() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &[b"one", b"two", &[3; 1000]]);
    let [content, index] = files(place.path());
    let whole = fs::read(&index).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&index, bytes).unwrap();
        let found = Segments::open(place.path()).unwrap().locate(&[id(b"one")]);
        matches!(found, Err(IndexError::Damaged(_)))
    };
    for length in [0, 7, 27, 28, 63, whole.len() - 1] {
        assert!(refused(&whole[..length]), "{length} bytes");
    }
    for at in 0..whole.len() {
        // The checksum of the content is not looked at here.
        if !(24..28).contains(&at) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(refused(&bytes), "byte {at}");
        }
    }
    fs::write(&index, &whole).unwrap();
    File::options().write(true).open(&content).unwrap().set_len(600).unwrap();
    assert!(Segments::open(place.path()).unwrap().locate(&[id(b"one")]).is_err(), "its segment is cut short");
}

#[test]
fn a_torn_segment_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &[b"one", &[3; 1000]]);
    let [content, index] = files(place.path());
    let check = || check(stem(&content), &File::open(&content).unwrap(), File::open(&index).unwrap());
    check().unwrap();
    let whole = fs::read(&content).unwrap();
    for torn in [&whole[..512], &vec![0; whole.len()], &[&whole[..], &[0; 512]].concat()] {
        fs::write(&content, torn).unwrap();
        assert!(matches!(check(), Err(IndexError::Damaged(_))));
    }
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}
