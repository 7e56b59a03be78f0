//! What the live view shows, from the top: may the time be trusted and how well; the error over the
//! last minutes; the sources; the receiver; what happened.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph, Wrap};

use super::trace::{SPAN, Trace};
use crate::cli::satellites::bar;
use crate::cli::words::{self, Charset, Role, Style, cut, left, right};
use crate::core::state::{Bound, Magnitude, Signed, direction};
use crate::observe::report::{ReceiverSky, SatellitesReport, SourcesReport, StatusReport, short_name};

/// Rows that the chart needs before it says anything.
const LEAST_CHART: u16 = 5;
/// Columns of one satellite: `G05 ████ 41  `.
const SATELLITE: usize = 13;
/// Columns of a satellite's bar.
const BAR: usize = 5;

/// Everything that is drawn.
pub struct Shown {
    /// What this is: a story and what it shows, or whose clock.
    pub title: String,
    /// The whole.
    pub status: StatusReport,
    /// The sources.
    pub sources: SourcesReport,
    /// The sky.
    pub satellites: SatellitesReport,
    /// Served clock - true time, s, where somebody knows.
    pub true_error: Option<f64>,
    /// What happened, the newest first.
    pub events: Vec<String>,
    /// How others can ask.
    pub footer: String,
}

/// Draws it all in a frame of any size; what does not fit is left out from the bottom.
pub(super) fn draw(frame: &mut Frame, shown: &Shown, trace: &Trace, style: Style) {
    let area = frame.area();
    let sky = sky_lines(shown, usize::from(area.width));
    let sources = source_lines(&shown.sources, usize::from(area.width));
    let count = |lines: &[Line]| u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(1);
    let [head, chart, table, receiver, events, foot] = Layout::vertical([
        Constraint::Length(6),
        Constraint::Min(LEAST_CHART),
        Constraint::Length(count(&sources)),
        Constraint::Length(if sky.is_empty() { 0 } else { count(&sky) }),
        Constraint::Length(if area.height > 30 { 9 } else { 4 }),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, head, shown);
    draw_trace(frame, chart, trace, shown.true_error.is_some(), style);
    let titled = |lines: Vec<Line<'static>>, title: String| Paragraph::new(lines).block(section(title));
    let columns = "   offset      bound    last  reach  verdict";
    frame.render_widget(titled(sources, format!("Sources ({}) ──{columns} ", shown.sources.sources.len())), table);
    frame.render_widget(titled(sky, "Receiver ".into()), receiver);
    let said: Vec<Line> =
        shown.events.iter().map(|event| Line::raw(format!(" {}", cut(event, usize::from(area.width) - 1)))).collect();
    frame.render_widget(titled(said, "What happened ".into()), events);
    let keys = Line::from(vec![" q ".bold(), "quit   ask it: ".into(), shown.footer.clone().dim()]);
    frame.render_widget(keys, foot);
    to_charset(frame.buffer_mut(), style);
}

fn draw_head(frame: &mut Frame, area: Rect, shown: &Shown) {
    let status = &shown.status;
    let look = look_of(Role::of_state(status.state));
    let bound = words::bound_seconds(status.accuracy.distance_ns);
    let within = if bound.is_finite() {
        format!("time is within {} of UTC", Bound(bound))
    } else {
        "how far the time is from UTC is not known".into()
    };
    let estimate = status.offset.as_ref().map(|offset| words::clause(&offset.text).to_owned());
    let truth = shown.true_error.map(|error| format!("in truth {} {}", Magnitude(error.abs()), direction(error)));
    let offsets: Vec<String> = estimate.into_iter().chain(truth).collect();
    let action = status.reason.action.as_deref().unwrap_or_default();
    let headline = format!(" {} {}", status.state.shape(), status.state.headline());
    let width = usize::from(area.width);
    let time = words::clock_time(&status.time_utc);
    let title = cut(&format!(" refclockd {}  {}", status.version, shown.title), width.saturating_sub(time.len() + 3));
    let gap = width.saturating_sub(words::width(&title) + time.len() + 1);
    let lines = vec![
        Line::from(vec![title.dim(), " ".repeat(gap).into(), time.into()]),
        Line::from(vec![
            Span::styled(headline, look.add_modifier(Modifier::BOLD)),
            Span::raw(format!(": {within}.")),
            Span::raw(format!("   Serving: {}.", words::serving(&status.ntp))),
        ]),
        Line::raw(format!("   {}", offsets.join("; "))),
    ];
    let [top, why] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(lines), top);
    // A notice's own words come after the state's: first things first.
    let mut said = vec![Line::raw(format!("   {} {action}", status.reason.text))];
    said.extend(status.notices.iter().map(|notice| {
        let action = notice.action.as_deref().unwrap_or_default();
        let mark = Span::styled(" ! ", look_of(Role::of_severity(notice.severity)));
        Line::from(vec![mark, Span::raw(format!("{} {action}", notice.text))])
    }));
    frame.render_widget(Paragraph::new(said).wrap(Wrap { trim: false }), why);
}

