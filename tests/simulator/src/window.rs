//! This module reads `since` and `until`, and refuses the forms of them that the live API refuses.
//! Which time of a row they compare is left to `listing` and `catalogue`.

use crate::clock::{Micros, SECOND, end_of_day, month_later};
use crate::log::Endpoint;
use crate::query::{Params, last};
use crate::readings::{Bound, FormReading};
use crate::reply::Reply;
use crate::switches::Switches;

/// From here on a number of seconds can only be milliseconds (year 5138).
const MILLISECONDS: i64 = 100_000_000_000;

/// What v2 conversations answered on 2026-07-26 to one bound without the other.
const LONE_BOUND: &str = "Since must be provided with until";
/// What v1 conversations and posts answered in June 2026 to a month or more.
const WIDE_WINDOW: &str = "date range must be less than 1 month!";
/// Never met: clients send no time after the end of the day. The words are ours.
const LATE_UNTIL: &str = "Until must not be after the end of today";

/// Never met: clients send windows of days. The words are ours.
const WINDOWS: &str = "Since and until are not supported";

/// Shops and clients live in UTC+7.
const ZONE: Micros = 7 * 3600 * SECOND;

/// The times that `since` and `until` let in, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub lowest: Micros,
    pub highest: Micros,
    /// No row is let in, for example because a bound is in milliseconds.
    pub nothing: bool,
}

impl Window {
    pub fn lets_in(self, time: Micros) -> bool {
        !self.nothing && (self.lowest..=self.highest).contains(&time)
    }

    /// Whether there is no bound, so that a row without a time is let in as well.
    pub fn is_open(self) -> bool {
        !self.nothing && (self.lowest, self.highest) == (Micros::MIN, Micros::MAX)
    }
}

/// Why a request gets no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Message(&'static str),
    Http500,
}

impl Refusal {
    pub fn reply(self) -> Reply {
        match self {
            Refusal::Message(message) => Reply::unsuccessful(message),
            Refusal::Http500 => Reply::server_error(),
        }
    }
}

/// Returns the window of a request, or the refusal of its form.
pub fn read(
    params: &Params,
    endpoint: Endpoint,
    switches: &Switches,
    now: Micros,
    violations: &mut Vec<String>,
) -> Result<Window, Refusal> {
    let mut number = |name: &str| {
        let number = last(params, name)?.parse::<i64>().ok();
        match number {
            None => violations.push(format!("`{name}` is not a number: ignored")),
            Some(number) if number >= MILLISECONDS => {
                violations.push(format!("`{name}` is in milliseconds: no rows"));
            }
            Some(_) => {}
        }
        number
    };
    let (since, until) = (number("since"), number("until"));
    let milliseconds = since.max(until).is_some_and(|number| number >= MILLISECONDS);
    let reversed = matches!((since, until), (Some(since), Some(until)) if since > until);
    if reversed && !milliseconds {
        violations.push("`since` is later than `until`: no rows".to_owned());
    }
    let since = since.filter(|_| !switches.ignore_since);
    let until = until.filter(|_| !switches.ignore_until);
    let refused = if milliseconds { None } else { form(since, until, endpoint, switches, now) };
    let empty = match refused {
        None => false,
        Some((FormReading::Refused, message)) => return Err(Refusal::Message(message)),
        Some((FormReading::Http500, _)) => return Err(Refusal::Http500),
        Some((FormReading::Empty | FormReading::Taken, _)) => true,
    };
    Ok(Window {
        lowest: since.map_or(Micros::MIN, |since| lowest(since, switches.since)),
        highest: until.map_or(Micros::MAX, |until| highest(until, switches.until)),
        nothing: milliseconds || reversed || empty,
    })
}

/// Returns the reading of the first form that is not taken, with the words of its refusal.
fn form(
    since: Option<i64>,
    until: Option<i64>,
    endpoint: Endpoint,
    switches: &Switches,
    now: Micros,
) -> Option<(FormReading, &'static str)> {
    let conversations = endpoint == Endpoint::Conversations;
    let lone = conversations && since.is_some() != until.is_some();
    let wide = switches.wide_window_of.contains(&endpoint)
        && since.zip(until).is_some_and(|(since, until)| is_wide(since, until));
    let late =
        conversations && until.is_some_and(|until| until.saturating_mul(SECOND) > end_of_day(now, ZONE));
    let window = conversations && since.is_some() && until.is_some();
    [
        (lone, switches.lone_bound, LONE_BOUND),
        (wide, switches.wide_window, WIDE_WINDOW),
        (late, switches.late_until, LATE_UNTIL),
        (window, switches.windows, WINDOWS),
    ]
    .into_iter()
    .find(|(holds, reading, _)| *holds && *reading != FormReading::Taken)
    .map(|(_, reading, message)| (reading, message))
}

/// Whether `until` is not before `since` plus one month: 28 days from 1 February are wide.
fn is_wide(since: i64, until: i64) -> bool {
    until.saturating_mul(SECOND) >= month_later(since.saturating_mul(SECOND))
}

fn lowest(since: i64, bound: Bound) -> Micros {
    let start = since.saturating_mul(SECOND);
    match bound {
        Bound::Inclusive | Bound::InclusiveSeconds => start,
        Bound::Exclusive => start.saturating_add(1),
        Bound::ExclusiveSeconds => start.saturating_add(SECOND),
    }
}

fn highest(until: i64, bound: Bound) -> Micros {
    let start = until.saturating_mul(SECOND);
    match bound {
        Bound::Inclusive => start,
        Bound::InclusiveSeconds => start.saturating_add(SECOND - 1),
        Bound::Exclusive | Bound::ExclusiveSeconds => start.saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{DAY, parse};

    #[test]
    fn a_month_is_one_of_the_calendar() {
        let second = |text: &str| parse(&format!("{text}Z")).unwrap() / SECOND;
        for (since, until) in [
            ("2026-02-01T00:00:00", "2026-03-01T00:00:00"),
            ("2028-02-01T00:00:00", "2028-03-01T00:00:00"),
            ("2026-01-31T12:00:00", "2026-02-28T12:00:00"),
            ("2026-12-15T23:59:59", "2027-01-15T23:59:59"),
            ("2026-07-31T00:00:00", "2026-08-31T00:00:00"),
        ] {
            assert!(is_wide(second(since), second(until)), "{since}");
            assert!(!is_wide(second(since), second(until) - 1), "{since}");
        }
        assert!(is_wide(0, 31 * 86_400) && !is_wide(0, 31 * 86_400 - 1));
        assert!(!is_wide(5, 4));
    }

    #[test]
    fn the_day_ends_in_vietnam() {
        let at = |text: &str| parse(text).unwrap();
        let end = at("2026-10-09T17:00:00Z");
        assert_eq!(end_of_day(at("2026-10-09T16:59:59.5Z"), ZONE), end);
        assert_eq!(end_of_day(end, ZONE), end + DAY);
    }
}
