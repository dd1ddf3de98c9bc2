//! `anticamera receipt`: what a visitor's receipt proves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anticamera::clock::Clock;
use anticamera::domain::local_time;
use anticamera::domain::names::ClassName;
use anticamera::domain::time::Unix;
use anticamera::domain::token::{Kind, Rejection, Token};
use anticamera::{config, keys};
use clap::Subcommand;

use super::{Done, faulty, printed};

/// What is done with a receipt.
#[derive(Subcommand)]
pub enum ReceiptOrder {
    /// Says what a receipt proves. Exit code 1 when it proves nothing.
    Verify {
        /// The configuration file, which names the rooms and the keys.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The characters on the receipt; spaces and line breaks do not matter.
        receipt: Vec<String>,
    },
}

/// Carries an order out.
pub fn carry_out(order: ReceiptOrder) -> ExitCode {
    let ReceiptOrder::Verify { config, receipt } = order;
    verify_receipt(&config, &receipt.concat())
}

fn verify_receipt(path: &Path, receipt: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let receipt: String = receipt.split_whitespace().collect();
    let verify = || -> Done {
        let keyring =
            keys::load(&config.tokens.key_dir, config.tokens.activate_after).map_err(|why| why.to_string())?;
        let now = Clock::system().now().wall.seconds();
        let mut why = "there is no room in the configuration".to_owned();
        for room in &config.rooms {
            match keyring.for_room(&room.name).verify(Kind::Receipt, receipt.as_bytes(), now) {
                Ok(token) => return Ok(what_it_proves(room, &token)),
                Err(Rejection::OtherRoom) if why.starts_with("there") => why = "it is of no room here".to_owned(),
                Err(Rejection::OtherRoom) => {}
                Err(Rejection::Expired(_)) => why = "it is too old".to_owned(),
                Err(rejection) => why = rejection.label().replace('_', " "),
            }
        }
        Err(format!("this receipt proves nothing: {why}").into())
    };
    printed(verify())
}

/// A genuine receipt in words.
fn what_it_proves(room: &config::Room, token: &Token) -> String {
    let since = local_time::timestamp(Unix::from_seconds(token.issued)).to_zoned(room.time_zone.clone());
    let class = room.classes.iter().find(|class| class.id() == token.class);
    let number = match token.number {
        0 => "registered for the opening; the number was not given yet".to_owned(),
        number => format!("number {number}"),
    };
    format!(
        "genuine: signed with a key of this installation\n\
         room {}, class {}, {number}, in line since {} at the latest\n\
         it does not say who the visitor is, nor whether the place was used\n",
        room.name,
        class.map_or("(one that is gone)", ClassName::as_str),
        since.strftime("%Y-%m-%d %H:%M:%S %:z")
    )
}
