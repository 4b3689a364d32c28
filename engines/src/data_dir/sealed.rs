//! Small files that are there whole or not at all: a magic word, a format, contents and a CRC-32 of all that.
//!
//! Such a file is written under another name, synced, renamed, and its name synced. Where there is no room for it nothing
//! of it is left, since what is left would take the room of something else.

use std::io;

use rondo_core::env::{Disk, Open};

use super::error::DataDirError;
use crate::refusal::lacks_room;

/// One kind of small file.
pub(super) struct Kind {
    /// Its name.
    pub(super) name: &'static str,
    /// How it starts.
    pub(super) magic: &'static [u8; 7],
    /// The format that is written, and the highest that is read.
    pub(super) format: u8,
    /// The most bytes that are read.
    pub(super) bytes_max: u64,
}

/// Magic, format, contents and checksum.
pub(super) fn seal(kind: &Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [&kind.magic[..], &[kind.format]].concat();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The format and the contents of a file.
pub(super) fn read<D: Disk>(disk: &D, kind: &Kind) -> Result<(u8, Vec<u8>), DataDirError> {
    let file = kind.name;
    let unreadable = |why| DataDirError::Unreadable { file, why };
    let handle = disk.open(file, Open::Existing)?;
    let length = disk.len(&handle)?;
    if length > kind.bytes_max {
        return Err(unreadable("it is too long"));
    }
    let mut bytes = vec![0; length as usize];
    let got = disk.read_at(&handle, &mut bytes, 0)?;
    bytes.truncate(got);
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(unreadable("it is too short"));
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(unreadable("its checksum is wrong"));
    }
    match body.strip_prefix(kind.magic) {
        Some(&[format, ..]) if format > kind.format => {
            Err(DataDirError::NewerFormat { file, format })
        }
        Some([format, contents @ ..]) => Ok((*format, contents.to_vec())),
        _ => Err(unreadable("it is no file of this kind")),
    }
}

/// Writes a file so that it is there whole or not at all, name and all.
pub(super) fn write<D: Disk>(disk: &D, kind: &Kind, parts: &[&[u8]]) -> io::Result<()> {
    let file = kind.name;
    let new = format!("{file}.new");
    match disk.remove(&new) {
        // It takes room until its name is durably gone.
        Ok(()) => disk.sync_dir("")?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let written = disk.open(&new, Open::New).and_then(|handle| {
        disk.write_at(&handle, &[&seal(kind, parts)], 0)?;
        disk.sync_now(&handle)
    });
    match written {
        Err(error) if lacks_room(&error) => {
            // The error that is told is the first one.
            let _ = disk.remove(&new);
            return Err(error);
        }
        written => written?,
    }
    disk.rename(&new, file)?;
    disk.sync_dir("")
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

pub(super) fn take_name(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (name, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(name.to_vec()).ok()
}

pub(super) fn put_name(bytes: &mut Vec<u8>, name: &str) -> io::Result<()> {
    let length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    Ok(())
}
