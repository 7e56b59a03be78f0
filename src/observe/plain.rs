//! Text from outside made safe for a terminal, a log and a page.

use std::borrow::Cow;

/// The longest text from outside that is worth showing, in characters.
const LONGEST: usize = 200;

/// What a device, a peer or the system said, without what could move a cursor, hide or turn text
/// round: control characters (C0, DEL, C1), line separators, zero-width and direction marks become
/// U+FFFD. Overlong text is cut.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().nth(LONGEST).is_none() && !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe: String = text.chars().take(LONGEST).map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        safe.push('…');
    }
    Cow::Owned(safe)
}

/// Text of any length made safe in the same way, for whoever prints what came over a socket.
pub fn without_control(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) {
        Cow::Owned(text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!plain(&text).chars().any(is_unsafe));
            prop_assert!(plain(&text).chars().count() <= LONGEST + 1);
        }
    }

    #[test]
    fn harmless_text_is_left_alone() {
        assert_eq!(plain("ANTSTATUS=OK ±3 µs"), "ANTSTATUS=OK ±3 µs");
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }
}
