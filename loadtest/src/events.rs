//! Makes a scenario's events happen at their times.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::crowd::Crowd;
use crate::portal::Mode;
use crate::portal_control::PortalControl;
use crate::scenario::{Edit, Event};
use crate::{Context, Failure, Outcome};

/// For so long after a portal is well again the gateway may still answer for its failures.
const AFTERMATH: Duration = Duration::from_secs(10);

/// What events act upon.
#[derive(Clone, Debug)]
pub struct Stagehand {
    /// The visitors.
    pub crowd: Rc<Crowd>,
    /// The portal, if we may give it orders.
    pub portal: Option<PortalControl>,
    /// The proxy's configuration file, if we may change it.
    pub config: Option<PathBuf>,
}

impl Stagehand {
    /// Makes `events` happen, in order, each at its time after `start`.
    ///
    /// # Errors
    /// When one could not be made to happen: the run then shows nothing.
    pub async fn perform(&self, events: &[Event], start: Moment, clock: &Clock) -> Outcome<()> {
        let mut in_order: Vec<&Event> = events.iter().collect();
        in_order.sort_by_key(|event| event.at);
        for event in in_order {
            clock.sleep_until(start + event.at.0).await;
            self.happen(event, clock).await.context(|| format!("event at {:?}", event.at.0))?;
        }
        Ok(())
    }

    async fn happen(&self, event: &Event, clock: &Clock) -> Outcome<()> {
        if let Some(edit) = &event.edit {
            self.edit(edit)?;
        }
        if let Some(command) = &event.shell {
            run_in_shell(command).await?;
        }
        if let Some(order) = event.portal {
            let control = self.portal.as_ref().ok_or_else(|| Failure::new("name the portal with --portal"))?;
            let well_again = match (order.mode(), order.lasts()) {
                (Mode::Ok, _) => clock.now() + AFTERMATH,
                (_, Some(span)) => clock.now() + span + AFTERMATH,
                (_, None) => Moment::NEVER,
            };
            self.crowd.expect_gateway_errors(well_again);
            control.order(order).await?;
        }
        if let Some(span) = event.login_out {
            let control = self.portal.as_ref().ok_or_else(|| Failure::new("name the portal with --portal"))?;
            control.break_login(span.0).await?;
            self.crowd.close_login(clock.now() + span.0);
        }
        if let Some(span) = event.cut {
            self.crowd.cut(clock.now() + span.0);
        }
        Ok(())
    }

    /// Replaces the file as editors do: writes a new one and renames it.
    fn edit(&self, edit: &Edit) -> Outcome<()> {
        let file = self.config.as_ref().ok_or_else(|| Failure::new("name the configuration file with --config"))?;
        let text = std::fs::read_to_string(file).context(|| file.display().to_string())?;
        if !text.contains(&edit.from) {
            return Err(Failure::new(format!("{}: there is no {:?}", file.display(), edit.from)));
        }
        let new = file.with_extension("new");
        std::fs::write(&new, text.replace(&edit.from, &edit.to)).context(|| new.display().to_string())?;
        std::fs::rename(&new, file).context(|| file.display().to_string())
    }
}

async fn run_in_shell(command: &str) -> Outcome<()> {
    let status =
        tokio::process::Command::new("sh").arg("-c").arg(command).status().await.context(|| command.to_owned())?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{command}: {status}"))) }
}
