//! `anticamera store`: carries lines from one store to another, through a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anticamera::clock::Clock;
use anticamera::config;
use anticamera::store::transfer::Lines;
use clap::Subcommand;

use super::{Done, faulty, printed};

/// What is done with lines.
#[derive(Subcommand)]
pub enum StoreOrder {
    /// Writes the lines of all rooms, or of one, into a new file. The store stays as it is.
    Export {
        /// The configuration file, which names the store and the rooms.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The file, which must not exist yet.
        #[arg(long)]
        to: PathBuf,
        /// Only this room.
        #[arg(long)]
        room: Option<String>,
    },
    /// Takes the lines of such a file into a store that has none of these rooms.
    Import {
        /// The configuration file, which names the store and the rooms.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The file.
        #[arg(long)]
        from: PathBuf,
    },
}

/// Carries an order out.
pub fn carry_out(order: StoreOrder) -> ExitCode {
    match order {
        StoreOrder::Export { config, to, room } => export_lines(&config, &to, room.as_deref()),
        StoreOrder::Import { config, from } => import_lines(&config, &from),
    }
}

fn export_lines(path: &Path, to: &Path, room: Option<&str>) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let exported = || -> Done {
        let rooms: Vec<_> = config.rooms.iter().map(|room| room.name.clone()).collect();
        let rooms: Vec<_> = rooms.into_iter().filter(|name| room.is_none_or(|room| name.as_str() == room)).collect();
        let lines = waited_for(Lines::read(&config.store, &rooms, Clock::system()))??;
        // Who may read it could keep people's places from them.
        let file = File::options().write(true).create_new(true).mode(0o600).open(to);
        let mut file =
            file.map_err(|error| format!("{} cannot be written ({error}); name a new file", to.display()))?;
        file.write_all(lines.text().as_bytes())?;
        file.sync_all()?;
        Ok(lines.to_string())
    };
    printed(exported())
}

fn import_lines(path: &Path, from: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let imported = || -> Done {
        let text =
            std::fs::read_to_string(from).map_err(|error| format!("{} cannot be read: {error}", from.display()))?;
        let lines = Lines::from_text(&text)?;
        if let Some(room) = lines.rooms().find(|room| config.rooms.iter().all(|known| known.name != **room)) {
            return Err(format!("{} has no room {room}; add it, or export the others alone", path.display()).into());
        }
        waited_for(lines.write(&config.store, Clock::system()))??;
        Ok(format!("{lines}{}", lines.not_kept_by(&config.store)))
    };
    printed(imported())
}

/// Does something that takes a while.
fn waited_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
