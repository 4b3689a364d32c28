//! The causal context token: what a client has seen of one key, in a form it cannot forge or misuse.
//!
//! ```text
//! version u8 | keyspace u32 | key hash u64 | highest HLC u64 | count u16 |
//! count * (actor u64, runs varint, runs * (gap varint, more varint)) |
//! first 8 bytes of HMAC-SHA256 under the cluster secret
//! ```
//! A run leaves out `gap` numbers after the run before it (or from 1 on) and has 1 + `more` numbers: the first five
//! dots of an actor are 1, 0, 4. Integers are big endian, the varint is LEB128, the actors are sorted, no two runs touch, and all of
//! it is base64url without padding. A token of another key, one with a bad code and one of an unknown version are errors,
//! never "empty": an empty context would turn an overwrite into a sibling. Version 1 had one counter for each actor; it could
//! not tell a client's own write from an unseen one below it, and is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{CONTEXT_BYTES_MAX, DOT_MAX, RUNS_MAX};
use crate::error::{Error, Result};
use crate::id::{ActorId, KeyspaceId};
use crate::version::dvv::VersionVector;
use crate::version::hlc::Hlc;
use crate::version::runs::{Run, Runs};

const VERSION: u8 = 2;
const MAC_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + 4 + 8 + 8 + 2;
/// The longest varint of a number up to `DOT_MAX`.
const NUMBER_BYTES_MAX: usize = 9;
/// The most that one run may take, with an actor of its own.
const RUN_BYTES_MAX: usize = 8 + 1 + 2 * NUMBER_BYTES_MAX;

const _: () = assert!(DOT_MAX < 1 << (7 * NUMBER_BYTES_MAX));
const _: () = assert!(RUNS_MAX < 0x80, "the number of an actor's runs is one byte");
const _: () = assert!(
    (HEADER_BYTES + RUNS_MAX * RUN_BYTES_MAX + MAC_BYTES).div_ceil(3) * 4 <= CONTEXT_BYTES_MAX,
    "every clock that a record may have fits in a token"
);

/// What a client has seen of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The versions it has seen or knows to be overwritten.
    pub clock: VersionVector,
    /// The highest HLC it has seen.
    pub highest: Hlc,
}

