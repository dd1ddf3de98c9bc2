//! `anticamera pass`: passes for staff and monitoring, on this machine's disk. The running program takes them over by itself.

use std::path::Path;
use std::process::ExitCode;

use anticamera::admin::handouts;
use anticamera::ctl::{self, PassOrder};

use super::{handing_out, mode};

/// Carries an order out under the configuration of a file.
pub fn carry_out(config: &Path, order: PassOrder) -> ExitCode {
    handing_out(config, |asking| match order {
        PassOrder::Create { room, name, expires, dry_run } => {
            let wanted = handouts::PassBody { room, name, expires };
            Ok(ctl::pass_shown(&handouts::make_pass(asking, wanted, mode(dry_run))?))
        }
        PassOrder::List => Ok(ctl::passes_shown(&handouts::passes_listed(asking)?)),
        PassOrder::Revoke { id, dry_run } => {
            Ok(ctl::taking_back_shown(&handouts::revoke_pass(asking, &id, mode(dry_run))?))
        }
    })
}
