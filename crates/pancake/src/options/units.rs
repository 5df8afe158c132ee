//! This module reads durations and sizes as server options write them: a number and a unit, as in
//! postgresql.conf. Which option takes which is in [`crate::options::table`].

use std::time::Duration;

const TIME_UNITS: [(&str, f64); 6] =
    [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)];
const SIZE_UNITS: [(&str, f64); 5] = [
    ("B", 1.0),
    ("kB", 1024.0),
    ("MB", 1024.0 * 1024.0),
    ("GB", 1024.0 * 1024.0 * 1024.0),
    ("TB", 1024.0 * 1024.0 * 1024.0 * 1024.0),
];

/// `500ms`, `1.5 s`, `2min`. The unit is required.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = number_with_unit(text, &TIME_UNITS, "30s")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is too large".to_owned())
}

/// `512kB`, `32MB`; a kilobyte is 1024 bytes, as in Postgres. The unit is required.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = number_with_unit(text, &SIZE_UNITS, "32MB")?;
    if bytes < 9e15 { Ok(bytes as usize) } else { Err("it is too large".to_owned()) }
}

fn number_with_unit(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let number: f64 =
        number.parse().map_err(|_| format!("it is not a number with a unit, such as \"{example}\""))?;
    if unit.is_empty() {
        return Err(format!("it needs a unit, one of {}", names()));
    }
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    factor.map(|factor| number * factor).ok_or_else(|| format!("its unit must be one of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_postgres_reads_them() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration(" 1.5 min "), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn a_unit_is_needed_and_must_be_known() {
        for bad in ["30", "s", "", "-1s", "30 sec", "1e3s", "30S", "1.2.3s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("32MB"), Ok(32 << 20));
        assert!(
            parse_size("32").is_err() && parse_size("32mb").is_err() && parse_size("99999999TB").is_err()
        );
    }
}
