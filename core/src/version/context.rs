//! The causal context token: what a client has seen of one key, in a form it cannot forge or misuse.
//!
//! ```text
//! version u8 | keyspace u32 | key hash u64 | highest HLC u64 | count u16 |
//! count * (actor u64, n varint) | first 8 bytes of HMAC-SHA256 under the cluster secret
//! ```
//! Integers are big endian, the varint is LEB128, the actors are sorted, and all of it is base64url
//! without padding. A token of another key, one with a bad code and one of an unknown version are errors, never "empty":
//! an empty context would turn an overwrite into a sibling.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{CONTEXT_BYTES_MAX, DOT_MAX};
use crate::error::{Error, Result};
use crate::id::{ActorId, KeyspaceId};
use crate::version::dvv::Clock;
use crate::version::hlc::Hlc;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + 4 + 8 + 8 + 2;

/// What a client has seen of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The versions it has seen or knows to be overwritten.
    pub clock: Clock,
    /// The highest HLC it has seen.
    pub highest: Hlc,
}

impl Context {
    /// The token for this context of one key. `None` when it would exceed `CONTEXT_BYTES_MAX`.
    #[must_use]
    pub fn seal(&self, secret: &[u8], keyspace: KeyspaceId, key: &[u8]) -> Option<String> {
        let entries = self.clock.entries();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * 12 + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&keyspace.0.to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(key).to_be_bytes());
        bytes.extend_from_slice(&self.highest.0.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(entries.len()).ok()?.to_be_bytes());
        for &(actor, n) in entries {
            bytes.extend_from_slice(&actor.0.to_be_bytes());
            write_varint(&mut bytes, n);
        }
        let code = mac(secret, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&code[..MAC_BYTES]);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        (token.len() <= CONTEXT_BYTES_MAX).then_some(token)
    }

    /// The context in a token that was given out for this key.
    pub fn open(token: &str, secret: &[u8], keyspace: KeyspaceId, key: &[u8]) -> Result<Context> {
        if token.len() > CONTEXT_BYTES_MAX {
            return Err(Error::Malformed("the context token is too long"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::Malformed("the context token is not base64url"))?;
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) => {
                return Err(Error::UnknownVersion { what: "the context token", found });
            }
            None => return Err(Error::Malformed("the context token is empty")),
        }
        if bytes.len() < HEADER_BYTES + MAC_BYTES {
            return Err(Error::Malformed("the context token is cut off"));
        }
        let (body, code) = bytes.split_at(bytes.len() - MAC_BYTES);
        // Compared in constant time: a client must not learn a code byte by byte.
        if mac(secret, body).verify_truncated_left(code).is_err() {
            return Err(Error::Malformed("the context token was not made by this cluster"));
        }
        parse(body, keyspace, key)
    }
}

fn parse(body: &[u8], keyspace: KeyspaceId, key: &[u8]) -> Result<Context> {
    let cut_off = || Error::Malformed("the context token is cut off");
    let mut rest = &body[1..];
    if take(&mut rest).map(u32::from_be_bytes) != Some(keyspace.0)
        || take(&mut rest).map(u64::from_be_bytes) != Some(xxh3_64(key))
    {
        return Err(Error::Malformed("the context token belongs to another key"));
    }
    let highest = Hlc(take(&mut rest).map(u64::from_be_bytes).ok_or_else(cut_off)?);
    let count = take(&mut rest).map(u16::from_be_bytes).ok_or_else(cut_off)?;
    let mut entries: Vec<(ActorId, u64)> = Vec::new();
    for _ in 0..count {
        let actor = ActorId(take(&mut rest).map(u64::from_be_bytes).ok_or_else(cut_off)?);
        let n = read_varint(&mut rest).filter(|n| (1..=DOT_MAX).contains(n));
        let n = n.ok_or(Error::Malformed("the context token has a bad count"))?;
        if entries.last().is_some_and(|last| last.0 >= actor) {
            return Err(Error::Malformed("the context token's actors are not sorted"));
        }
        entries.push((actor, n));
    }
    if !rest.is_empty() {
        return Err(Error::Malformed("the context token has trailing bytes"));
    }
    Ok(Context { clock: Clock::new(entries), highest })
}

