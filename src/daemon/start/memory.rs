//! What the last life learned, as far as it is believed.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use refclocks::time::{Span, Timestamp, Utc};
use tracing::warn;

use crate::core::memory::Memory;

/// Far more than we ever write, bytes.
const LARGEST: u64 = 1 << 20;

/// What the last life learned; a file that cannot be used is ignored with a word.
pub fn remembered(path: &Path) -> Memory {
    match read(path) {
        Ok(text) => Memory::from_text(&text).unwrap_or_else(|error| {
            warn!("{} is ignored: {error}", path.display());
            Memory::default()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Memory::default(),
        Err(error) => {
            warn!("{} cannot be read: {error}", path.display());
            Memory::default()
        }
    }
}

/// Reads a file of ours, whatever lies at its path by now.
fn read(path: &Path) -> io::Result<String> {
    // A pipe that nobody writes would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 {
        ..=LARGEST => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {LARGEST} bytes"))),
    }
}

/// May a clock begin at the last good time known? One that lies ahead of a system clock that is itself
/// possible may be a mistake of somebody's: whether it is believed, the sources decide.
pub fn starts_from(last: Timestamp<Utc>, system: Timestamp<Utc>) -> bool {
    let day = Span::from_whole_seconds(86_400);
    let possible = last <= system + day || system < crate::NOT_BEFORE;
    if !possible {
        warn!("the last good time known is {last:.0}, and the system clock stands at {system:.0}: the sources decide");
    }
    possible
}
