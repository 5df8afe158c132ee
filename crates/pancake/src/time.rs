//! This module reads and writes times as Pancake does: naive UTC or zoned, 0–6 fractional digits,
//! now and then a count of seconds or milliseconds since 1970 (docs/api.md); seconds in parameters.
//! Columns and windows build on it; how Postgres stores a time is the extension's matter.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;

static CALENDAR: DateTimeParser = DateTimeParser::new();

/// Microseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// The unit of `since` and `until`. Milliseconds there return nothing and no error (docs/api.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub i64);

pub const SECOND: i64 = 1_000_000;

impl Micros {
    /// Earlier than every time: what a row without any time shows. Postgres has the same value for
    /// it.
    pub const NEGATIVE_INFINITY: Micros = Micros(i64::MIN);

    pub fn floor_second(self) -> UnixSeconds {
        UnixSeconds(self.0.div_euclid(SECOND))
    }

    pub fn ceil_second(self) -> UnixSeconds {
        UnixSeconds(self.0.div_euclid(SECOND) + i64::from(self.0.rem_euclid(SECOND) > 0))
    }

    pub fn minus_seconds(self, seconds: i64) -> Micros {
        Micros(self.0.saturating_sub(seconds * SECOND))
    }

    pub fn minus(self, duration: Duration) -> Micros {
        Micros(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn plus(self, duration: Duration) -> Micros {
        Micros(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Reads `2026-03-31T13:42:20.207000`, with a space instead of `T`, and with `Z` or an offset.
    /// A time without zone is UTC. A number counts seconds or milliseconds since 1970. `None` where
    /// the text is neither.
    pub fn parse(text: &str) -> Option<Micros> {
        Self::parse_calendar(text).or_else(|| Self::parse_epoch(text))
    }

    /// Seconds up to the year 5138, milliseconds from 1973 on: the two do not overlap.
    fn parse_epoch(text: &str) -> Option<Micros> {
        let text = text.trim_ascii();
        if text.contains(['e', 'E']) {
            let seconds = text.parse().ok().filter(|seconds: &f64| seconds.fract() == 0.0)?;
            return Self::parse_epoch(&format!("{seconds:.0}"));
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let count: i64 = whole.parse().ok().filter(|_| !whole.starts_with('+'))?;
        let unit = match count.unsigned_abs() {
            0..100_000_000_000 => SECOND,
            100_000_000_000..100_000_000_000_000 => SECOND / 1_000,
            _ => return None,
        };
        let part =
            (0..9).fold(0, |n, i| n * 10 + fraction.as_bytes().get(i).map_or(0, |d| i64::from(d - b'0')));
        let part = part * (unit / 1_000) / 1_000_000;
        Some(Micros(count * unit + if whole.starts_with('-') { -part } else { part }))
    }

    fn parse_calendar(text: &str) -> Option<Micros> {
        let pieces = CALENDAR.parse_pieces(text.trim_ascii()).ok()?;
        let at = pieces.date().to_datetime(pieces.time()?);
        let offset = match pieces.to_numeric_offset() {
            Some(offset) => offset,
            // A zone by its name would need the zones' histories.
            None if pieces.time_zone_annotation().is_some() => return None,
            None => Offset::UTC,
        };
        Some(Micros(offset.to_timestamp(at).ok()?.as_microsecond()))
    }

    /// `2026-03-31T13:42:20.207Z`: always with `Z`, as few fractional digits as the value needs.
    pub fn iso(self) -> String {
        // All times that are read can be written.
        Timestamp::from_microsecond(self.0).map_or_else(|_| "-infinity".to_owned(), |at| at.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_forms_that_pancake_writes() {
        let plain = Micros::parse("2026-03-31T13:42:20.207000");
        assert_eq!(plain, Some(Micros(1_774_964_540_207_000)));
        for same in [
            "2026-03-31T13:42:20.207Z",
            "2026-03-31 20:42:20.207+07",
            "2026-03-31T20:42:20.207000+07:00",
            "2026-03-31T10:12:20.2070009-0330",
        ] {
            assert_eq!(Micros::parse(same), plain, "{same}");
        }
        assert_eq!(Micros::parse("2026-03-31T13:42"), Some(Micros(1_774_964_520_000_000)));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for bad in [
            "",
            "today",
            "1998-00-00",
            "2026-02-29T00:00:00",
            "2026-13-01T00:00:00",
            "2026-01-01T24:00:00",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00:00+7",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T00:00:00[Asia/Ho_Chi_Minh]",
        ] {
            assert_eq!(Micros::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_round_outwards() {
        assert_eq!((Micros(-1).floor_second(), Micros(-1).ceil_second()), (UnixSeconds(-1), UnixSeconds(0)));
        assert_eq!((Micros(1).floor_second(), Micros(1).ceil_second()), (UnixSeconds(0), UnixSeconds(1)));
        assert_eq!(Micros(2 * SECOND).ceil_second(), UnixSeconds(2));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -60_000_000_000_000_000i64..200_000_000_000_000_000) {
            prop_assert_eq!(Micros::parse(&Micros(micros).iso()), Some(Micros(micros)));
        }
    }
}
