//! Who owns what, as JSON: the one picture that grows with the partitions, so it is made row by row while the client reads.

use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use hyper::StatusCode;
use rondo_core::status::LayoutStatus;
use serde_json::json;

use crate::http::answer::{self, Answer, Problem};
use crate::http::pieces::{Broken, Pieces, Source};

/// A piece ends with the row that makes it so long, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// The picture of a layout.
pub fn show(layout: Option<LayoutStatus>) -> Result<Answer, Problem> {
    let layout = layout.ok_or_else(|| {
        let hint = "wait until /ready answers 200";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "there is no layout yet", hint)
    })?;
    let source = Box::new(Ring::new(layout));
    Ok(answer::in_pieces(answer::JSON, Pieces { source, length: None }))
}

/// What is still to be told.
struct Ring {
    /// Everything before the owners of the partitions.
    before: Bytes,
    owners: IntoIter<Vec<u16>>,
    is_begun: bool,
    is_ended: bool,
}

impl Ring {
    fn new(layout: LayoutStatus) -> Ring {
        let mut owned = vec![0u64; layout.roles.len()];
        let mut first = vec![0u64; layout.roles.len()];
        for owners in &layout.owners {
            for &owner in owners {
                owned[usize::from(owner)] += 1;
            }
            if let Some(&owner) = owners.first() {
                first[usize::from(owner)] += 1;
            }
        }
        let all: u64 = owned.iter().sum();
        let nodes = layout.roles.iter().zip(owned).zip(first).map(|((role, owned), first)| {
            json!({
                "node": role.node.to_string(),
                "name": role.name,
                "zone": role.zone,
                "weight": role.weight,
                "partitions": owned,
                "first": first,
                "ownership": owned as f64 / all.max(1) as f64,
            })
        });
        let whole = json!({
            "version": layout.version,
            "digest": layout.digest,
            "partitions": layout.partitions,
            "quorums": layout.quorums,
            "nodes": nodes.collect::<Vec<_>>(),
        });
        let mut before = whole.to_string();
        // The owners come behind the rest.
        before.truncate(before.len() - 1);
        before.push_str(",\"owners\":[");
        let owners = layout.owners.into_iter();
        Ring { before: before.into(), owners, is_begun: false, is_ended: false }
    }
}

impl Iterator for Ring {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.before.is_empty() {
            return Some(self.before.split_to(self.before.len().min(PIECE_BYTES)));
        }
        if self.is_ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES && !self.is_ended {
            match self.owners.next() {
                Some(row) => {
                    if std::mem::replace(&mut self.is_begun, true) {
                        piece.push(b',');
                    }
                    serde_json::to_writer(&mut piece, &row).expect("numbers into memory");
                }
                None => {
                    piece.extend_from_slice(b"]}");
                    self.is_ended = true;
                }
            }
        }
        Some(piece.into())
    }
}

impl Source for Ring {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        Poll::Ready(self.next().map(Ok))
    }

    fn holds(&self) -> usize {
        let row = |row: &Vec<u16>| size_of::<Vec<u16>>() + row.capacity() * size_of::<u16>();
        let owners: usize = self.owners.as_slice().iter().map(row).sum();
        self.before.len() + owners + 2 * PIECE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::config::REPLICAS_MAX;
    use rondo_core::id::NodeId;
    use rondo_core::layout::{Quorums, Role};
    use serde_json::Value;

    use super::*;
    use crate::http::limits::PIECE_BYTES_MAX;

    fn layout(nodes: u16, partitions: u16) -> LayoutStatus {
        let role = |number| Role {
            node: NodeId(u128::from(number)),
            name: format!("node-{number}"),
            weight: 1,
            zone: String::new(),
        };
        let each = nodes.min(REPLICAS_MAX as u16);
        let owners = |first| (0..each).map(|more| (first + more) % nodes).collect();
        let quorums = Quorums { n: 3, r: 2, w: 2 };
        LayoutStatus {
            version: 1,
            digest: "00ff".to_owned(),
            partitions,
            quorums,
            wanted: quorums,
            roles: (0..nodes).map(role).collect(),
            owners: (0..partitions).map(owners).collect(),
            keyspaces: Vec::new(),
        }
    }

    #[test]
    fn a_picture_of_any_size_is_one_document_in_bounded_pieces() {
        for (nodes, partitions) in [(1, 1), (2, 4), (3, 256), (256, 4), (256, 60_000)] {
            let layout = layout(nodes, partitions);
            let owners = json!(layout.owners);
            let ring = Ring::new(layout);
            let holds = ring.holds();
            let pieces: Vec<Bytes> = ring.collect();
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES_MAX));
            let all = pieces.concat();
            assert!(
                pieces.len() <= 2 + all.len() / PIECE_BYTES,
                "{} for {}",
                pieces.len(),
                all.len()
            );
            let read: Value = serde_json::from_slice(&all).expect("one document");
            assert_eq!(read["owners"], owners);
            assert_eq!(read["nodes"].as_array().expect("a list").len(), usize::from(nodes));
            assert_eq!(read["partitions"], partitions);
            assert!(holds >= owners.as_array().expect("a list").len() * 24, "{holds}");
        }
    }
}
