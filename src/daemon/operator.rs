//! The operator's commands, carried out: they come in like everything else, and are answered in words.

use refclocks::sys::clock::Bracket;
use refclocks::time::{Timestamp, Utc};
use tracing::{info, warn};

use super::Daemon;
use crate::clock::Unmoved;
use crate::control::command::{Answer, ByHand, ClockMoved, Command, Commission, SetReply, Setting};
use crate::control::reply::ErrorReply;
use crate::control::time_setting::TimeSetting;
use crate::core::by_hand::{Outcome, Use};
use crate::core::leap::UtcMap;
use crate::core::state::{Bound, Crystal, Duration, Magnitude, direction};
use crate::ntp::client::Order;
use crate::observe::report::{nanos, nanos_up};

/// How far a clock that nobody can see the error of has to be off to be worth a word, s.
const LEVEL: f64 = 1e-9;

impl Daemon {
    /// Carries out a command. One that takes time is answered when it is done.
    pub(super) fn carry_out(&mut self, commission: Commission, now: &Bracket) {
        let answer = match &commission.command {
            Command::Step => self.step(now),
            Command::Time { to } => self.set_time(*to, now),
            Command::Online { source } => self.order(&commission.command, source.as_deref(), Order::Online),
            Command::Offline { source } => self.order(&commission.command, source.as_deref(), Order::Offline),
            Command::Burst { source } => self.order(&commission.command, source.as_deref(), Order::Burst),
            Command::ForgetClients => {
                self.board.monitors.forget();
                Ok(SetReply::new(&commission.command, "All clients are forgotten; the list begins anew."))
            }
            Command::Reload => match &self.installation {
                Some(installation) => return installation.read_again(commission),
                None => Err(no_configuration()),
            },
        };
        self.answer(commission, answer);
    }

    /// Answers a command, and notes it in the log.
    pub(super) fn answer(&self, commission: Commission, answer: Answer) {
        let word = commission.command.word();
        match &answer {
            Ok(reply) => info!("set {word}: {}", reply.text),
            Err(reply) => warn!("set {word}: {}", reply.error.text),
        }
        commission.answer(answer);
    }

    fn step(&mut self, now: &Bracket) -> Answer {
        let stepped = self.clock.handle_step(now.raw_after).map_err(|why| unmoved(&why))?;
        let reply =
            |text: String, clock: Option<ClockMoved>| Ok(SetReply { clock, ..SetReply::new(&Command::Step, text) });
        let Some((offset, stepped)) = stepped else {
            return reply(
                "Nothing is known to step by yet. The first estimate may step the clock, however far it is off.".into(),
                None,
            );
        };
        let remaining_ns = if stepped { Some(0) } else { nanos(offset) };
        let moved = ClockMoved { offset_ns: nanos(offset), stepped, remaining_ns };
        reply(
            if stepped {
                format!("The clock was {} {}; it was stepped.", Magnitude(offset.abs()), direction(offset))
            } else if offset.abs() < LEVEL {
                "The clock is level with its reference: there is nothing to step.".into()
            } else {
                format!(
                    "The clock is {} {}, no more than its offset is known to: there is nothing to step.",
                    Magnitude(offset.abs()),
                    direction(offset)
                )
            },
            Some(moved),
        )
    }

    fn set_time(&mut self, to: TimeSetting, now: &Bracket) -> Answer {
        let utc: UtcMap = self.published.load().utc;
        let ours: Timestamp<Utc> = utc.utc(self.clock.now(now.raw_after).clock).0;
        let at = to.resolve(ours, now.realtime.reinterpret());
        if at < crate::NOT_BEFORE {
            let text = format!("{at:.0} cannot be: this program was made after {:.0}.", crate::NOT_BEFORE);
            return Err(ErrorReply::new("bad_request", text));
        }
        let outcome = self.clock.handle_set(utc.tai(at, false), now.raw_after).map_err(|why| unmoved(&why))?;
        let mut text = words(&outcome);
        let used = matches!(outcome.used, Use::Followed { .. });
        if used && self.clock.snapshot(now.raw_after).system.stratum >= 16 {
            text.push_str(" Clients are not served by it: there is no [local] section that allows it, or not yet.");
        }
        let setting = |(tai, residual): &(Timestamp<refclocks::Tai>, f64)| Setting {
            utc: format!("{:.3}", utc.utc(*tai).0),
            residual_ns: nanos(*residual),
        };
        Ok(SetReply {
            clock: Some(ClockMoved {
                offset_ns: nanos(outcome.offset),
                stepped: outcome.stepped.is_some(),
                remaining_ns: nanos(outcome.remaining),
            }),
            by_hand: Some(ByHand {
                used,
                bound_ns: nanos_up(outcome.bound),
                frequency_ppb: outcome.frequency.map(|(frequency, _)| frequency * 1e9),
                frequency_sd_ppb: outcome.frequency.map(|(_, sd)| sd * 1e9),
                settings: outcome.settings.iter().map(setting).collect(),
            }),
            ..SetReply::new(&Command::Time { to }, text)
        })
    }

