//! `grpc-timeout`, as the specification has it: 1 to 8 digits and a unit, more than zero.

use http::HeaderMap;
use std::time::Duration;

/// What a value that cannot be read should be.
const RULE: &str = "must be 1 to 8 digits, not zero, and one of H M S m u n; once";

/// How long the caller gives the RPC. `None`: as long as it takes.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(RULE);
    }
    let (unit, digits) = value.as_bytes().split_last().ok_or(RULE)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RULE);
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(RULE),
    };
    if timeout.is_zero() { Err(RULE) } else { Ok(Some(timeout)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<Duration>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("grpc-timeout", value.parse().unwrap());
        }
        timeout(&headers)
    }

    #[test]
    fn units() {
        assert_eq!(read(&[]), Ok(None));
        for (text, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("1M", Duration::from_secs(60)),
            ("30S", Duration::from_secs(30)),
            ("1m", Duration::from_millis(1)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("1n", Duration::from_nanos(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ] {
            assert_eq!(read(&[text]), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read() {
        for text in [
            "",
            "S",
            "1",
            "99999999999Z",
            "123456789S",
            "0n",
            "0S",
            "-1S",
            "+1S",
            "1s",
            "1 S",
            "1.5S",
            "S1",
            "1SS",
        ] {
            assert_eq!(read(&[text]), Err(RULE), "{text:?}");
        }
        assert_eq!(read(&["1S", "2S"]), Err(RULE));
    }
}
