//! What is to be hashed, in one piece: to set up a hash that takes pieces costs more than to gather a small state.
//!
//! Left out: the hash itself, which is chosen where it is used.

/// So many bytes are gathered without allocating: those of a state of three actors with a version each, and of most keys.
const INLINE: usize = 256;

/// The bytes so far.
pub(crate) struct Gathered {
    inline: [u8; INLINE],
    length: usize,
    /// All bytes, once there are more than `INLINE`.
    spilled: Vec<u8>,
}

impl Gathered {
    /// None.
    pub(crate) const fn new() -> Gathered {
        Gathered { inline: [0; INLINE], length: 0, spilled: Vec::new() }
    }

    /// Adds a number's bytes. Inlined, so that it is one store.
    #[inline]
    pub(crate) fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend(&bytes);
    }

    /// Adds bytes.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        match self.inline.get_mut(self.length..self.length + bytes.len()) {
            Some(room) if self.spilled.is_empty() => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            _ => self.spill(bytes),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.length]);
        }
        self.spilled.extend_from_slice(bytes);
    }

    /// All of them.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.length] } else { &self.spilled }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prelude::any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn all_bytes_are_there_in_order(pieces in vec(vec(any::<u8>(), 0..90), 0..12)) {
            let mut gathered = Gathered::new();
            for piece in &pieces {
                gathered.extend(piece);
                gathered.push([7, 8, 9]);
            }
            let expected: Vec<u8> = pieces.iter().flat_map(|piece| [&piece[..], &[7, 8, 9]].concat()).collect();
            prop_assert_eq!(gathered.bytes(), &expected[..]);
        }
    }

    #[test]
    fn what_fills_the_room_is_followed_by_what_comes_next() {
        let mut gathered = Gathered::new();
        gathered.extend(&[1; INLINE]);
        gathered.extend(&[]);
        assert_eq!(gathered.bytes(), [1; INLINE]);
        gathered.push([2]);
        gathered.push([]);
        assert_eq!(gathered.bytes().len(), INLINE + 1);
        assert_eq!(gathered.bytes()[INLINE], 2);
    }
}
