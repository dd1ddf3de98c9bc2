//! A disk that gets full.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A file system of a few megabytes, unmounted in the end.
pub struct SmallDisk {
    /// Where it is mounted.
    pub place: PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of so many megabytes; `None` when only root may.
    pub fn mounted(megabytes: u32) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("disk");
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&place)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: a file system can be mounted by root only");
        }
        mounted.then_some(SmallDisk { place, _directory: directory })
    }

    /// Writes until nothing fits any more, and says what has to go for that to end.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.place.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        ballast
    }

    /// Takes nothing any more.
    pub fn read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.place).status().unwrap().success());
    }

    /// The configuration of a store on it.
    pub fn store(&self) -> String {
        format!("\n[store]\npath = \"{}\"\n", self.place.join("state").display())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
