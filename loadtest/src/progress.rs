//! One line that tells how the run goes, while it goes.

use std::io::IsTerminal;
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::{Clock, Moment};
use crate::crowd::Crowd;

/// Between two lines where there is no terminal to rewrite one.
const SECONDS_BETWEEN_LINES: u64 = 10;

/// Shows once a second how the crowd is doing; never returns.
pub async fn show(crowd: Rc<Crowd>, clock: Clock, start: Moment) {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut entered_before = 0;
    for second in 1.. {
        clock.sleep_until(start + Duration::from_secs(second)).await;
        crowd.pool().sweep();
        let line = line(&crowd, second, &mut entered_before);
        bar.set_message(line.clone());
        bar.tick();
        if !terminal && second % SECONDS_BETWEEN_LINES == 0 {
            eprintln!("{line}");
        }
    }
}

fn line(crowd: &Crowd, second: u64, entered_before: &mut u64) -> String {
    let measures = crowd.measures();
    let counts = measures.counts;
    let in_last_second = counts.entered.saturating_sub(*entered_before);
    *entered_before = counts.entered;
    format!(
        "{second:>5} s  arrived {}  waiting {}  called {}  entered {} ({in_last_second}/s)  left {}  errors {}  lag p99 {:.1} ms",
        counts.arrived,
        counts.joined.saturating_sub(counts.called + counts.left),
        counts.called,
        counts.entered,
        counts.left,
        measures.troubles.errors(),
        measures.lag.figures().p99_ms
    )
}
