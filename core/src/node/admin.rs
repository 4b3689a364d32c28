//! What a node answers to an operator: names are looked up among the nodes that it knows.

use super::Node;
use crate::admin::{
    AdminReply, AdminRequest, Done, KeyspaceStatus, LayoutNode, Layouts, LiveLayout, Refused, Why,
};
use crate::error::Result;
use crate::layout::Layout;
use crate::layout::live;
use crate::step::Env;

impl Node {
    /// What an operator asks. `Err`: the disk failed, and the node must stop.
    pub fn admin(&mut self, request: AdminRequest, _env: &mut impl Env) -> Result<AdminReply> {
        match request {
            AdminRequest::Layout => Ok(Ok(Done::Layouts(self.layouts()))),
            AdminRequest::Stage(_)
            | AdminRequest::Unstage
            | AdminRequest::Plan
            | AdminRequest::Commit { .. }
            | AdminRequest::Apply(_)
            | AdminRequest::SkipDead { .. } => Ok(Err(Refused::new(
                Why::NotNow,
                "the layout of this cluster cannot be changed",
                "start the nodes that formed it",
            ))),
        }
    }

    /// Which layouts are live, and what is staged.
    fn layouts(&self) -> Layouts {
        let live = self.cluster.formation.live();
        Layouts {
            live: live.iter().map(shown).collect(),
            proposed: None,
            staged: Vec::new(),
            keyspaces: live.last().map_or(Vec::new(), |newest| keyspaces(&newest.layout)),
        }
    }
}

fn shown(live: &live::LiveLayout) -> LiveLayout {
    let node = |role: &crate::layout::Role| LayoutNode {
        name: role.name.clone(),
        node: role.node.to_string(),
        weight: role.weight,
        zone: role.zone.clone(),
    };
    let mut nodes: Vec<LayoutNode> = live.layout.roles().iter().map(node).collect();
    nodes.sort();
    let reference = live.reference;
    LiveLayout { version: reference.version.0, digest: format!("{:032x}", reference.digest), nodes }
}

fn keyspaces(layout: &Layout) -> Vec<KeyspaceStatus> {
    let mut all: Vec<KeyspaceStatus> = Vec::new();
    for keyspace in layout.keyspaces() {
        let group = layout.group(keyspace.group).expect("the group of every keyspace is there");
        all.push(KeyspaceStatus {
            name: keyspace.name.clone(),
            id: keyspace.id.0,
            quorums: group.quorums,
            wanted: group.wanted,
            level: keyspace.level,
            policy: keyspace.policy,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
