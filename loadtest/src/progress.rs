//! One line that tells how the run goes, while it goes; and the samples it is made from.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::{Clock, Moment};
use crate::crowd::Crowd;
use crate::timeline::{Sample, Timeline};

/// Between two lines where there is no terminal to rewrite one.
const SECONDS_BETWEEN_LINES: u64 = 10;

/// Takes a sample once a second and shows how the crowd is doing; never returns.
pub async fn show(crowd: Rc<Crowd>, timeline: &RefCell<Timeline>, proxy: Option<u32>, clock: Clock, start: Moment) {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut before = Sample::default();
    for second in 1.. {
        clock.sleep_until(start + Duration::from_secs(second)).await;
        crowd.pool().sweep();
        let now = timeline.borrow_mut().take(&crowd, proxy, start, clock.now());
        let line = line(&crowd, &before, &now);
        before = now;
        bar.set_message(line.clone());
        bar.tick();
        if !terminal && second % SECONDS_BETWEEN_LINES == 0 {
            eprintln!("{line}");
        }
    }
}

fn line(crowd: &Crowd, before: &Sample, now: &Sample) -> String {
    format!(
        "{:>5} s  arrived {}  waiting {}  called {}  entered {} ({}/s)  left {}  {} requests/s  errors {}  lag p99 {:.1} ms",
        now.second,
        now.arrived,
        now.waiting,
        now.called,
        now.entered,
        now.entered.saturating_sub(before.entered),
        now.left,
        now.requests.saturating_sub(before.requests),
        now.errors,
        crowd.measures().lag.figures().p99_ms
    )
}
