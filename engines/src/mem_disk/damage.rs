//! What goes wrong with bytes at rest: a bit flips, a block that was written lies in a wrong place, a read answers with
//! another block.
//!
//! Damage shows at once, in what is durable and in what is read, as if the page cache were empty; only bytes that no
//! unsynced change touches are damaged, because those changes would mend it. What was there before is remembered for
//! each damaged byte until somebody writes it anew, so damage can be undone at any time. Left out: who decides, and
//! devices that lose whole writes of which nothing is written elsewhere.

use super::{ChangedFile, Entry, FileChange, Inode, MemDisk, PAGE, SECTOR, State};

/// Where bytes at rest are not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// The first damaged byte.
    pub offset: u64,
}

/// What was where bytes are damaged; `None` where they were written anew.
#[derive(Clone)]
pub(super) struct Spoilt {
    offset: u64,
    current: Vec<Option<u8>>,
    durable: Vec<Option<u8>>,
}

/// How often another place is tried before nothing is damaged.
const TRIES: usize = 16;

impl MemDisk {
    /// One bit of a file at rest flips; `below(n)` answers a number under n. Bytes that are zero are seldom chosen.
    pub fn rot(&self, below: &mut dyn FnMut(u64) -> u64) -> Option<Damage> {
        self.rot_among(&|_| true, below)
    }

    /// The same in one of the files that are `wanted`, by their paths.
    pub fn rot_among(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> Option<Damage> {
        let mut state = self.state();
        let mut files = state.files_at_rest();
        files.retain(|inode| wanted(&state.inodes[inode].path));
        if files.is_empty() {
            return None;
        }
        let bytes = |inode: &u64| state.inodes[inode].durable.len() as u64;
        let all: u64 = files.iter().map(bytes).sum();
        for left in (0..TRIES).rev() {
            // Half of the time the larger ones: small files say whose the disk is, large ones hold the data.
            let mut at = below(all);
            let larger = files.iter().find(|inode| {
                let here = at < bytes(inode);
                at = at.saturating_sub(bytes(inode));
                here
            });
            let any = files[below(files.len() as u64) as usize];
            let inode = *larger.filter(|_| below(2) == 0).unwrap_or(&any);
            let file = &state.inodes[&inode];
            let offset = below(file.durable.len() as u64);
            let byte = file.durable[offset as usize];
            let rotten = byte ^ 1 << below(8);
            if file.rests((offset, 1)) && (byte != 0 || left == 0) {
                return Some(state.spoil(inode, offset, &[rotten]));
            }
        }
        None
    }

    /// One of the blocks that the last sync wrote lies in a wrong place, over another block: so its own place is as it was,
    /// and the other is lost. Answers both damages; none when there is no such block.
    pub fn misdirect(&self, below: &mut dyn FnMut(u64) -> u64) -> Vec<Damage> {
        let mut state = self.state();
        let (written, files) = (state.settled.clone(), state.files_at_rest());
        if written.is_empty() || files.is_empty() {
            return Vec::new();
        }
        for _ in 0..TRIES {
            let unit = [SECTOR, PAGE][below(2) as usize];
            let (inode, offset, len) = written[below(written.len() as u64) as usize];
            let first = offset / unit;
            let block = (first + below((offset + len).div_ceil(unit) - first)) * unit;
            let Some(file) = state.inodes.get(&inode) else {
                continue;
            };
            let bytes = slice_at(&file.durable, block, unit as usize).to_vec();
            let other = files[below(files.len() as u64) as usize];
            let victim = &state.inodes[&other];
            // What a file starts with says what the rest is.
            let place = match below(4) {
                0 => 0,
                _ => below(victim.durable.len() as u64) / unit * unit,
            };
            let is_same = (inode, block) == (other, place);
            if is_same || !file.rests((block, unit)) || !victim.rests((place, unit)) {
                continue;
            }
            // Of its own block the part that was written is as if it never had been; logs find zeroes there.
            let start = offset.max(block);
            let end = (offset + len).min(block + unit).min(file.durable.len() as u64);
            let room = (victim.durable.len() as u64 - place) as usize;
            let lost = vec![0; end.saturating_sub(start) as usize];
            let stray = bytes[..bytes.len().min(room)].to_vec();
            return vec![state.spoil(inode, start, &lost), state.spoil(other, place, &stray)];
        }
        Vec::new()
    }

    /// Whether some bytes are damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damaged_files().is_empty()
    }

    /// The files of which some bytes are damaged.
    #[must_use]
    pub fn damaged_files(&self) -> Vec<String> {
        let state = self.state();
        let left = |all: &[Option<u8>]| all.iter().any(Option::is_some);
        let is_damaged = |file: &&Inode| {
            file.spoilt.iter().any(|spoilt| left(&spoilt.current) || left(&spoilt.durable))
        };
        state.inodes.values().filter(is_damaged).map(|file| file.path.clone()).collect()
    }

