//! A progress bar on a terminal.

use std::io::IsTerminal;
use std::io::stderr;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Silent;
use gitrepo_core::progress::Step;
use indicatif::HumanBytes;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// Returns a progress bar if stderr is a terminal; otherwise, and with `--json`, no progress is shown.
pub(crate) fn to_terminal(json: bool) -> Arc<dyn Progress> {
    if json || !stderr().is_terminal() {
        return Arc::new(Silent);
    }
    Arc::new(Bar(ProgressBar::new_spinner().with_style(spinner())))
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn report(&self, step: &Step) {
        match step {
            Step::Resolving => self.spin("asking the remote"),
            Step::Queued => self.spin("waiting for a free session"),
            Step::Waiting => self.spin("another process fetches this repository; waiting for it"),
            Step::Syncing => self.spin("syncing to the disk"),
            Step::Verifying { bytes } => {
                self.0.set_style(spinner());
                self.0.set_message(format!("verifying, {}", HumanBytes(*bytes)));
            }
            Step::Fetching { bytes, objects, total_objects } => {
                self.fill(*objects, *total_objects, format!("objects, {}", HumanBytes(*bytes)), "receiving");
            }
            Step::Writing { entries, total_entries, bytes } => {
                self.fill(*entries, *total_entries, format!("files, {}", HumanBytes(*bytes)), "writing");
            }
        }
    }
}

impl Bar {
    fn spin(&self, message: &'static str) {
        self.0.set_style(spinner());
        self.0.set_message(message);
        self.0.enable_steady_tick(Duration::from_millis(100));
    }

    fn fill(&self, done: u64, total: u64, message: String, prefix: &'static str) {
        if total == 0 {
            return self.spin(prefix);
        }
        self.0.disable_steady_tick();
        self.0.set_prefix(prefix);
        self.0.set_message(message);
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_style(bar());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>10} [{bar:30}] {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
