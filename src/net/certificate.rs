//! When a certificate ends. No more of it is read than is in the way of that.

use crate::base::UnixMillis;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the validity of an X.509 certificate in DER; `None` where it is none, or has no end that a clock will see.
pub(super) fn ends_at(certificate: &[u8]) -> Option<UnixMillis> {
    let (_, certificate, _) = element(certificate)?;
    let (_, signed, _) = element(certificate)?;
    let (tag, _, behind) = element(signed)?;
    // The version may be left out; then serial number, algorithm and issuer.
    let mut rest = if tag == VERSION { behind } else { signed };
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        GENERALIZED_TIME => text.to_owned(),
        // Two digits of the year: RFC 5280 has them mean 1950 to 2049.
        UTC_TIME if text.as_bytes().first()? < &b'5' => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => return None,
    };
    let end = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(UnixMillis(TimeZone::UTC.to_timestamp(end).ok()?.as_millisecond()))
}

/// The tag and the content of the first element, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 7, 9);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_time() {
        for (year, said) in [(2031, "2031-07-09T00:00:00.000Z"), (2049, "2049-07-09T00:00:00.000Z")] {
            assert_eq!(ends_at(&made(year)).unwrap().to_string(), said);
        }
        assert_eq!(ends_at(&made(2075)).unwrap().to_string(), "2075-07-09T00:00:00.000Z");
    }

    #[test]
    fn what_is_cut_off_or_harmed_anywhere_is_read_without_a_panic() {
        let whole = made(2031);
        let end = ends_at(&whole);
        for at in 0..whole.len() {
            assert_eq!(ends_at(&whole[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut harmed = whole.clone();
                harmed[at] ^= 1 << bit;
                let _ = ends_at(&harmed);
            }
        }
        assert!(end.is_some() && ends_at(b"").is_none());
    }
}
