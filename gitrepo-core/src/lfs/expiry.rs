//! How long a place is good for (`expires_in` and `expires_at` of git-lfs's `docs/api/batch.md`).

use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;

/// Longest time that is believed, in seconds. A place that is good for longer is good for as long as anybody asks.
const LONGEST: u64 = 365 * 24 * 60 * 60;

/// How long before its end a place is not used any more, as for git-lfs: a request takes time. Of a short time, it is a
/// quarter.
const LEEWAY: Duration = Duration::from_secs(5);

/// Until when a place may be used, by this machine's clock; `None` if its server does not say so.
///
/// As for git-lfs, seconds count before a time. A time that has passed already comes from another clock, or means
/// nothing: it is not believed.
pub(super) fn end(seconds: Option<&Value>, time: Option<&Value>, now: SystemTime) -> Option<SystemTime> {
    let seconds = seconds.and_then(Value::as_u64).filter(|seconds| *seconds > 0);
    let end = match seconds {
        Some(seconds) => now.checked_add(Duration::from_secs(seconds.min(LONGEST)))?,
        None => parse(time?.as_str()?)?,
    };
    let lifetime = end.duration_since(now).ok().filter(|lifetime| !lifetime.is_zero())?;
    now.checked_add(lifetime - LEEWAY.min(lifetime / 4))
}

/// Reads a time of RFC 3339, whose fraction of a second is of no interest here.
fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let fraction = rest.strip_prefix('.').map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
    let offset = offset(rest.get(fraction..)?)?;
    let is_sensible = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let since = Duration::from_secs(u64::try_from(seconds).ok().filter(|_| is_sensible)?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Three numbers of these lengths.
fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[i64; 3]> {
    let mut found = [0; 3];
    let mut parts = text.split(separator);
    for (number, length) in found.iter_mut().zip(lengths) {
        let digits =
            parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// The difference from UTC, in seconds.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes, _] = numbers(&format!("{rest}:00"), ':', [2, 2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_time_is_read_in_every_zone() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2016-11-10T15:29:07Z", 1_478_791_747),
            ("2016-11-10T15:29:07.25+00:00", 1_478_791_747),
            ("2016-11-10t17:29:07+02:00", 1_478_791_747),
            ("2016-11-10 10:59:07.123456789-04:30", 1_478_791_747),
            ("2000-02-29T23:59:60z", 951_868_800),
            ("2024-03-01T00:00:00Z", 1_709_251_200),
        ] {
            assert_eq!(parse(text), Some(at(seconds)), "{text}");
        }
        for bad in [
            "",
            "0001-01-01T00:00:00Z",
            "2016-11-10",
            "2016-11-10T15:29:07",
            "2016-13-10T15:29:07Z",
            "20161110T152907Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_count_before_a_time_and_what_has_passed_is_not_believed() {
        let now = at(1_478_791_747);
        let found = |seconds, time| end(Some(&seconds), Some(&time), now);
        let (later, earlier) = (json!("2016-11-10T15:30:07Z"), json!("2016-11-10T15:28:07Z"));
        for (seconds, time, expected) in [
            (json!(8), later.clone(), Some(now + Duration::from_secs(6))),
            (json!(0), later.clone(), Some(now + Duration::from_secs(55))),
            (json!(-5), json!(null), None),
            (json!("soon"), later, Some(now + Duration::from_secs(55))),
            (json!(null), earlier, None),
            (json!(u64::MAX), json!(1), Some(now + Duration::from_secs(LONGEST) - LEEWAY)),
        ] {
            assert_eq!(found(seconds.clone(), time.clone()), expected, "{seconds} {time}");
        }
        assert_eq!(end(None, None, now), None);
    }

    proptest! {
        #[test]
        fn any_time_is_read_without_panic(text in any::<String>(), digits in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.Z+-]{0,20}") {
            parse(&text);
            parse(&digits);
        }
    }
}
