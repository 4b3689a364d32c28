//! What an operator asks of the comparison of copies: the trees of a partition, and that it begins now.

use super::Node;
use crate::admin::{AdminReply, Done, Refused, Why};
use crate::env::Mono;
use crate::id::PartitionId;
use crate::layout::Layout;
use crate::repair::merkle::FORMAT;
use crate::status::MerkleStatus;

impl Node {
    /// A round with each other owner begins soon; and how comparing stands.
    pub(super) fn compare_soon(&mut self, now: Mono) -> AdminReply {
        self.shard.compare_soon(now);
        Ok(Done::Repairs(self.shard.repair_status(self.cluster.view(), now)))
    }

    /// The hash trees of a partition.
    pub(super) fn merkle(&self, partition: u16, now: Mono) -> AdminReply {
        let view = self.cluster.view();
        let most = view.newest().map_or(0, Layout::partitions);
        if partition >= most {
            let hint = "GET /v1/ring tells the partitions";
            return Err(Refused::new(Why::Unknown, "there is no such partition", hint));
        }
        let trees = self.shard.trees_of(PartitionId(partition), view, now);
        let name = view.members.me().name.clone();
        Ok(Done::Merkle(MerkleStatus { name, partition, format: FORMAT, trees }))
    }
}
