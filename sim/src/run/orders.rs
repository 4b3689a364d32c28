//! What operators ask of nodes, as the product's own requests, and what becomes of it.

use rondo_core::admin::{AdminReply, AdminRequest, Change, Done};
use rondo_core::inbox::Ask;

use crate::fault::membership::Wanted;
use crate::world::witness;
use crate::world::{Node, Part, Shared, World};

/// The number of what no fault asks for.
const CLEARS_UP: usize = usize::MAX;

/// An operator asks a node for a change; nothing happens when it is down. The answer comes before any time has passed, or never.
pub fn give(shared: &Shared, world: &mut World, order: (usize, Wanted), node: u32) {
    let request = request(world, order.1);
    world.note("order", node, &[], || format!("{request:?}"));
    witness::reshapes(world);
    let (back, epoch) = (shared.clone(), world.nodes[node as usize].process.epoch);
    let sink = Box::new(move |reply: AdminReply| {
        let mut world = back.lock();
        if world.nodes[node as usize].process.epoch == epoch {
            answered(&mut world, order, node, &reply);
        }
    });
    if let Some(inbox) = &world.nodes[node as usize].process.inbox {
        inbox.ask(Ask::Admin(request, sink));
    }
}

fn answered(world: &mut World, order: (usize, Wanted), node: u32, reply: &AdminReply) {
    world.note("order", node, &[u8::from(reply.is_ok())], || match reply {
        Ok(_) => "taken on".to_owned(),
        Err(refused) => format!("refused: {}", refused.message),
    });
    if reply.is_ok() {
        world.faults.orders.insert(order);
        if let (Wanted::SkipDead { node, accepts_loss: true }, Some(reshaping)) =
            (order.1, &mut world.history.lives.reshaping)
        {
            reshaping.given_up.insert(node);
        }
    }
}

fn request(world: &World, wanted: Wanted) -> AdminRequest {
    // Two may have one name.
    let node = match world.nodes[wanted.node() as usize].data.id {
        Some(id) => id.to_string(),
        None => format!("n{}", world.named(wanted.node())),
    };
    match wanted {
        Wanted::Leave { .. } => AdminRequest::Apply(Change::Leave { node }),
        Wanted::Join { weight, .. } => {
            AdminRequest::Apply(Change::Join { node, weight: Some(weight), zone: None })
        }
        Wanted::SkipDead { accepts_loss, .. } => AdminRequest::SkipDead { node, accepts_loss },
    }
}

/// Operators clear up: nobody waits for a node that is gone for good, and what it has of the data goes to the others, as long as any node
/// says that it is in a layout.
pub fn clear_up(shared: &Shared, world: &mut World) {
    let Some(asked) = world.there().next() else {
        return;
    };
    let gone = gone_members(world);
    let accepts_loss = may_be_alone(world);
    for node in gone {
        give(shared, world, (CLEARS_UP, Wanted::SkipDead { node, accepts_loss }), asked);
        give(shared, world, (CLEARS_UP, Wanted::Leave { node }), asked);
    }
}

/// Whether one node may have had an acknowledged write alone: under some layout W was 1.
fn may_be_alone(world: &World) -> bool {
    let reshaping = world.history.lives.reshaping.as_ref();
    reshaping.is_some_and(|it| it.seen.iter().any(|(_, seen)| seen.quorums.w == 1))
}

/// Whether a node that is gone for good is in a live layout.
#[must_use]
pub fn has_gone(world: &World) -> bool {
    !gone_members(world).is_empty()
}

/// The nodes that are gone for good and in a layout that some node has live.
fn gone_members(world: &World) -> Vec<u32> {
    let is_member = |id: &str| {
        let mut live = world.faults.layouts.values().flat_map(|layouts| &layouts.live);
        live.any(|layout| layout.nodes.iter().any(|node| node.node == id))
    };
    let in_layout = |machine: &Node| machine.data.id.is_some_and(|id| is_member(&id.to_string()));
    let gone = (0..).zip(&world.nodes).filter(|(_, machine)| machine.part == Part::Gone);
    gone.filter(|(_, machine)| in_layout(machine)).map(|(node, _)| node).collect()
}

/// Every node that lives is asked which layouts it has.
pub fn ask_layouts(shared: &Shared, world: &World) {
    for (node, machine) in (0..).zip(&world.nodes) {
        let (back, epoch) = (shared.clone(), machine.process.epoch);
        let sink = Box::new(move |reply: AdminReply| {
            let mut world = back.lock();
            let lives = world.nodes[node as usize].process.epoch == epoch;
            let is_there = world.nodes[node as usize].part == Part::There;
            if let (true, Ok(Done::Layouts(layouts))) = (lives && is_there, reply) {
                world.faults.layouts.insert(node, layouts);
            }
        });
        if let Some(inbox) = &machine.process.inbox {
            inbox.ask(Ask::Admin(AdminRequest::Layout, sink));
        }
    }
}
