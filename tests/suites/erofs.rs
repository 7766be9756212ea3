//! EROFS images: the letter of the format, the tools of erofs-utils and the kernel agree on what is in them.

use gitrepo_core::testing::image::BlockSize;

use sample::Kind;
use sample::Sample;

mod mounting;
mod reading;
mod sample;
mod tools;

/// Enough devices that all files have chunk indexes.
const MANY_DEVICES: usize = 70;

/// Trees with everything that has a rule of its own.
fn samples(block_size: BlockSize) -> [(&'static str, Sample); 6] {
    [
        ("empty", Sample::new(0, block_size)),
        ("odd", odd(block_size)),
        ("many devices", many_devices(block_size)),
        ("large", large(block_size)),
        ("wide", wide(block_size)),
        ("deep", deep(block_size)),
    ]
}

/// Names, sizes and targets around every limit.
fn odd(block_size: BlockSize) -> Sample {
    let mut sample = Sample::new(3, block_size);
    let names = sample.directory(None, "names");
    for name in ["-", ".-", "...", ".a", "a", "a.b", "a0", "\n", "\\", "ä"] {
        sample.file(Some(names), name, 0, 5);
    }
    sample.directory(Some(names), b"\xff\xfe");
    let long = sample.directory(Some(names), [b'x'; 255]);
    for number in 0..40 {
        sample.file(Some(long), format!("{number:0>255}"), 1, 3);
    }
    sample.directory(Some(long), "empty");

    // In one block, these directories have so many bytes: 27 of "." and "..", and 12 more than each name.
    for size in [480, 481, 511, 512, 513, 992, 993, 1024, 4064, 4065, 4096, 4097] {
        let directory = sample.directory(None, format!("directory of {size}"));
        let (count, rest) = ((size - 27) / 64, (size - 27) % 64);
        for number in 0..count {
            let last = if number + 1 == count { rest } else { 0 };
            sample.file(Some(directory), format!("{number:0>0$}", 52 + last), 2, 0);
        }
    }
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000, (1 << 20) - 1, 1 << 20, 3_000_000] {
        for device in 0..3 {
            sample.file(None, format!("file of {size} on {device}"), device, size);
        }
    }
    let same = sample.nodes.last().map(|(_, _, kind)| kind.clone()).expect("the file before");
    sample.add(None, "the same content again", same);
    for length in [1, 448, 449, 480, 481, 511, 512, 513, 600, 1000, 3000, 4032, 4033, 4064, 4065, 4095] {
        sample.symlink(format!("link of {length}"), vec![b't'; length]);
    }
    sample.symlink("link", "names/ä");
    sample
}

fn many_devices(block_size: BlockSize) -> Sample {
    let mut sample = Sample::new(MANY_DEVICES, block_size);
    for number in 0..300 {
        sample.file(None, number.to_string(), number % MANY_DEVICES, number as u64 * 37);
    }
    sample
}

/// Files of more than 4 GiB, the second one at more than 4 GiB.
fn large(block_size: BlockSize) -> Sample {
    let mut sample = Sample::new(2, block_size);
    sample.file(None, "first", 0, (4 << 30) - 1);
    sample.file(None, "second", 1, (4 << 30) + 12_345);
    sample.file(None, "third", 1, 9 << 30);
    sample.file(None, "small", 1, 1000);
    sample
}

/// A directory with more subdirectories than a compact inode can count.
fn wide(block_size: BlockSize) -> Sample {
    let mut sample = Sample::new(1, block_size);
    let wide = sample.directory(None, "wide");
    for number in 0..65_600 {
        sample.directory(Some(wide), number.to_string());
    }
    sample.file(Some(wide), "file", 0, 100);
    sample
}

/// Deep, but for the stack of fsck.erofs.
fn deep(block_size: BlockSize) -> Sample {
    let mut sample = Sample::new(1, block_size);
    let mut parent = None;
    for _ in 0..400 {
        parent = Some(sample.directory(parent, "d"));
    }
    sample.file(parent, "file", 0, 5000);
    sample.add(parent, "link", Kind::Symlink(b"file".to_vec()));
    sample
}