impl Context {
    /// The token for this context of one key. Refuses a clock of more than `RUNS_MAX` runs, which no record holds.
    pub fn seal(&self, secret: &[u8], keyspace: KeyspaceId, key: &[u8]) -> Result<String> {
        if self.clock.runs() > RUNS_MAX {
            return Err(Error::Full("the key's clock is too large for a context token"));
        }
        let entries = self.clock.entries();
        let bytes_max = HEADER_BYTES + self.clock.runs() * RUN_BYTES_MAX + MAC_BYTES;
        let mut bytes = Vec::with_capacity(bytes_max);
        bytes.push(VERSION);
        bytes.extend_from_slice(&keyspace.0.to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(key).to_be_bytes());
        bytes.extend_from_slice(&self.highest.0.to_be_bytes());
        bytes.extend_from_slice(&(entries.len() as u16).to_be_bytes());
        for (actor, runs) in entries {
            bytes.extend_from_slice(&actor.0.to_be_bytes());
            write_varint(&mut bytes, runs.list().len() as u64);
            let mut last = 0;
            for run in runs.list() {
                write_varint(&mut bytes, run.from - last - 1);
                write_varint(&mut bytes, run.to - run.from);
                last = run.to;
            }
        }
        let code = mac(secret, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&code[..MAC_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
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
    let mut entries = Vec::new();
    for _ in 0..count {
        let actor = ActorId(take(&mut rest).map(u64::from_be_bytes).ok_or_else(cut_off)?);
        entries.push((actor, parse_runs(&mut rest)?));
    }
    if !rest.is_empty() {
        return Err(Error::Malformed("the context token has trailing bytes"));
    }
    let clock = VersionVector::from_entries(entries);
    let clock = clock.ok_or(Error::Malformed("the context token's clock is not sound"))?;
    Ok(Context { clock, highest })
}

fn parse_runs(rest: &mut &[u8]) -> Result<Runs> {
    let bad = || Error::Malformed("the context token has a bad count");
    let count = read_varint(rest).filter(|&count| count <= RUNS_MAX as u64).ok_or_else(bad)?;
    let mut runs = SmallVec::new();
    let mut last = 0u64;
    for _ in 0..count {
        let mut number = || read_varint(rest).filter(|&n| n <= DOT_MAX).ok_or_else(bad);
        let from = last + number()? + 1;
        last = from + number()?;
        if last > DOT_MAX {
            return Err(bad());
        }
        runs.push(Run { from, to: last });
    }
    Runs::from_list(runs).ok_or_else(bad)
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
    use crate::config::{CONTEXT_BYTES_MAX, DOT_MAX, RUNS_MAX};
    use crate::error::Error;
    use crate::id::{ActorId, KeyspaceId};
    use crate::version::dvv::{Dot, VersionVector};
    use crate::version::hlc::Hlc;

    const SECRET: &[u8] = b"the cluster's secret";
    const KEYSPACE: KeyspaceId = KeyspaceId(1);

    fn context(entries: &[(u64, u64)]) -> Context {
        let clock = VersionVector::new(entries.iter().map(|&(actor, n)| (ActorId(actor), n)));
        Context { clock, highest: Hlc(0x0123_4567_89ab_cdef) }
    }

    fn seal(context: &Context) -> String {
        context.seal(SECRET, KEYSPACE, b"user:1").expect("few runs")
    }

    fn refusal(token: &str) -> String {
        Context::open(token, SECRET, KEYSPACE, b"user:1").expect_err("a bad token").to_string()
    }

    /// Tokens live in clients: a program must read what an older one gave out.
    #[test]
    fn the_format_is_pinned() {
        let token = seal(&context(&[(0xa1, 1), (0xb2, 300), (u64::MAX, DOT_MAX)]));
        insta::assert_snapshot!(token, @"AgAAAAE7V3r9f-2VAQEjRWeJq83vAAMAAAAAAAAAoQEAAAAAAAAAAACyAQCrAv__________AQD__________w-J5ZlVsq6qzw");
        let empty = seal(&Context::default());
        insta::assert_snapshot!(empty, @"AgAAAAE7V3r9f-2VAQAAAAAAAAAAAABdHlHtCMfQ7A");
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
        assert_eq!(refusal("Ag"), "malformed: the context token is cut off");
        assert_eq!(refusal("!"), "malformed: the context token is not base64url");
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut bytes = URL_SAFE_NO_PAD.decode(seal(&Context::default())).expect("base64url");
        for other in [0, 1, 3] {
            bytes[0] = other;
            let token = URL_SAFE_NO_PAD.encode(&bytes);
            let opened = Context::open(&token, SECRET, KEYSPACE, b"user:1");
            let named =
                matches!(opened, Err(Error::UnknownVersion { found, .. }) if found == other);
            assert!(named, "{opened:?}");
        }
    }

    /// A clock as large as a record may have, with the longest numbers.
    fn largest(runs: u64) -> Context {
        let mut clock = VersionVector::default();
        for actor in 0..runs {
            clock.add(Dot { actor: ActorId(actor), n: DOT_MAX });
        }
        Context { clock, highest: Hlc(u64::MAX) }
    }

    #[test]
    fn every_clock_that_a_record_may_have_fits_and_a_larger_one_is_an_error() {
        let context = largest(RUNS_MAX as u64);
        let token = seal(&context);
        assert!(token.len() <= CONTEXT_BYTES_MAX, "{}", token.len());
        let opened = Context::open(&token, SECRET, KEYSPACE, b"user:1");
        assert_eq!(opened.expect("just sealed"), context);
        let refused = largest(RUNS_MAX as u64 + 1).seal(SECRET, KEYSPACE, b"user:1");
        assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
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
        // Each entry is an actor, 1 run, gap 0, and what follows 1.
        let [first, second] = [HEADER_BYTES + 8, HEADER_BYTES + 11 + 8];
        assert_eq!(
            refused(&|body| body.push(0)),
            "malformed: the context token has trailing bytes"
        );
        let unsound = "malformed: the context token's clock is not sound";
        assert_eq!(refused(&|body| body[second - 1] = 7), unsound, "not sorted");
        let empty = |body: &mut Vec<u8>| body.splice(first..first + 3, [0]).for_each(drop);
        assert_eq!(refused(&empty), unsound, "an actor without a dot");
        let bad = "malformed: the context token has a bad count";
        let touching = |body: &mut Vec<u8>| {
            body.splice(first..first + 3, [2, 0, 0, 0, 0]).for_each(drop);
        };
        assert_eq!(refused(&touching), bad);
        assert_eq!(refused(&|body| body[first] = RUNS_MAX as u8 + 1), bad);
        for at in [first + 1, first + 2] {
            assert_eq!(refused(&|body| body.splice(at..=at, [0xff; 11]).for_each(drop)), bad);
            let too_high = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x11];
            assert_eq!(refused(&|body| body.splice(at..=at, too_high).for_each(drop)), bad);
        }
        assert_eq!(
            refused(&|body| body[HEADER_BYTES - 1] = 3),
            "malformed: the context token is cut off"
        );
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(
            entries in prop::collection::vec((any::<u64>(), 1..=DOT_MAX), 0..40),
            dots in prop::collection::vec((0..4u64, 1..60u64), 0..40),
            secret in any::<Vec<u8>>(),
            keyspace in any::<u32>(),
            key in any::<Vec<u8>>(),
        ) {
            let mut context = context(&entries);
            dots.iter().for_each(|&(actor, n)| context.clock.add(Dot { actor: ActorId(actor), n }));
            let token = context.seal(&secret, KeyspaceId(keyspace), &key).expect("80 runs fit");
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
