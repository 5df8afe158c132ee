//! Knows the simulator's time and how Pancake writes a time.
//! Which row gets which time is left to the page.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
pub type Micros = i64;

pub const SECOND: Micros = 1_000_000;
pub const DAY: Micros = 86_400 * SECOND;

/// A clock that starts at a given time and then keeps real time.
#[derive(Debug)]
pub struct Clock {
    base: Micros,
    started: Instant,
    ahead: Duration,
}

impl Clock {
    pub fn start(base: Option<Micros>) -> Clock {
        let system = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros);
        Clock { base: base.unwrap_or_else(system), started: Instant::now(), ahead: Duration::ZERO }
    }

    pub fn now(&self) -> Micros {
        self.base + micros(self.started.elapsed() + self.ahead)
    }

    pub fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }
}

pub fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}

/// The whole second a time lies in.
pub fn floor(time: Micros) -> Micros {
    time.div_euclid(SECOND) * SECOND
}

/// `2026-03-30T02:11:05`: no zone, UTC.
pub fn seconds(time: Micros) -> String {
    let days = time.div_euclid(DAY);
    let second = time.rem_euclid(DAY) / SECOND;
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// `2026-03-30T02:11:05.123456`: no zone, UTC.
pub fn naive(time: Micros) -> String {
    format!("{}.{:06}", seconds(time), time.rem_euclid(SECOND))
}

/// `2026-03-30T02:11:05Z`, as the article shows times.
pub fn zulu(time: Micros) -> String {
    format!("{}Z", seconds(time))
}

/// Reads any of the forms above, and an offset such as `+07:00`.
pub fn parse(text: &str) -> Option<Micros> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let days = days(field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let second = field(11, 13)? * 3600 + field(14, 16)? * 60 + field(17, 19)?;
    let rest = text.get(19..)?;
    let digits: String =
        rest.strip_prefix('.').unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
    let zone = rest.trim_start_matches('.').get(digits.len()..)?;
    let fraction = format!("{digits:0<6}").get(..6)?.parse::<i64>().ok()?;
    let offset = match zone.get(..1) {
        None | Some("Z" | "z") => 0,
        Some(sign) => {
            let minutes =
                zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6).map_or(Ok(0), str::parse).ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    Some(days * DAY + (second - offset * 60) * SECOND + fraction)
}

/// Year, month, day of a day number (Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// Returns the same day and time of the next month in UTC, or the last day of a month that has no
/// such day.
pub fn month_later(time: Micros) -> Micros {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let first = days(year, month, 1);
    let after = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
    (first + day.min(after - first) - 1).saturating_mul(DAY).saturating_add(time.rem_euclid(DAY))
}

/// Returns when the day of `time` ends in the zone that is `zone` ahead of UTC.
pub fn end_of_day(time: Micros, zone: Micros) -> Micros {
    ((time + zone).div_euclid(DAY) + 1) * DAY - zone
}

/// Day number of a date (Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        let time = parse("2026-03-31T13:42:20.207000").unwrap();
        assert_eq!(naive(time), "2026-03-31T13:42:20.207000");
        assert_eq!(zulu(time), "2026-03-31T13:42:20Z");
        assert_eq!(parse("2026-03-31T20:42:20.207+07:00"), Some(time));
        assert_eq!(parse("2026-03-31T13:42:20Z"), Some(floor(time)));
        assert_eq!(parse("2024-02-29T00:00:00"), Some(1_709_164_800 * SECOND));
        assert_eq!(parse("yesterday"), None);
    }
}
