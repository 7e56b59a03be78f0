//! What all sources have in common as they are written.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::value::{At, Section, absolute};
use crate::core::selection::SelectionOptions;

/// A source, and where the parts of it stand that are compared with others.
pub(super) struct Written<T> {
    /// The source.
    pub source: T,
    /// Where its section begins.
    pub section: Range<usize>,
    /// Where its name is, if it was given one.
    pub name: Option<Range<usize>>,
    /// Where its device or host is.
    pub device: Range<usize>,
    /// Where `lock` is.
    pub lock: Option<Range<usize>>,
}

/// `prefer`, `noselect`, `trust` and `require`.
pub(super) fn choices(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> SelectionOptions {
    let mut flag = |key| section.boolean(key, out).unwrap_or(false);
    let options = SelectionOptions {
        prefer: flag("prefer"),
        noselect: flag("noselect"),
        trust: flag("trust"),
        require: flag("require"),
    };
    for (set, key) in [(options.prefer, "prefer"), (options.require, "require")] {
        if set && options.noselect {
            let span = section.get(key).map_or(section.span.clone(), Spanned::span);
            let title = format!("`{key}` on a source that is never used: `noselect` is set");
            out.push(Diagnostic::warning(span, title, "Delete one of them; `noselect` wins."));
        }
    }
    options
}

/// Where its device is.
pub(super) fn device(
    section: &Section<'_, '_>,
    key: &str,
    example: &str,
    out: &mut Vec<Diagnostic>,
) -> Option<At<PathBuf>> {
    let (text, span) = section.required(key, example, out)?;
    Some((absolute(key, text, span.clone(), out)?, span))
}
