//! Results as bars, in SVG: one panel for each case, each with its own scale.

use std::fmt::Write;

use super::results::Case;
use super::results::Results;
use super::tables;

const WIDTH: f64 = 800.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 190.0;
const LONGEST: f64 = 470.0;
const BAR: f64 = 16.0;
const ROW: f64 = 22.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 12.0;

/// Colours for light and for dark pages: the image is transparent.
const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .rival { fill: #8c959f; }
  .ours { fill: #1f7a4d; }
  .range { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .rival { fill: #6e7681; }
    .ours { fill: #3fb37f; }
    .range { stroke: #e6edf3; }
  }
";

/// The cases with these keys, as far as they were measured. Bars are medians, the line on a bar is its range.
pub fn svg(results: &Results, keys: &[&str]) -> String {
    let cases: Vec<&Case> =
        keys.iter().filter_map(|key| results.case(key)).filter(|case| !bars(case).is_empty()).collect();
    let height: f64 = cases.iter().map(|case| TITLE + ROW * bars(case).len() as f64).sum::<f64>() + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Time of each way to get a tree: shorter is better\">\n<style>{STYLE}</style>\n"
    );
    let mut top = 0.0;
    for case in cases {
        top = panel(&mut text, case, top);
    }
    text + "</svg>\n"
}

struct Bar<'a> {
    label: &'a str,
    class: &'static str,
    least: f64,
    median: f64,
    most: f64,
}

fn bars(case: &Case) -> Vec<Bar<'_>> {
    let bar = |series: &super::results::Series| series.spread(|sample| sample.wall);
    let measured = case.series.iter().filter_map(|series| Some((series, bar(series)?)));
    measured
        .map(|(series, wall)| Bar {
            label: &series.contender,
            class: if series.ours { "ours" } else { "rival" },
            least: wall.least,
            median: wall.median,
            most: wall.most,
        })
        .collect()
}

/// Draws a case below `top`, and returns where it ends.
fn panel(text: &mut String, case: &Case, top: f64) -> f64 {
    let bars = bars(case);
    let scale = LONGEST / bars.iter().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
    let baseline = top + TITLE - 10.0;
    writeln!(text, "<text class=\"title\" x=\"{MARGIN}\" y=\"{baseline}\">{}</text>", escape(&case.title)).unwrap();
    let mut y = top + TITLE;
    for Bar { label, class, least, median, most } in bars {
        let middle = y + BAR / 2.0;
        let (low, end, high) = (LEFT + least * scale, LEFT + median * scale, LEFT + most * scale);
        let right = LEFT - 8.0;
        writeln!(text, "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", middle + 4.5, escape(label))
            .unwrap();
        let width = (median * scale).max(1.0);
        writeln!(
            text,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        )
        .unwrap();
        writeln!(text, "<path class=\"range\" d=\"M{low:.1} {middle:.1}H{high:.1}\"/>").unwrap();
        let beside = end.max(high) + 8.0;
        writeln!(text, "<text x=\"{beside:.1}\" y=\"{:.1}\">{}</text>", middle + 4.5, tables::duration(median))
            .unwrap();
        y += ROW;
    }
    y
}

/// Text that is text in XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