fn mac(secret: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.chain_update(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn write_varint(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Context, HEADER_BYTES, MAC_BYTES, URL_SAFE_NO_PAD};
    use crate::config::{CONTEXT_BYTES_MAX, DOT_MAX};
    use crate::error::Error;
    use crate::id::{ActorId, KeyspaceId};
    use crate::version::dvv::Clock;
    use crate::version::hlc::Hlc;

    const SECRET: &[u8] = b"the cluster's secret";
    const KEYSPACE: KeyspaceId = KeyspaceId(1);

    fn context(entries: &[(u64, u64)]) -> Context {
        let clock = Clock::new(entries.iter().map(|&(actor, n)| (ActorId(actor), n)));
        Context { clock, highest: Hlc(0x0123_4567_89ab_cdef) }
    }

    fn seal(context: &Context) -> String {
        context.seal(SECRET, KEYSPACE, b"user:1").expect("short")
    }

    fn refusal(token: &str) -> String {
        Context::open(token, SECRET, KEYSPACE, b"user:1").expect_err("a bad token").to_string()
    }

    /// Tokens live in clients: a program must read what an older one gave out.
    #[test]
    fn the_format_is_pinned() {
        let token = seal(&context(&[(0xa1, 1), (0xb2, 300), (u64::MAX, u64::MAX)]));
        insta::assert_snapshot!(token, @"AQAAAAE7V3r9f-2VAQEjRWeJq83vAAMAAAAAAAAAoQEAAAAAAAAAsqwC______________________8ByEbe31UOfdA");
        let empty = seal(&Context::default());
        insta::assert_snapshot!(empty, @"AQAAAAE7V3r9f-2VAQAAAAAAAAAAAAB-g036jddtoQ");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let token = seal(&context(&[(7, 1), (9, 1 << 40)]));
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64url");
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = URL_SAFE_NO_PAD.encode(bytes);
            assert!(Context::open(&flipped, SECRET, KEYSPACE, b"user:1").is_err(), "bit {bit}");
        }
        for at in 0..token.len() {
            for bit in 0..7 {
                let mut text = token.clone().into_bytes();
                text[at] ^= 1 << bit;
                let text = String::from_utf8(text).expect("ASCII");
                assert!(Context::open(&text, SECRET, KEYSPACE, b"user:1").is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_token_opens_for_its_own_key_keyspace_and_cluster_only() {
        let token = seal(&context(&[(7, 1)]));
        let other = "malformed: the context token belongs to another key";
        let open = |secret: &[u8], keyspace, key: &[u8]| {
            Context::open(&token, secret, KeyspaceId(keyspace), key).map_err(|e| e.to_string())
        };
        assert_eq!(open(SECRET, 1, b"user:1"), Ok(context(&[(7, 1)])));
        assert_eq!(open(SECRET, 1, b"user:2"), Err(other.to_owned()));
        assert_eq!(open(SECRET, 2, b"user:1"), Err(other.to_owned()));
        let foreign = "malformed: the context token was not made by this cluster";
        assert_eq!(open(b"another secret", 1, b"user:1"), Err(foreign.to_owned()));
    }

    #[test]
    fn a_token_cut_anywhere_or_extended_is_refused() {
        let token = seal(&context(&[(7, 1), (8, 2)]));
        for end in 0..token.len() {
            let cut = Context::open(&token[..end], SECRET, KEYSPACE, b"user:1");
            assert!(cut.is_err(), "{end} characters");
        }
        assert!(Context::open(&format!("{token}AAAA"), SECRET, KEYSPACE, b"user:1").is_err());
        assert_eq!(refusal(""), "malformed: the context token is empty");
        assert_eq!(refusal("AQ"), "malformed: the context token is cut off");
        assert_eq!(refusal("!"), "malformed: the context token is not base64url");
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut bytes = URL_SAFE_NO_PAD.decode(seal(&Context::default())).expect("base64url");
        bytes[0] = 2;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let opened = Context::open(&token, SECRET, KEYSPACE, b"user:1");
        assert!(matches!(opened, Err(Error::UnknownVersion { found: 2, .. })), "{opened:?}");
    }

    #[test]
    fn a_token_has_a_longest_length_both_ways() {
        let bytes_max = CONTEXT_BYTES_MAX / 4 * 3;
        let actors = ((bytes_max - HEADER_BYTES - MAC_BYTES) / 9) as u64;
        let many = |actors| context(&Vec::from_iter((1..=actors).map(|actor| (actor, 1))));
        let longest = seal(&many(actors));
        assert!(longest.len() <= CONTEXT_BYTES_MAX);
        assert_eq!(many(actors + 1).seal(SECRET, KEYSPACE, b"user:1"), None);
        let long = "A".repeat(CONTEXT_BYTES_MAX + 1);
        assert_eq!(refusal(&long), "malformed: the context token is too long");
    }

    /// Bytes with a right code are still checked: a cluster may have been taught to sign something else.
    #[test]
    fn signed_bytes_that_break_the_format_are_refused() {
        let good = URL_SAFE_NO_PAD.decode(seal(&context(&[(7, 1), (8, 2)]))).expect("base64url");
        let body = &good[..good.len() - MAC_BYTES];
        let signed = |body: &[u8]| {
            let code = super::mac(SECRET, body);
            let code = hmac::Mac::finalize(code).into_bytes();
            URL_SAFE_NO_PAD.encode([body, &code[..MAC_BYTES]].concat())
        };
        assert!(Context::open(&signed(body), SECRET, KEYSPACE, b"user:1").is_ok());
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut body = body.to_vec();
            change(&mut body);
            refusal(&signed(&body))
        };
        let [first, second] = [HEADER_BYTES, HEADER_BYTES + 9];
        assert_eq!(
            refused(&|body| body.push(0)),
            "malformed: the context token has trailing bytes"
        );
        assert_eq!(
            refused(&|body| body[second + 7] = 7),
            "malformed: the context token's actors are not sorted"
        );
        assert_eq!(
            refused(&|body| body[first + 8] = 0),
            "malformed: the context token has a bad count"
        );
        assert_eq!(
            refused(&|body| body.splice(first + 8..=first + 8, [0xff; 11]).for_each(drop)),
            "malformed: the context token has a bad count"
        );
        assert_eq!(
            refused(&|body| body[HEADER_BYTES - 1] = 3),
            "malformed: the context token is cut off"
        );
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(
            entries in prop::collection::vec((any::<u64>(), 1..=DOT_MAX), 0..40),
            secret in any::<Vec<u8>>(),
            keyspace in any::<u32>(),
            key in any::<Vec<u8>>(),
        ) {
            let context = context(&entries);
            let token = context.seal(&secret, KeyspaceId(keyspace), &key).expect("40 actors fit");
            prop_assert!(token.len() <= CONTEXT_BYTES_MAX);
            let opened = Context::open(&token, &secret, KeyspaceId(keyspace), &key);
            prop_assert_eq!(opened.expect("just sealed"), context);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(token in any::<String>(), bytes in any::<Vec<u8>>()) {
            prop_assert!(Context::open(&token, SECRET, KEYSPACE, b"k").is_err());
            let token = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert!(Context::open(&token, SECRET, KEYSPACE, b"k").is_err());
        }
    }
}
