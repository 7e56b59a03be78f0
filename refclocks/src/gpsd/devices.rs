//! Which of gpsd's devices is followed: two receivers' messages have two delays, and two pulses two
//! cables.

use super::stream::Stream;

/// More devices than this on one gpsd are not told apart.
const MOST_DEVICES: usize = 16;

/// The devices of one gpsd.
#[derive(Debug)]
pub struct Devices {
    /// The one that was asked for.
    named: Option<String>,
    /// The one that is followed, of each stream.
    followed: [Option<String>; 2],
    /// What each said last of its fix, as in TPV.
    modes: Vec<(String, i64)>,
    /// Others that were told of.
    others: Vec<String>,
}

impl Devices {
    /// None is followed yet. `named` is the only one that may give messages.
    pub fn new(named: Option<String>) -> Self {
        Self { named, followed: [None, None], modes: Vec::new(), others: Vec::new() }
    }

    /// Another session begins.
    pub fn clear(&mut self) {
        self.followed = [None, None];
        self.modes.clear();
    }

    /// What a device says of its fix.
    pub fn handle_mode(&mut self, device: &str, mode: i64) {
        if let Some((_, known)) = self.modes.iter_mut().find(|(known, _)| known == device) {
            // 0 says nothing: timing receivers alternate between it and their fix.
            if mode > 0 {
                *known = mode;
            }
        } else if self.modes.len() < MOST_DEVICES {
            self.modes.push((device.to_owned(), mode));
        }
    }

    /// What it said last.
    pub fn mode(&self, device: &str) -> Option<i64> {
        self.modes.iter().find(|(known, _)| known == device).map(|(_, mode)| *mode)
    }

    /// What to ask of gpsd. TOFF comes only with pps.
    pub fn watch(&self) -> Vec<u8> {
        let device = match &self.named {
            Some(device) => format!(",\"device\":{}", serde_json::Value::from(device.as_str())),
            None => String::new(),
        };
        format!("?WATCH={{\"enable\":true,\"json\":true,\"pps\":true{device}}};\n").into_bytes()
    }

    /// The one that is followed.
    pub fn followed(&self, stream: Stream) -> Option<&str> {
        self.followed.get(stream as usize)?.as_deref()
    }

    /// It left.
    pub fn left(&mut self, stream: Stream) {
        if let Some(slot) = self.followed.get_mut(stream as usize) {
            *slot = None;
        }
    }

    /// May this device be the one, as far as is known?
    pub fn may_be(&self, stream: Stream, device: &str) -> bool {
        // A pulse may come on a device of its own, which is no receiver's name.
        let bare = stream == Stream::Pulse && device.starts_with("/dev/pps");
        if device.is_empty() {
            return true;
        }
        let is_named = bare || self.named.as_deref().is_none_or(|named| named == device);
        is_named && self.followed(stream).is_none_or(|followed| followed == device)
    }

    /// Follows a device that has something, if none is followed or the one that is has fallen silent.
    /// Is it followed?
    pub fn follow(&mut self, stream: Stream, device: &str, is_silent: bool) -> bool {
        if is_silent {
            self.left(stream);
        }
        let may_be = self.may_be(stream, device);
        if may_be
            && !device.is_empty()
            && let Some(slot) = self.followed.get_mut(stream as usize)
        {
            slot.get_or_insert_with(|| device.to_owned());
        }
        may_be
    }

    /// The followed one, if the other was not told of yet.
    pub fn first_seen(&mut self, stream: Stream, other: &str) -> Option<String> {
        let followed = self.followed(stream)?.to_owned();
        if self.others.len() >= MOST_DEVICES || self.others.iter().any(|known| known == other) {
            return None;
        }
        self.others.push(other.to_owned());
        Some(followed)
    }
}
