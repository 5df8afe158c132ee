//! This module reads and writes times as Pancake does: naive UTC or zoned, 0–6 fractional digits,
//! now and then a count of seconds or milliseconds since 1970 (docs/api.md); seconds in parameters.
//! Columns and windows build on it; how Postgres stores a time is the extension's matter.

/// Microseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// The unit of `since` and `until`. Milliseconds there return nothing and no error (docs/api.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub i64);

pub const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

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
        let bytes = text.trim_ascii().as_bytes();
        let mut reader = Reader { bytes };
        let year = reader.digits(4)?;
        reader.literal(b"-")?;
        let month = reader.digits(2)?;
        reader.literal(b"-")?;
        let day = reader.digits(2)?;
        reader.literal(b"Tt ")?;
        let hour = reader.digits(2)?;
        reader.literal(b":")?;
        let minute = reader.digits(2)?;
        let second = match reader.literal(b":") {
            Some(()) => reader.digits(2)?,
            None => 0,
        };
        let fraction = match reader.literal(b".,") {
            Some(()) => reader.fraction()?,
            None => 0,
        };
        let offset = reader.offset()?;
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let seconds =
            days_from_epoch(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
        Some(Micros(seconds * SECOND + fraction))
    }

    /// `2026-03-31T13:42:20.207Z`: always with `Z`, as few fractional digits as the value needs.
    pub fn iso(self) -> String {
        if self == Self::NEGATIVE_INFINITY {
            return "-infinity".to_owned();
        }
        let seconds = self.0.div_euclid(SECOND);
        let micros = self.0.rem_euclid(SECOND);
        let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
        let rest = seconds.rem_euclid(DAY_SECONDS);
        let mut text = format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        );
        if micros != 0 {
            text.push_str(format!(".{micros:06}").trim_end_matches('0'));
        }
        text.push('Z');
        text
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        head.iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    fn literal(&mut self, any_of: &[u8]) -> Option<()> {
        let (first, tail) = self.bytes.split_first()?;
        any_of.contains(first).then(|| self.bytes = tail)
    }

    /// One or more digits after the point, as microseconds; what is finer is cut off.
    fn fraction(&mut self) -> Option<i64> {
        let count = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, tail) = self.bytes.split_at(count);
        self.bytes = tail;
        let micros = (0..6).fold(0, |n, i| n * 10 + digits.get(i).map_or(0, |d| i64::from(d - b'0')));
        (count > 0).then_some(micros)
    }

    /// Seconds east of UTC of `Z`, `+07`, `+07:00`, `-0330`, or of nothing at all.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.bytes {
            [] | [b'Z' | b'z'] => return Some(0),
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.bytes = &self.bytes[1..];
        let hours = self.digits(2)?;
        let _ = self.literal(b":");
        let minutes = if self.bytes.is_empty() { 0 } else { self.digits(2)? };
        (self.bytes.is_empty() && hours <= 15 && minutes <= 59)
            .then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years that begin in
/// March.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
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
