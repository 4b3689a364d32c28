//! What a data file of Bitcask holds, for people: read by the tables of `log/record.rs` and with code of its own, so that
//! a format which has changed without its table is noticed.

use std::fmt::Write as _;

const FILE_HEADER: usize = 44;
const HEADER: usize = 28;
/// Longer values are told by their length.
const TEXT_MAX: usize = 40;

/// The lines of a data file.
pub(crate) fn data_file(bytes: &[u8]) -> String {
    let mut told = String::new();
    if bytes.len() < FILE_HEADER || &bytes[..7] != b"rondobc" {
        let zeroes = bytes.iter().all(|&byte| byte == 0);
        let what = if zeroes { "zeroes" } else { "what is no header" };
        writeln!(told, "  0: {} bytes of {what}", bytes.len()).unwrap();
        return told;
    }
    let kind = if bytes[8] == 1 { "log" } else { "compacted" };
    let sound = crc32fast::hash(&bytes[..40]) == number(bytes, 40, 4) as u32;
    let damage = if sound { "" } else { ", damaged" };
    let (base, durable) = (number(bytes, 24, 8), number(bytes, 32, 8));
    writeln!(told, "  0: {kind} after {base}, durable {durable}{damage}").unwrap();
    let mut at = FILE_HEADER;
    while at < bytes.len() {
        let Some((line, len)) = record(&bytes[at..]) else {
            let rest = &bytes[at..];
            let zeroes = rest.iter().take_while(|&&byte| byte == 0).count();
            if zeroes == rest.len() {
                writeln!(told, "  {at}: {zeroes} zeroes to the end").unwrap();
            } else {
                writeln!(told, "  {at}: {} bytes that are no record", rest.len()).unwrap();
            }
            break;
        };
        writeln!(told, "  {at}: {line}").unwrap();
        at += len;
    }
    told
}

/// The lines of a list of tables: by the table of `lsm/manifest.rs`, and again with code of its own.
pub(crate) fn list(bytes: &[u8]) -> String {
    let mut told = String::new();
    for at in [0, bytes.len() / 2] {
        let copy = &bytes[at..];
        let len = if copy.len() > 8 { number(copy, 4, 4) as usize } else { 0 };
        let covered = copy.get(4..len + 8).filter(|covered| covered.len() >= 60);
        let sound = covered.filter(|covered| crc32fast::hash(covered) == number(copy, 0, 4) as u32);
        let Some(list) = sound else {
            writeln!(told, "  {at}: no sound list").unwrap();
            continue;
        };
        let (flushed, log) = (number(list, 24, 8), number(list, 32, 4));
        write!(told, "  {at}: flushed {flushed}, up to log {log}").unwrap();
        let (count, mut table) = (number(list, 60, 4), &list[64..]);
        for _ in 0..count {
            let (level, file) = (table[0], number(table, 1, 4));
            let (keys, deletions) = (number(table, 21, 8), number(table, 29, 8));
            let (first, last) = (number(table, 53, 2) as usize, number(table, 55, 2) as usize);
            let (smallest, largest) = (&table[57..57 + first], &table[57 + first..][..last]);
            let (smallest, largest) = (text(smallest), text(largest));
            write!(told, "; level {level} has {file}: {keys} keys, {deletions} deleted, {smallest} to {largest}").unwrap();
            table = &table[57 + first + last..];
        }
        told.push('\n');
    }
    told
}

/// The record at the start of `bytes`, and its length.
fn record(bytes: &[u8]) -> Option<(String, usize)> {
    let lsn = bytes.get(..HEADER).map(|header| number(header, 8, 8)).filter(|&lsn| lsn > 0)?;
    let (body_len, head_len) = (number(bytes, 16, 4) as usize, number(bytes, 20, 3) as usize);
    let (flags, key_len, place) = (bytes[23], number(bytes, 24, 2) as usize, number(bytes, 26, 2));
    let len = HEADER + key_len + head_len + body_len;
    let rest = bytes.get(HEADER..len)?;
    let (key, rest) = rest.split_at(key_len);
    let (head, body) = rest.split_at(head_len);
    if flags & 4 != 0 {
        let what = if flags & 8 != 0 { "end" } else { "mark" };
        return Some((format!("{what}, durable {}", number(head, 0, 8)), len));
    }
    let damage = match body.is_empty() || crc32fast::hash(body) == number(bytes, 4, 4) as u32 {
        true => "",
        false => ", body damaged",
    };
    let last = if flags & 2 != 0 { "" } else { ", more of the batch follows" };
    let what = match flags & 1 {
        0 => format!("put {} {}", text(key), text(body)),
        _ => format!("delete {}", text(key)),
    };
    Some((format!("{lsn}.{place} {what}{last}{damage}"), len))
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let bytes = bytes[at..at + len].iter().rev();
    bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=TEXT_MAX => String::from_utf8_lossy(bytes).into_owned(),
        len => format!("({len} bytes)"),
    }
}
