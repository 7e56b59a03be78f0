//! Files are written on a thread of their own, so that the one that decides never waits for a disk.
//! A program that may have one thread only (`--single-thread`) writes them where it stands.

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

/// Where files are written.
#[derive(Debug)]
pub struct Files {
    writer: Writer,
    dropped: u64,
}

#[derive(Debug)]
enum Writer {
    Thread { queue: SyncSender<Job>, thread: JoinHandle<()> },
    Here(Disk),
}

impl Files {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
            let mut disk = Disk::default();
            for job in jobs {
                disk.write(&job);
            }
        })?;
        Ok(Self { writer: Writer::Thread { queue, thread }, dropped: 0 })
    }

    /// Writes on the calling thread, which waits for the disk.
    pub fn here() -> Self {
        Self { writer: Writer::Here(Disk::default()), dropped: 0 }
    }

    /// Has a file written, soon. With the thread, never waits.
    pub fn write(&mut self, path: &Path, text: String) {
        let job = Job { path: path.to_owned(), text };
        match &mut self.writer {
            Writer::Here(disk) => disk.write(&job),
            Writer::Thread { queue, .. } => {
                if let Err(TrySendError::Full(_)) = queue.try_send(job) {
                    self.dropped += 1;
                }
            }
        }
    }

    /// Writes that were dropped because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until all is written.
    pub fn finish(self) {
        if let Writer::Thread { queue, thread } = self.writer {
            drop(queue);
            // The thread never panics; if it did, there is nothing left to write.
            let _ = thread.join();
        }
    }
}

/// The disk as we find it: that it cannot be written is told once, and so is the end of that. Time
/// goes on meanwhile.
#[derive(Debug, Default)]
struct Disk {
    failing: bool,
}

impl Disk {
    fn write(&mut self, Job { path, text }: &Job) {
        match write_atomically(path, text) {
            Ok(()) if self.failing => {
                self.failing = false;
                info!("{} can be written again", path.display());
            }
            Ok(()) => {}
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(
                    "{} cannot be written: {error}. Time goes on; what was learned is lost at a restart. Make place, or \
                     give the folder to the daemon's user.",
                    path.display()
                );
            }
            Err(_) => {}
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
    let written = write_through(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // A disk that is full has better use for the place; if that fails too, the next write replaces it.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_through(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaces_whole_files_and_survives_an_unwritable_place(mut files: Files) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/drift.toml");
        files.write(&path, "one".into());
        files.write(Path::new("/proc/no-such-place/drift.toml"), "lost".into());
        files.write(&path, "two".into());
        files.finish();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn on_a_thread() {
        replaces_whole_files_and_survives_an_unwritable_place(Files::start().unwrap());
    }

    #[test]
    fn where_the_caller_stands() {
        let mut files = Files::here();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drift.toml");
        files.write(&path, "at once".into());
        assert_eq!(fs::read_to_string(&path).unwrap(), "at once");
        replaces_whole_files_and_survives_an_unwritable_place(files);
    }
    #[test]
    fn a_disk_that_fails_is_told_once_and_so_is_its_end() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl Write for Log {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/drift.toml");
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut files = Files::here();
            // A file where the folder should be.
            fs::write(folder.path().join("state"), "").unwrap();
            (0..5).for_each(|_| files.write(&path, "lost".into()));
            fs::remove_file(folder.path().join("state")).unwrap();
            (0..5).for_each(|_| files.write(&path, "kept".into()));
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!((said.matches("cannot be written").count(), said.matches("can be written again").count()), (1, 1));
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
