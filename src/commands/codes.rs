//! `anticamera codes`: invitation codes, on this machine's disk. The running program takes them over by itself.

use std::path::Path;
use std::process::ExitCode;

use anticamera::admin::handouts;
use anticamera::ctl::{self, CodesOrder};

use super::{handing_out, mode};

/// Carries an order out under the configuration of a file.
pub fn carry_out(config: &Path, order: CodesOrder) -> ExitCode {
    handing_out(config, |asking| match order {
        CodesOrder::Create { class, identity, uses, expires, dry_run } => {
            let wanted = handouts::CodeBody { class, identity, uses, expires };
            Ok(ctl::code_shown(&handouts::make_code(asking, wanted, mode(dry_run))?))
        }
        CodesOrder::List { class } => Ok(ctl::codes_shown(&handouts::codes_listed(asking, class.as_deref())?)),
        CodesOrder::Revoke { id, dry_run } => {
            Ok(ctl::taking_back_shown(&handouts::revoke_code(asking, &id, mode(dry_run))?))
        }
    })
}
