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

use crate::config::CONTEXT_BYTES_MAX;
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
        let code = mac(secret, &bytes);
        bytes.extend_from_slice(&code);
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
        if mac(secret, body) != code {
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
        let n = read_varint(&mut rest).filter(|&n| n > 0).ok_or_else(cut_off)?;
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

fn mac(secret: &[u8], bytes: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(bytes);
    let code = mac.finalize().into_bytes();
    code[..MAC_BYTES].try_into().expect("SHA-256 has 32 bytes")
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