fn draw_trace(frame: &mut Frame, area: Rect, trace: &Trace, is_true: bool, style: Style) {
    let what = if is_true { "True error in the bound" } else { "Estimated error in its bound" };
    let Some(scale) = trace.scale() else {
        let nothing = Paragraph::new("   Nothing is known of the clock's error yet.".dim());
        return frame.render_widget(nothing.block(section(format!("{what} "))), area);
    };
    let now = trace.points().last().map_or(0.0, |point| point.at);
    let within = |value: f64| value.abs() <= scale;
    let series = |of: &dyn Fn(&super::trace::Point) -> f64| -> Vec<(f64, f64)> {
        trace.points().map(|point| (point.at - now, of(point))).filter(|(_, value)| within(*value)).collect()
    };
    let [upper, lower] = [series(&|p| p.bound), series(&|p| -p.bound)];
    let (inside, outside): (Vec<_>, Vec<_>) =
        trace.points().filter(|p| within(p.error)).partition(|p| p.error.abs() <= p.bound);
    let at = |points: Vec<&super::trace::Point>| -> Vec<(f64, f64)> {
        points.into_iter().map(|p| (p.at - now, p.error)).collect()
    };
    let (inside, outside) = (at(inside), at(outside));
    let marker = if style.charset == Charset::Full { Marker::Braille } else { Marker::Dot };
    let dots =
        |data, role| Dataset::default().marker(marker).graph_type(GraphType::Scatter).style(look_of(role)).data(data);
    // The later lies on top.
    let sets =
        vec![dots(&upper, Role::Mute), dots(&lower, Role::Mute), dots(&inside, Role::Good), dots(&outside, Role::Bad)];
    let mut title = format!("{what}, 10 min ");
    if let Some((mean, sd, worst)) = trace.summary() {
        let figures = format!("mean {}, 1σ {}, worst {}", Signed(mean), Magnitude(sd), Magnitude(worst));
        title.push_str(&format!("── {figures} "));
    }
    let labels = [format!("−{} behind", Magnitude(scale)), "0".into(), format!("+{} ahead", Magnitude(scale))];
    let labels = labels.map(|label| Line::raw(style.text(&right(&label, 15)).into_owned()));
    let chart = Chart::new(sets)
        .block(section(title))
        .x_axis(Axis::default().bounds([-SPAN, 0.0]))
        .y_axis(Axis::default().bounds([-scale, scale]).labels(labels).style(look_of(Role::Mute)));
    frame.render_widget(chart, area);
}

fn source_lines(report: &SourcesReport, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for source in &report.sources {
        let (role, mark) = Role::of_verdict(&source.verdict.code);
        let name = left(&format!("{} {}", source.name, words::kind(&source.kind)), 13);
        let offset = right(&Signed(words::seconds(source.offset_ns)).to_string(), 10);
        let bound = right(&Bound(words::bound_seconds(source.interval_ns)).to_string(), 9);
        let last = right(&words::age(source.last_s), 6);
        let text = format!(" {name} {offset}  {bound}  {last}  {}    {}", right(&source.reach, 4), source.verdict.word);
        lines.push(Line::from(vec![Span::styled(format!(" {mark}"), look_of(role)), Span::raw(text)]));
    }
    for source in report.sources.iter().filter(|source| source.is_odd()) {
        let text = crate::cli::sources::sentences(source).join(" ");
        let (role, mark) = Role::of_verdict(&source.verdict.code);
        for line in words::wrap(&format!(" {mark} "), &text, width) {
            lines.push(Line::styled(line, look_of(role)));
        }
    }
    if lines.is_empty() {
        lines.push(Line::raw(" No time source is configured."));
    }
    lines
}

