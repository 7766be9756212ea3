//! Text for people: tables, ages, sizes and paths.

use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;

/// Formats rows in aligned columns under a heading; returns an empty text if there are no rows.
pub(crate) fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> =
        (0..COLUMNS).map(|column| lines.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; COLUMNS]| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Formats a path for a terminal: escapes control characters.
pub(crate) fn printable(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Formats an age in one unit, as `kubectl get` does.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Formats a number of bytes with a binary unit, such as `1.50 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// Shortens a commit id or a hash, as `git log --oneline` does.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_path_are_escaped() {
        assert_eq!(printable(Path::new("/a\x1b[2J\nb ü")), "/a\\u{1b}[2J\\nb ü");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table(["A", "B"], Vec::new()), "");
        let rows = vec![["long".to_owned(), "1".to_owned()], ["x".to_owned(), "ü".to_owned()]];
        assert_eq!(table(["A", "B"], rows), "A     B\nlong  1\nx     ü");
    }
}