    fn order(&mut self, command: &Command, name: Option<&str>, order: Order) -> Answer {
        let Some(installation) = &mut self.installation else { return Err(no_configuration()) };
        let roster = &mut installation.roster;
        if let Some(sources) = roster.order(name, order) {
            let who = sources.join(", ");
            let text = match order {
                Order::Online => format!("Asked again: {who}."),
                Order::Offline => format!("No longer asked: {who}."),
                Order::Burst | Order::Poll(_) => format!("Asked a few times in quick succession: {who}."),
            };
            return Ok(SetReply { sources, ..SetReply::new(command, text) });
        }
        let text = match name {
            Some(name) if roster.has_clock(name) => format!(
                "{name} is a reference clock: it is read whenever it is there. `noselect` keeps it from being used."
            ),
            Some(_) if !roster.orderable().is_empty() => {
                format!("No server has that name. Servers are: {}.", roster.orderable().join(", "))
            }
            _ => "No server is configured.".into(),
        };
        Err(ErrorReply::new("unknown_source", crate::observe::plain::plain(&text)))
    }
}

/// What became of a setting, in sentences.
fn words(outcome: &Outcome) -> String {
    let offset = outcome.offset;
    let apart = format!("The clock was {} {} what you set", Magnitude(offset.abs()), against(offset));
    let Use::Followed { anew } = &outcome.used else {
        let why = match &outcome.used {
            Use::Outranked { by } => format!("{by} feeds the clock"),
            Use::KnownBetter { bound } => {
                format!("no source feeds the clock, but it still knows the time to within {} by itself", Bound(*bound))
            }
            Use::Followed { .. } => String::new(),
        };
        return format!("Nothing was changed: {why}. {apart}.");
    };
    let mut text = match outcome.stepped {
        Some(_) => format!("{apart}; it was stepped there."),
        None if outcome.remaining.abs() < LEVEL => format!("{apart}."),
        None => {
            let left = outcome.remaining;
            format!("{apart}; {} are slewed away from now on.", Magnitude(left.abs()))
        }
    };
    text.push_str(&format!(" It is good to {} now.", Bound(outcome.bound)));
    if *anew {
        text.push_str(" The earlier settings told another time and are forgotten.");
    }
    if let (Some((first, _)), Some((last, _)), Some((frequency, sd))) =
        (outcome.settings.first(), outcome.settings.last(), outcome.frequency)
        && outcome.settings.len() > 1
    {
        let worst = outcome.settings.iter().map(|(_, residual)| residual.abs()).fold(0.0, f64::max);
        text.push_str(&format!(
            " By {} settings over {} the crystal runs {}, give or take {:.1} ppm; they lie within {} of that line.",
            outcome.settings.len(),
            Duration((*last - *first).seconds()),
            Crystal(frequency),
            sd * 1e6,
            Magnitude(worst)
        ));
    }
    text
}

fn against(offset: f64) -> &'static str {
    if offset < 0.0 { "behind" } else { "ahead of" }
}

fn unmoved(why: &Unmoved) -> ErrorReply {
    match why {
        Unmoved::Watched => ErrorReply::new(
            "not_steered",
            "The clock is only watched. Set `[clock] discipline`, or give the daemon CAP_SYS_TIME, and restart it.",
        ),
        Unmoved::Refused(text) => ErrorReply::new("refused", format!("Nothing was changed: {text}.")),
    }
}

fn no_configuration() -> ErrorReply {
    ErrorReply::new("not_configured", "This daemon runs without a configuration: it has no servers, and no file.")
}
