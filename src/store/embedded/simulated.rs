//! A disk for tests: it fails when told to, hangs when told to, and after a loss of power remembers of what was not
//! synced any part, sector by sector.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use redb::StorageBackend;

use super::Embedded;
use super::disk::Disk;
use super::tests::unobserved;
use crate::clock::Clock;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<(Mutex<Platter>, Condvar)>);

#[derive(Debug, Default)]
struct Platter {
    /// What survives a loss of power.
    durable: Vec<u8>,
    /// What reads see.
    cached: Vec<u8>,
    /// What was done since the last sync.
    unsynced: Vec<Change>,
    behaviour: Behaviour,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Data { offset: usize, bytes: Vec<u8> },
}

/// How the disk behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Everything works.
    #[default]
    Works,
    /// After so many more changes, each one fails so.
    Fails {
        after: usize,
        with: io::ErrorKind,
    },
    Hangs,
}

/// A store on such a disk.
pub async fn store_on(disk: &SimulatedDisk) -> Embedded {
    Embedded::on(Disk::Simulated(disk.clone()), Clock::system(), unobserved()).await.unwrap()
}

impl SimulatedDisk {
    /// A disk that holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        *disk.platter() = Platter { durable: bytes.clone(), cached: bytes, ..Platter::default() };
        disk
    }

    pub fn has_file(&self) -> bool {
        !self.platter().cached.is_empty()
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.platter().behaviour = behaviour;
        self.0.1.notify_all();
    }

    pub fn contents(&self) -> Vec<u8> {
        self.platter().cached.clone()
    }

    /// What a loss of power leaves: of each sector written since the last sync, whatever `keep` says.
    pub fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> SimulatedDisk {
        let platter = self.platter();
        let mut left = platter.durable.clone();
        for change in &platter.unsynced {
            match change {
                Change::Length(length) if keep() => left.resize(*length, 0),
                Change::Length(_) => {}
                Change::Data { offset, bytes } => {
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        let start = offset + index * SECTOR;
                        if keep() && left.len() >= start + sector.len() {
                            left[start..start + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        drop(platter);
        SimulatedDisk::holding(left)
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().unwrap()
    }

    fn ready(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.0.1.wait_while(self.platter(), |platter| platter.behaviour == Behaviour::Hangs).unwrap();
        match &mut platter.behaviour {
            Behaviour::Fails { after: 0, with } => Err((*with).into()),
            Behaviour::Fails { after, .. } => {
                *after -= 1;
                Ok(platter)
            }
            Behaviour::Works | Behaviour::Hangs => Ok(platter),
        }
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        let platter = self.platter();
        let bytes = platter.cached.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.ready()?;
        platter.cached.resize(length as usize, 0);
        platter.unsynced.push(Change::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.ready()?;
        platter.durable = platter.cached.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.ready()?;
        let start = offset as usize;
        platter.cached[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push(Change::Data { offset: start, bytes: data.to_vec() });
        Ok(())
    }
}
