//! The progress bar: on stderr, and only where that is a terminal.

use coffer_client::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Redraws per second, and how often it moves when no bytes do.
const REFRESH_HZ: u8 = 8;
const TICK: Duration = Duration::from_millis(200);

const SIZED: &str =
    "{msg} [{bar:24}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
const UNSIZED: &str = "{msg} {spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";

/// Shows how a transfer gets on; vanishes when dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    name: String,
}

impl Bar {
    pub(super) fn new(name: String) -> Self {
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
        bar.set_style(style(UNSIZED));
        bar.set_message(name.clone());
        bar.enable_steady_tick(TICK);
        Self { bar, name }
    }

    pub(super) fn update(&self, progress: Progress) {
        if progress.attempts > 1 {
            self.bar.set_message(format!("{} (attempt {})", self.name, progress.attempts));
        }
        if self.bar.length() != progress.total_bytes
            && let Some(total_bytes) = progress.total_bytes
        {
            self.bar.set_length(total_bytes);
            self.bar.set_style(style(SIZED));
        }
        self.bar.set_position(progress.done_bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("both templates are tested").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_the_transfer() {
        style(SIZED);
        let bar = Bar::new("a.txt".to_owned());
        bar.update(Progress { done_bytes: 3, total_bytes: None, attempts: 1 });
        assert_eq!((bar.bar.position(), bar.bar.length()), (3, None));
        assert_eq!(bar.bar.message(), "a.txt");
        bar.update(Progress { done_bytes: 5, total_bytes: Some(10), attempts: 2 });
        assert_eq!((bar.bar.position(), bar.bar.length()), (5, Some(10)));
        assert_eq!(bar.bar.message(), "a.txt (attempt 2)");
    }
}
