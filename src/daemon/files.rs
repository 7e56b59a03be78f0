//! The thread that writes files, so that the one that decides never waits for a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tracing::{info, warn};

/// Writes that may wait; more are dropped, and counted.
const QUEUE: usize = 8;

struct Job {
    path: PathBuf,
    text: String,
}

/// The writer.
#[derive(Debug)]
pub struct Files {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Files {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
            // An unwritable disk is told once, and its end is told once: time goes on meanwhile.
            let mut failing = false;
            for Job { path, text } in jobs {
                match write_atomically(&path, &text) {
                    Ok(()) if failing => {
                        failing = false;
                        info!("{} can be written again", path.display());
                    }
                    Ok(()) => {}
                    Err(error) if !failing => {
                        failing = true;
                        warn!(
                            "{} cannot be written: {error}. Time goes on; what was learned is lost at a restart.",
                            path.display()
                        );
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), dropped: 0 })
    }

    /// Has a file written, soon. Never waits.
    pub fn write(&mut self, path: &Path, text: String) {
        if let Some(queue) = &self.queue
            && let Err(TrySendError::Full(_)) = queue.try_send(Job { path: path.to_owned(), text })
        {
            self.dropped += 1;
        }
    }

    /// Writes that were dropped because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until all is written.
    pub fn finish(mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // The thread never panics; if it did, there is nothing left to write.
            let _ = thread.join();
        }
    }
}

/// Replaces a file as a whole: readers see the old text or the new, and a power cut leaves one of them.
pub fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_survives_an_unwritable_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/drift.toml");
        let mut files = Files::start().unwrap();
        files.write(&path, "one".into());
        files.write(Path::new("/proc/no-such-place/drift.toml"), "lost".into());
        files.write(&path, "two".into());
        files.finish();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
