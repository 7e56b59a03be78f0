//! What is wrong where, and what to do about it.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but it does not do what it seems to say.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub title: String,
    /// Bytes of the text it is about. `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// What to write at the caret; may be empty.
    pub label: String,
    /// The next step.
    pub help: String,
}

impl Diagnostic {
    /// An error about a part of the text.
    pub fn error(span: Range<usize>, title: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            title: title.into(),
            span: Some(span),
            label: String::new(),
            help: help.into(),
        }
    }

    /// A warning about a part of the text.
    pub fn warning(span: Range<usize>, title: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, title, help) }
    }

    /// About the file as a whole.
    pub(crate) fn of_the_file(mut self) -> Self {
        self.span = None;
        self
    }

    /// With a word at the caret.
    pub(crate) fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Line and column in the text, both from 1, columns in characters. `None`: the file as a whole.
    pub fn position(&self, text: &str) -> Option<(usize, usize)> {
        let span = within(self.span.clone()?, text);
        let before = text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..)?.chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    }
}

/// The span, made to lie in the text, on its characters, and on one line.
fn within(span: Range<usize>, text: &str) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    let end = boundary(span.end).max(start);
    let line = text.get(start..end).and_then(|part| part.find(['\n', '\r'])).map_or(end, |at| start + at);
    start..line
}

/// Renders for a person: level, file, line, column, caret, and the next step.
pub fn render(file: &str, text: &str, diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let text = &without_c1(text);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(diagnostic.title.as_str());
        let group: Group<'_> = match diagnostic.span.clone() {
            Some(span) => {
                let mut caret = AnnotationKind::Primary.span(within(span, text));
                if !diagnostic.label.is_empty() {
                    caret = caret.label(diagnostic.label.as_str());
                }
                title.element(Snippet::source(text).path(file).annotation(caret))
            }
            None => title.element(Origin::path(file)),
        };
        let group = group.element(Level::HELP.message(diagnostic.help.as_str()));
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

/// For a log or a message: each in a sentence or two, with its place, on one line.
pub fn in_words(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let sentence = |d: &Diagnostic| {
        let place = match d.position(text) {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_owned(),
        };
        format!("{place}: {}. {}", d.title, d.help)
    };
    diagnostics.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// The text without the control characters U+0080 to U+009F, which some terminals obey and the renderer
/// leaves as they are; the others it makes visible. Two bytes stand for two bytes: spans keep their place.
fn without_c1(text: &str) -> String {
    text.replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "\u{b7}")
}

/// The operator's word as it can be shown: in backquotes, without control characters, not too long.
pub(crate) fn quoted(word: &str) -> String {
    let mut shown: String = word.chars().take(60).flat_map(char::escape_debug).collect();
    if word.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    format!("`{}`", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_made_to_fit() {
        assert_eq!(within(1..99, "a\u{e9}b"), 1..4);
        assert_eq!(within(2..3, "a\u{e9}b"), 1..3);
        assert_eq!(within(0..5, "ab\ncd"), 0..2);
    }

    #[test]
    fn what_the_file_says_is_not_told_to_the_terminal() {
        let text = "a = \u{1b}[2J \u{9b}2J \u{7f}\u{85}";
        let shown = render("file", text, &[Diagnostic::error(0..1, "no", "so")], false);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert_eq!(without_c1(text).len(), text.len());
    }

    #[test]
    fn positions_count_characters() {
        let at = |start| Diagnostic::error(start..start, "", "").position("a\n\u{e9}b\n");
        assert_eq!(at(0), Some((1, 1)));
        assert_eq!(at(4), Some((2, 2)));
        assert_eq!(at(99), Some((3, 1)));
    }
}
