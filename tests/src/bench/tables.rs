//! Results as Markdown.

use std::fmt::Write;

use super::goals;
use super::results::Case;
use super::results::Results;
use super::results::Sample;
use super::results::Series;
use super::spread::Spread;

/// One row for each case and rival.
pub fn summary(results: &Results) -> String {
    let mut text = format!("{}\n", results.machine.describe());
    let ours = ours(results);
    write!(text, "\n| what | another way |").unwrap();
    ours.iter().for_each(|name| write!(text, " {name} |").unwrap());
    write!(text, "\n|---|---|{}\n", "---|".repeat(ours.len())).unwrap();
    for case in &results.cases {
        if case.rivals.is_empty() {
            summary_row(&mut text, case, None, &ours);
        }
        for rival in &case.rivals {
            summary_row(&mut text, case, Some(rival), &ours);
        }
    }
    text
}

fn summary_row(text: &mut String, case: &Case, rival: Option<&str>, ours: &[&str]) {
    let wall = |series: &Series| series.spread(|sample| sample.wall).map(|spread| duration(spread.median));
    let theirs = rival.map_or(String::new(), |rival| {
        let taken = case.of(rival).and_then(wall);
        format!("{}: {}", code(rival), taken.unwrap_or_else(|| "not measured".to_owned()))
    });
    write!(text, "| {} | {theirs} |", case.title).unwrap();
    for name in ours {
        let series = case.series.iter().find(|series| series.contender == *name);
        let cell = match series {
            None => String::new(),
            Some(series) => match (wall(series), rival.and_then(|rival| case.ratio(rival, series))) {
                (None, _) => "not available".to_owned(),
                (Some(taken), None) => taken,
                (Some(taken), Some(ratio)) => format!("{taken}, {}", times(ratio.median)),
            },
        };
        write!(text, " {cell} |").unwrap();
    }
    text.push('\n');
}

/// Our contenders in the order of their first case.
fn ours(results: &Results) -> Vec<&str> {
    let mut names = Vec::new();
    for series in results.cases.iter().flat_map(|case| &case.series).filter(|series| series.ours) {
        if !names.contains(&series.contender.as_str()) {
            names.push(series.contender.as_str());
        }
    }
    names
}

/// What the project promises itself, and what was measured.
pub fn goals(results: &Results) -> String {
    let mut text = "| goal | wanted | measured | met |\n|---|---|---|---|\n".to_owned();
    for row in goals::judge(results) {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        writeln!(text, "| {} | {} | {} | {met} |", row.what, row.wanted, row.measured).unwrap();
    }
    text
}

/// Everything but the samples themselves: a table for each case.
pub fn details(results: &Results) -> String {
    let tables: Vec<_> = results.cases.iter().map(case_table).collect();
    format!("{LEGEND}\n{}", tables.join("\n"))
}

const LEGEND: &str = "\
Medians; ranges in parentheses. *wall* ends when the command returns, *on disk after* when all that it wrote is on disk:
git does not wait for that, and gitrepo does. Ratios are of the same round. *CPU* is that of all processes of the command,
without the kernel's own threads. *memory* is the most that one process had, with the files that it maps; *together* the
most that all processes had at once, without files. *received* is what the server sent. *disk* and *inodes* are how
much more of the filesystem is in use afterwards.
";

fn case_table(case: &Case) -> String {
    let rival = case.rivals.first();
    let mut columns = vec!["wall, ms".to_owned()];
    columns.extend(rival.map(|rival| format!("{} / it", code(rival))));
    columns.extend(
        ["on disk after, ms", "CPU, s", "server's CPU, s", "memory, MiB", "received", "disk", "inodes"]
            .map(str::to_owned),
    );
    let mut text =
        format!("### {}\n\n| | {} |\n|---|{}\n", case.title, columns.join(" | "), "---|".repeat(columns.len()));
    for series in &case.series {
        let mut cells = match &series.unavailable {
            Some(why) => vec![format!("not available: {}", cell(why))],
            None => cells(case, series),
        };
        cells.resize(columns.len(), String::new());
        writeln!(text, "| {} | {} |", code(&series.contender), cells.join(" | ")).unwrap();
    }
    text
}

fn cells(case: &Case, series: &Series) -> Vec<String> {
    let median = |number: fn(&Sample) -> f64| series.spread(number).map_or(0.0, |spread| spread.median);
    let wall = series.spread(|sample| sample.wall).map(|wall| range(wall.times(1e3), digits));
    let mut cells = vec![wall.unwrap_or_default()];
    let ratio = |rival: &String| case.ratio(rival, series).map(|ratio| range(ratio, times)).unwrap_or_default();
    cells.extend(case.rivals.first().map(ratio));
    let mebibytes = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
    let memory = mebibytes(median(|sample| sample.memory as f64));
    cells.extend([
        digits(median(|sample| sample.durable) * 1e3),
        format!("{:.2}", median(|sample| sample.cpu)),
        format!("{:.2}", median(|sample| sample.server_cpu)),
        series.together.map_or(memory.clone(), |bytes| format!("{memory}; together {}", mebibytes(bytes as f64))),
        bytes(median(|sample| sample.wire as f64)),
        bytes(median(|sample| sample.disk as f64)),
        format!("{:.0}", median(|sample| sample.inodes as f64)),
    ]);
    cells
}

/// A median with its range.
pub fn range(spread: Spread, number: impl Fn(f64) -> String) -> String {
    format!("{} ({}–{})", number(spread.median), number(spread.least), number(spread.most))
}

/// Three digits, more before the point.
pub fn digits(number: f64) -> String {
    match number.abs() {
        0.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A ratio: `3.1×`.
pub fn times(ratio: f64) -> String {
    match ratio {
        ..1.0 => format!("{ratio:.2}×"),
        1.0..10.0 => format!("{ratio:.1}×"),
        _ => format!("{ratio:.0}×"),
    }
}

/// Seconds, or milliseconds below one.
pub fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", digits(seconds * 1e3)) } else { format!("{} s", digits(seconds)) }
}

/// Bytes in decimal units.
pub fn bytes(number: f64) -> String {
    match number.abs() {
        0.0..1e3 => format!("{number:.0} B"),
        1e3..1e6 => format!("{:.1} kB", number / 1e3),
        _ => format!("{:.1} MB", number / 1e6),
    }
}

/// A command in a table. Ours are names.
fn code(contender: &str) -> String {
    if contender.starts_with("git ") || contender.contains(" -") {
        format!("`{contender}`")
    } else {
        contender.to_owned()
    }
}

/// Text that cannot end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
