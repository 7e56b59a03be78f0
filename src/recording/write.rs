//! A recording is written on a thread of its own: the one that decides never waits for a disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::{Header, Line};

/// Takes lines.
#[derive(Clone, Debug)]
pub struct Tape(Sender<Option<Line>>);

impl Tape {
    /// Hands a line over. If it cannot be written any more, whoever started it finds out.
    pub fn note(&self, line: Line) {
        let _ = self.0.send(Some(line));
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Recorder {
    thread: JoinHandle<io::Result<u64>>,
    /// Nothing ends the recording, whoever has a tape still.
    end: Sender<Option<Line>>,
}

impl Recorder {
    /// Makes the file and starts the thread. A file that is there already is not written over. It is for its owner
    /// alone: receivers tell where they are, and requests what their replies have to repeat.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn start(path: &Path, header: &Header) -> io::Result<(Self, Tape)> {
        let mut file = BufWriter::new(File::options().write(true).create_new(true).mode(0o600).open(path)?);
        line(&mut file, header)?;
        file.flush()?;
        let (sender, lines) = channel::<Option<Line>>();
        let write = move || {
            let mut written = 0;
            // What came together is written together.
            'recording: while let Ok(Some(first)) = lines.recv() {
                line(&mut file, &first)?;
                written += 1;
                for more in lines.try_iter() {
                    let Some(more) = more else { break 'recording };
                    line(&mut file, &more)?;
                    written += 1;
                }
                file.flush()?;
            }
            file.flush()?;
            Ok(written)
        };
        let thread = std::thread::Builder::new().name("recording".into()).spawn(write)?;
        Ok((Self { thread, end: sender.clone() }, Tape(sender)))
    }

    /// Ends the recording, and waits until all is written. How many lines there are.
    ///
    /// # Errors
    ///
    /// The system's, the disk's foremost.
    pub fn finish(self) -> io::Result<u64> {
        // One that has ended by itself has its reason.
        let _ = self.end.send(None);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that wrote it has failed")))
    }
}

fn line<T: serde::Serialize>(file: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}
