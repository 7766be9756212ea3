//! The deadline of a call.

use std::time::Duration;
use std::time::Instant;

use tonic::metadata::MetadataMap;

/// The longest that a call may take: the kubelet gives up after two minutes (`csiTimeout`), and loses a later answer
/// with the progress that it reports.
pub const LONGEST: Duration = Duration::from_secs(110);

/// How much of the caller's timeout to reserve for sending the answer.
const MARGIN: Duration = Duration::from_secs(5);

/// The deadline for answering a call that just arrived.
pub fn of(metadata: &MetadataMap) -> Instant {
    let given = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    Instant::now() + patience(given)
}

/// The time left.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// For a short timeout a tenth is margin enough.
fn patience(given: Option<Duration>) -> Duration {
    given.map_or(LONGEST, |given| (given - MARGIN.min(given / 10)).min(LONGEST))
}

/// Reads the value of `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_of_grpc_is_read_and_nonsense_is_none() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("119S", Some(Duration::from_secs(119))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1ä", None),
            ("ä", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_answer_comes_before_the_caller_gives_up() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(None), LONGEST);
        assert_eq!(patience(Some(Duration::from_millis(119_800))), LONGEST, "the kubelet");
        assert_eq!(patience(Some(seconds(60))), seconds(55));
        assert_eq!(patience(Some(seconds(1))), Duration::from_millis(900));
        assert_eq!(patience(Some(seconds(99_999_999 * 3600))), LONGEST);
        assert_eq!(patience(Some(Duration::ZERO)), Duration::ZERO);
    }
}