    /// Undoes all damage.
    pub fn mend(&self) {
        for file in self.state().inodes.values_mut() {
            // The last damage may lie over an earlier one.
            for Spoilt { offset, current, durable } in file.spoilt.drain(..).rev() {
                for (image, before) in [(&mut file.current, current), (&mut file.durable, durable)]
                {
                    let bytes = image.iter_mut().skip(offset as usize).zip(before);
                    for (byte, before) in bytes {
                        *byte = before.unwrap_or(*byte);
                    }
                }
            }
        }
    }
}

impl State {
    /// Files whose names are durable and that hold something durable.
    fn files_at_rest(&self) -> Vec<u64> {
        let named = self
            .names
            .current
            .iter()
            .filter(|(path, entry)| self.names.durable.get(*path) == Some(*entry));
        let inodes = named.filter_map(|(_, entry)| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Dir => None,
        });
        let holds = |inode: &u64| !self.inodes[inode].durable.is_empty();
        inodes.filter(holds).collect()
    }

    fn spoil(&mut self, inode: u64, offset: u64, after: &[u8]) -> Damage {
        let file = self.inodes.get_mut(&inode).expect("chosen among those that are there");
        let start = offset as usize;
        let spoil = |image: &mut Vec<u8>| {
            let end = image.len().min(start + after.len());
            let bytes = image.get_mut(start..end).unwrap_or_default();
            let before = bytes.iter().copied().map(Some).collect();
            bytes.copy_from_slice(&after[..bytes.len()]);
            before
        };
        let (current, durable) = (spoil(&mut file.current), spoil(&mut file.durable));
        file.spoilt.push(Spoilt { offset, current, durable });
        Damage { path: file.path.clone(), offset }
    }

    /// Puts the bytes of another place over one page of what was read at `offset`; `bits` choose both. The place is near in
    /// the same file or anywhere, as the second highest bit says.
    pub(super) fn mislead(&self, inode: u64, buf: &mut [u8], offset: u64, bits: u64) {
        let files: Vec<&Inode> =
            self.inodes.values().filter(|file| !file.current.is_empty()).collect();
        if files.is_empty() {
            return;
        }
        let own = &self.inodes[&inode].current;
        let is_near = bits >> 62 & 1 == 1 && own.len() as u64 > SECTOR;
        let any = files[(bits % files.len() as u64) as usize];
        let content = if is_near { own } else { &any.current };
        let sectors = (content.len() as u64).div_ceil(SECTOR);
        let shift = match is_near {
            true => sectors - 1 - (bits >> 16) % (sectors - 1).min(4),
            false => (bits >> 16) % sectors,
        };
        let shift = shift * SECTOR;
        let first = offset / PAGE;
        let pages = (offset + buf.len() as u64).div_ceil(PAGE) - first;
        let page = first + (bits >> 40) % pages.max(1);
        let inside = |(at, _): &(u64, &mut u8)| (offset + at) / PAGE == page;
        for (at, byte) in (0..).zip(buf.iter_mut()).filter(inside) {
            let from = (offset + at + shift) % (sectors * SECTOR);
            *byte = content.get(from as usize).copied().unwrap_or(0);
        }
    }
}

impl Inode {
    /// Whether no unsynced change touches these bytes.
    fn rests(&self, range: (u64, u64)) -> bool {
        let touches = |other: Option<(u64, u64)>| other.is_none_or(|other| meet(range, other));
        !self.changes.iter().any(|change| !change.is_allocation() && touches(change.range()))
    }
}

impl Spoilt {
    /// What is read is what is durable, after a crash.
    pub(super) fn lose_current(&mut self) {
        self.current = self.durable.clone();
    }

    /// A change has come over what is read, or over what is durable.
    pub(super) fn written_anew(&mut self, change: &FileChange, is_durable: bool) {
        let bytes = if is_durable { &mut self.durable } else { &mut self.current };
        for (at, byte) in (self.offset..).zip(bytes) {
            let anew = match (&change.what, change.range()) {
                (_, Some(range)) => meet(range, (at, 1)),
                (ChangedFile::SetLen(len), _) => at >= *len,
                _ => false,
            };
            if anew {
                *byte = None;
            }
        }
    }
}

/// Whether two ranges (offset, length) have bytes in common.
pub(super) const fn meet(one: (u64, u64), two: (u64, u64)) -> bool {
    one.0 < two.0 + two.1 && two.0 < one.0 + one.1
}

/// So many bytes of an image from an offset on, or fewer at its end.
pub(super) fn slice_at(image: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = image.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
    &image[start..image.len().min(start.saturating_add(len))]
}
