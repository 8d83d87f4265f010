//! What the disk can do, and what was written to it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use crate::sample::{Samples, Summary};

/// How long it takes to make 4 KiB at the end of a file durable (`fdatasync`), in milliseconds: the
/// least that a durable write costs here.
///
/// # Errors
///
/// When a file in this directory cannot be written.
pub fn sync_time(directory: &Path, times: usize) -> io::Result<Summary> {
    let path = directory.join("sync-time");
    let mut file = File::create(&path)?;
    let mut samples = Samples::default();
    for _ in 0..times {
        file.write_all(&[7; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        samples.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    fs::remove_file(path)?;
    Ok(samples.summary())
}

/// How many bytes this process has written so far, to files and elsewhere; `None` where the system
/// does not count (it does on Linux).
pub fn written() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_where_they_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let before = written();
        fs::write(directory.path().join("file"), [0; 10_000]).unwrap();
        if let (Some(before), Some(after)) = (before, written()) {
            assert!(after >= before + 10_000);
        }
        sync_time(directory.path(), 3).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
