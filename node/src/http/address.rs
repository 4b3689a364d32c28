//! What a request's target says: percent-encoded path pieces and the query's parameters.

use std::borrow::Cow;

use crate::http::answer::Problem;
use crate::nearest::nearest;

/// The bytes that a percent-encoded piece of a path stands for. `+` is a plus.
pub fn decode(piece: &str) -> Result<Cow<'_, [u8]>, Problem> {
    if !piece.contains('%') {
        return Ok(Cow::Borrowed(piece.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(piece.len());
    let mut rest = piece.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = tail.first_chunk::<2>().and_then(|[high, low]| {
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            Some((high * 16 + low) as u8)
        });
        match digits {
            Some(decoded) => bytes.push(decoded),
            None => {
                return Err(Problem::bad(
                    "the path has a `%` that two hexadecimal digits do not follow",
                    "write a percent sign as %25",
                ));
            }
        }
        rest = &tail[2..];
    }
    Ok(Cow::Owned(bytes))
}

/// The parameters of a query, each of which must be `known` and given once. In a query `+` is a space.
pub fn parameters<'a>(
    query: &'a str,
    known: &'a [&'static str],
) -> impl Iterator<Item = Result<(&'static str, Cow<'a, str>), Problem>> {
    let mut given = 0u64;
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let at = known.iter().position(|known| *known == name).ok_or_else(|| {
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "this route takes no parameters".to_owned(),
                None => format!("this route knows {}", known.join(", ")),
            };
            Problem::bad(format!("unknown query parameter `{name}`"), hint)
        })?;
        let name = known[at];
        if given & 1 << at != 0 {
            return Err(Problem::bad(
                format!("the query parameter `{name}` is given twice"),
                "give it once: nobody knows which of the two is meant",
            ));
        }
        given |= 1 << at;
        let value = if value.contains('+') {
            Cow::Owned(value.replace('+', " "))
        } else {
            Cow::Borrowed(value)
        };
        Ok((name, decode_text(value, name)?))
    })
}

fn decode_text<'a>(value: Cow<'a, str>, name: &str) -> Result<Cow<'a, str>, Problem> {
    if !value.contains('%') {
        return Ok(value);
    }
    let bytes = decode(&value)?.into_owned();
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| {
        Problem::bad(format!("the query parameter `{name}` is not UTF-8"), "percent-encode UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_piece_stands_for_any_bytes() {
        assert_eq!(decode("user:1").unwrap().as_ref(), b"user:1");
        assert_eq!(decode("a%2Fb").unwrap().as_ref(), b"a/b");
        assert_eq!(decode("a+b%20c").unwrap().as_ref(), b"a+b c");
        assert_eq!(decode("%00%fF").unwrap().as_ref(), &[0, 255]);
        assert_eq!(decode("").unwrap().as_ref(), b"");
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_refused() {
        for broken in ["%", "%2", "a%zz", "%+1", "%é"] {
            let problem = decode(broken).expect_err(broken);
            assert_eq!(problem.status, 400, "{broken}");
            assert!(problem.hint.contains("%25"));
        }
    }

    #[test]
    fn an_unknown_parameter_names_the_nearest_known_one() {
        let known = &["consistency", "timeout"];
        let all: Result<Vec<_>, _> = parameters("timeout=5s&&consistency=o%6ee", known).collect();
        assert_eq!(all.unwrap(), [("timeout", "5s".into()), ("consistency", "one".into())]);
        let problem = parameters("consistancy=one", known).next().unwrap().expect_err("unknown");
        assert_eq!(problem.status, 400);
        assert_eq!(problem.hint, "did you mean `consistency`?");
        let problem = parameters("zzzzzzzz", known).next().unwrap().expect_err("unknown");
        assert_eq!(problem.hint, "this route knows consistency, timeout");
        assert!(parameters("timeout=%ff", known).next().unwrap().is_err());
        let twice = parameters("timeout=1s&timeout=1s", known).nth(1).unwrap().expect_err("twice");
        assert!(twice.message.contains("`timeout` is given twice"));
    }
}
