//! What the last life learned, as far as it is believed.

use std::path::Path;

use refclocks::time::{Span, Timestamp, Utc};
use tracing::warn;

use crate::core::memory::Memory;

/// What the last life learned; a file that cannot be used is ignored with a word.
pub fn remembered(path: &Path) -> Memory {
    match std::fs::read_to_string(path) {
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

/// A last good time that lies ahead of a clock that is itself possible is a mistake of somebody's.
pub fn believable(last: Timestamp<Utc>, system: Timestamp<Utc>) -> bool {
    let day = Span::from_whole_seconds(86_400);
    let believable = last <= system + day || system < crate::NOT_BEFORE;
    if !believable {
        warn!("the last good time known is {last:.0}, and the system clock stands at {system:.0}: not believed");
    }
    believable
}