fn sky_lines(shown: &Shown, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for receiver in &shown.satellites.receivers {
        lines.push(Line::raw(format!(" {}", receiver_words(receiver))));
        let across = (width.saturating_sub(1) / SATELLITE).max(1);
        for row in receiver.satellites.chunks(across).take(2) {
            let mut spans = vec![Span::raw(" ")];
            for satellite in row {
                let signal = satellite.cn0_dbhz.map_or_else(|| "—".into(), |signal| signal.to_string());
                let bar = left(&"█".repeat(bar(satellite.cn0_dbhz, BAR)), BAR);
                let role = if satellite.used { Role::Good } else { Role::Mute };
                spans.push(Span::raw(format!("{} ", short_name(&satellite.gnss, satellite.number))));
                spans.push(Span::styled(bar, look_of(role)));
                spans.push(Span::raw(left(&format!(" {signal}"), SATELLITE - BAR - 4)));
            }
            lines.push(Line::from(spans));
        }
    }
    lines
}

fn receiver_words(receiver: &ReceiverSky) -> String {
    let mut text = format!("{}: {}", receiver.source, words::fix(receiver.fix.as_deref()));
    if let Some(used) = receiver.used {
        text.push_str(&format!(", {used} satellites used"));
        text.push_str(&receiver.seen.map_or_else(String::new, |seen| format!(" of {seen}")));
    }
    text.push_str(&words::condition(&receiver.condition));
    if !receiver.current {
        text.push_str(" (it is silent now)");
    }
    text
}

fn section(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(look_of(Role::Mute)).title(format!(" {title}"))
}

fn look_of(role: Role) -> Look {
    match role {
        Role::Good => Look::new().fg(Color::Blue),
        Role::Caution => Look::new().fg(Color::Yellow),
        Role::Bad => Look::new().fg(Color::Red),
        Role::Mute => Look::new().add_modifier(Modifier::DIM),
    }
}

/// What the terminal cannot show becomes what it can, a cell for a cell, and colours go where they
/// are not wanted.
fn to_charset(buffer: &mut Buffer, style: Style) {
    for cell in &mut buffer.content {
        if !style.color {
            cell.set_fg(Color::Reset);
        }
        if style.charset != Charset::Full {
            let shown: String = style.text(cell.symbol()).chars().take(1).collect();
            cell.set_symbol(&shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::Snapshot;
    use crate::observe::report::made_up::{NOW, holdover, locked, starting};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn shown(snapshot: &Snapshot) -> Shown {
        Shown {
            title: "demo gps-hat: A Raspberry Pi's GPS hat: messages and a pulse.".into(),
            status: StatusReport::new(snapshot, NOW),
            sources: SourcesReport::new(snapshot, NOW),
            satellites: SatellitesReport::new(snapshot, NOW),
            true_error: Some(-80e-9),
            events: vec!["03:04:05  Locked, before that not synchronised.".into()],
            footer: "refclockd query 127.0.0.1:11123".into(),
        }
    }

    fn drawn(snapshot: &Snapshot, width: u16, height: u16, style: Style) -> String {
        let mut trace = Trace::default();
        for i in 0..500 {
            let mut shown = shown(snapshot);
            shown.status.uptime_s = f64::from(i);
            shown.true_error = Some(200e-9 * (f64::from(i) / 20.0).sin());
            trace.push(&shown.status, shown.true_error);
        }
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &shown(snapshot), &trace, style)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_small_terminal_shows_it_all() {
        for (name, snapshot) in [("locked", locked()), ("holdover", holdover()), ("starting", starting())] {
            insta::assert_snapshot!(name, drawn(&snapshot, 80, 24, Style::PLAIN));
        }
    }

    #[test]
    fn ascii_is_ascii() {
        let style = Style { charset: Charset::Ascii, color: false };
        let text = drawn(&locked(), 80, 24, style);
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (20, 3), (79, 10), (200, 60)] {
            drawn(&locked(), width, height, Style::PLAIN);
        }
    }
}
