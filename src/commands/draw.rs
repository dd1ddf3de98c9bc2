//! `anticamera draw`: whether the draw of an opening holds, from nothing but what was published.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anticamera::domain::draw_proof::DrawDocument;
use clap::Subcommand;

use super::{Done, printed};

/// A published draw is some hundred bytes long.
const LARGEST_DRAW: u64 = 1 << 20;

/// What is done with a draw.
#[derive(Subcommand)]
pub enum DrawOrder {
    /// Works out, from nothing but published facts, the number that a visitor was given. Exit code 1 when the facts do not
    /// fit together.
    Verify {
        /// The facts of /.waiting-room/draw/ROOM as saved before the opening.
        #[arg(long)]
        before: PathBuf,
        /// The same as saved after it.
        #[arg(long)]
        after: PathBuf,
        /// The visitor's reference, as the page showed it before the opening.
        #[arg(long)]
        reference: String,
    },
}

/// Carries an order out.
pub fn carry_out(order: DrawOrder) -> ExitCode {
    let DrawOrder::Verify { before, after, reference } = order;
    printed(verify_draw(&before, &after, &reference))
}

fn verify_draw(before: &Path, after: &Path, reference: &str) -> Done {
    let read = |path: &Path| -> Result<DrawDocument, Box<dyn std::error::Error>> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = std::io::read_to_string(file.take(LARGEST_DRAW))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let after = read(after)?;
    let place = after.prove(&read(before)?, reference)?;
    Ok(format!(
        "the draw holds: the seed is the one that was committed to before the opening\n\
         {} is number {} in the lane {} of room {} ({} gathered there; this one was the {}. to come)\n",
        reference.trim(),
        place.number,
        place.class,
        after.room,
        place.count,
        place.index + 1
    ))
}
