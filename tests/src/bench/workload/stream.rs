//! A repository as input of `git fast-import`.

use std::io;
use std::io::Write;

use super::Workload;
use super::source::Source;
use crate::git::EPOCH;

pub(super) fn write(workload: &Workload, writer: &mut impl Write) -> io::Result<()> {
    let source = Source::new(workload.seed, workload.files, workload.bytes);
    let mut revisions = vec![0; workload.files];
    begin_commit(writer, 0)?;
    for file in 0..workload.files {
        write_file(writer, &source, file, 0)?;
    }
    let changes = (workload.files / 100).max(1);
    for commit in 1..workload.commits {
        begin_commit(writer, commit)?;
        for change in 0..changes {
            let file = source.choose(commit * changes + change);
            revisions[file] += 1;
            write_file(writer, &source, file, revisions[file])?;
        }
    }
    for branch in 0..workload.branches.min(workload.commits) {
        write!(writer, "reset refs/heads/at/{branch}\nfrom :{}\n\n", workload.commits - branch)?;
    }
    writer.write_all(b"done\n")
}

fn begin_commit(writer: &mut impl Write, number: usize) -> io::Result<()> {
    let time = EPOCH + 60 * number as u64;
    let message = format!("Commit {number}\n");
    write!(writer, "commit refs/heads/main\nmark :{}\n", number + 1)?;
    write!(writer, "committer Committer <committer@example.com> {time} +0000\ndata {}\n{message}", message.len())
}

fn write_file(writer: &mut impl Write, source: &Source, file: usize, revision: usize) -> io::Result<()> {
    let content = source.content(file, revision);
    let mode = if source.is_executable(file) { "100755" } else { "100644" };
    write!(writer, "M {mode} inline {}\ndata {}\n", source.path(file), content.len())?;
    writer.write_all(&content)?;
    writer.write_all(b"\n")
}
