//! A recording is written on a thread of its own: the one that decides never waits for a disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::{Header, Line};

/// Takes lines.
#[derive(Clone, Debug)]
pub struct Tape(Sender<Line>);

impl Tape {
    /// Hands a line over. If it cannot be written any more, whoever started it finds out.
    pub fn note(&self, line: Line) {
        let _ = self.0.send(line);
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Recorder {
    thread: JoinHandle<io::Result<u64>>,
}

impl Recorder {
    /// Makes the file and starts the thread. A file that is there already is not written over.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn start(path: &Path, header: &Header) -> io::Result<(Self, Tape)> {
        let mut file = BufWriter::new(File::options().write(true).create_new(true).open(path)?);
        line(&mut file, header)?;
        file.flush()?;
        let (sender, lines) = channel();
        let write = move || {
            let mut written = 0;
            // What came together is written together.
            while let Ok(first) = lines.recv() {
                line(&mut file, &first)?;
                written += 1;
                for more in lines.try_iter() {
                    line(&mut file, &more)?;
                    written += 1;
                }
                file.flush()?;
            }
            Ok(written)
        };
        let thread = std::thread::Builder::new().name("recording".into()).spawn(write)?;
        Ok((Self { thread }, Tape(sender)))
    }

    /// Waits until all is written, once nobody has a tape any more. How many lines there are.
    ///
    /// # Errors
    ///
    /// The system's, the disk's foremost.
    pub fn finish(self) -> io::Result<u64> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that wrote it has failed")))
    }
}

fn line<T: serde::Serialize>(file: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}
