//! Progress on stderr, and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // A template that indicatif refuses leaves its own style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Counts things whose number is not known beforehand.
pub(crate) fn counter(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    styled(bar, &format!("{{spinner}} {{human_pos}} {what} ({{per_sec}})"))
}

/// Bytes out of a known number.
pub(crate) fn bytes(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    styled(bar, &format!("{what} {{bar:30}} {{bytes}} of {{total_bytes}} ({{eta}} left)"))
}

/// Something that takes a while.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let bar = styled(bar, "{spinner} {msg} ({elapsed})");
    bar.set_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
