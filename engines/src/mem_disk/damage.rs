//! What goes wrong with bytes at rest: a bit flips, a block that was written lies in a wrong place, a read answers with
//! another block.
//!
//! Damage shows at once, in what is durable and in what is read, as if the page cache were empty; only bytes that no
//! unsynced change touches are damaged, because those changes would mend it. Each damage can be undone where nobody has
//! written since. Left out: who decides, and devices that lose whole writes of which nothing is written elsewhere.

use super::files::{meet, slice_at};
use super::{Entry, Inode, MemDisk, PAGE, SECTOR, State};

/// Bytes at rest that are not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file's name when it was damaged.
    pub path: String,
    /// The first damaged byte.
    pub offset: u64,
    inode: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// How often another place is tried before nothing is damaged.
const TRIES: usize = 16;

impl MemDisk {
    /// One bit of a file at rest flips; `below(n)` answers a number under n. Bytes that are zero are seldom chosen.
    pub fn rot(&self, below: &mut dyn FnMut(u64) -> u64) -> Option<Damage> {
        let mut state = self.state();
        let files = state.files_at_rest();
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
                return Some(state.spoil(inode, offset, vec![rotten]));
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
            let place = below(victim.durable.len() as u64) / unit * unit;
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
            return vec![state.spoil(inode, start, lost), state.spoil(other, place, stray)];
        }
        Vec::new()
    }

    /// Undoes a damage where the damaged bytes are still there.
    pub fn mend(&self, damage: &Damage) {
        let mut state = self.state();
        let Some(file) = state.inodes.get_mut(&damage.inode) else {
            return;
        };
        let start = damage.offset as usize;
        for image in [&mut file.durable, &mut file.current] {
            for (at, (before, after)) in damage.before.iter().zip(&damage.after).enumerate() {
                if let Some(byte) = image.get_mut(start + at).filter(|byte| *byte == after) {
                    *byte = *before;
                }
            }
        }
    }
}

impl State {
    /// Files whose names are durable and that hold something durable.
    fn files_at_rest(&self) -> Vec<u64> {
        let named =
            self.names.iter().filter(|(path, entry)| self.durable_names.get(*path) == Some(*entry));
        let inodes = named.filter_map(|(_, entry)| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Dir => None,
        });
        let holds = |inode: &u64| !self.inodes[inode].durable.is_empty();
        inodes.filter(holds).collect()
    }

    fn spoil(&mut self, inode: u64, offset: u64, after: Vec<u8>) -> Damage {
        let file = self.inodes.get_mut(&inode).expect("chosen among those that are there");
        let start = offset as usize;
        let before = slice_at(&file.durable, offset, after.len()).to_vec();
        for image in [&mut file.durable, &mut file.current] {
            let end = image.len().min(start + after.len());
            if start < end {
                image[start..end].copy_from_slice(&after[..end - start]);
            }
        }
        Damage { path: file.path.clone(), offset, inode, before, after }
    }

    /// Puts the bytes of another place over one page of what was read at `offset`; `bits` choose both.
    pub(super) fn mislead(&self, buf: &mut [u8], offset: u64, bits: u64) {
        let files: Vec<&Inode> =
            self.inodes.values().filter(|file| !file.current.is_empty()).collect();
        if files.is_empty() {
            return;
        }
        let content = &files[(bits % files.len() as u64) as usize].current;
        let sectors = (content.len() as u64).div_ceil(SECTOR);
        let shift = (bits >> 16) % sectors * SECTOR;
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
