//! `--replace NAME`: a node that asks to take the place of a dead member, until it has a place of its own.
//!
//! The member must be silent: a node that still runs is never pushed out by the start of another one. `rondo cluster replace`
//! does that, for whoever means it. The flag may be left over from an earlier start of this node, which has lost its disk
//! since: where nobody can be replaced by it, a dead member of this node's own name is, as without the flag. Whoever waits
//! says so to people, because a node that stays outside for a mistyped name looks well.

use std::sync::Arc;
use std::time::Duration;

use rondo_core::admin::{AdminRequest, Change, Done, KeyspaceStatus};
use rondo_core::layout::Role;
use rondo_core::quorum;

use crate::http::front::Front;

/// How often to look.
const EVERY: Duration = Duration::from_millis(500);
/// So long after its start a node has heard everybody who lives, in milliseconds.
const MET_MS: u64 = 3_000;

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Next {
    /// Nothing yet.
    Wait,
    /// Nothing yet, for a reason that people should know.
    WaitFor(String),
    /// Ask for the place of this node.
    Ask(String),
    /// Ask for the place of this one, which has this node's name, where that is done without a word from people.
    AskForOwn(String),
    /// It is done, or never will be.
    End(String),
}

/// A node that may take a place.
#[derive(Clone, Copy)]
struct Me<'a> {
    id: &'a str,
    name: &'a str,
    uptime_ms: u64,
}

/// Asks for the place of the member of this name.
pub async fn take_place(old: String, joins: bool, front: Arc<Front>) {
    let mut said = String::new();
    while let Ok(status) = front.status().await {
        let roles = status.layout.as_ref().map(|layout| &layout.roles[..]);
        let is_alive = |node: &str| {
            // Who is only suspected, or restarts, may come back.
            let is_gone = |state: &str| matches!(state, "dead" | "left");
            status.members.iter().any(|member| member.node == node && !is_gone(member.state))
        };
        let me = Me { id: &status.node, name: &status.name, uptime_ms: status.uptime_ms };
        let next = next(me, roles, &old, is_alive);
        let (line, waits) = match next {
            Next::Wait => (None, None),
            Next::WaitFor(why) => (None, Some(why)),
            Next::End(how) => {
                front.set_note(None);
                return tracing::info!("{how}");
            }
            Next::AskForOwn(_) if !(joins && may_go(&front).await) => {
                let why = format!(
                    "--replace {old}: nobody of that name is dead, and {name} is, whose name this node has; where W is 1, or with \
                     --join manual, it waits for your word: `rondo cluster replace {name} {name} --commit`",
                    name = status.name
                );
                (None, Some(why))
            }
            Next::Ask(node) | Next::AskForOwn(node) => {
                let name = roles.into_iter().flatten().find(|role| role.node.to_string() == node);
                let name = name.map_or(node.clone(), |role| role.name.clone());
                let change = Change::Replace { old: node, new: status.node };
                match front.admin(AdminRequest::Apply(change)).await {
                    Ok(Ok(_)) => (Some(format!("this node takes the place of {name}")), None),
                    Ok(Err(refused)) => {
                        (Some(format!("--replace {old}: {}", refused.message)), None)
                    }
                    Err(_) => return,
                }
            }
        };
        front.set_note(waits);
        if let Some(line) = line.filter(|line| *line != said) {
            tracing::info!("{line}");
            said = line;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whether a dead member's place is taken without a word from people: nowhere its disk may have the only copy of a write.
async fn may_go(front: &Front) -> bool {
    match front.admin(AdminRequest::Layout).await {
        Ok(Ok(Done::Layouts(layouts))) => {
            let keeps = |one: &KeyspaceStatus| quorum::others_make_good(one.quorums);
            !layouts.live.is_empty() && layouts.keyspaces.iter().all(keeps)
        }
        _ => false,
    }
}

/// By the roles of the live layout, if there is one, and by who is alive.
fn next(me: Me<'_>, roles: Option<&[Role]>, old: &str, is_alive: impl Fn(&str) -> bool) -> Next {
    let Some(roles) = roles else {
        return Next::Wait;
    };
    if roles.iter().any(|role| role.node.to_string() == me.id) {
        return Next::End(format!("--replace {old}: this node is in the layout"));
    }
    if me.uptime_ms < MET_MS {
        return Next::Wait;
    }
    let named = |name: &str| roles.iter().find(|role| role.name == name);
    let dead = |name: &str| {
        let node = named(name)?.node.to_string();
        (!is_alive(&node)).then_some(node)
    };
    match (dead(old), dead(me.name), named(old)) {
        (Some(node), _, _) => Next::Ask(node),
        (None, Some(node), _) => Next::AskForOwn(node),
        (None, None, Some(_)) => Next::WaitFor(format!(
            "--replace {old}: {old} is not called dead, so this node has no part in the data: stop {old} first, or start this \
             node without --replace, to join beside it"
        )),
        (None, None, None) => Next::WaitFor(format!(
            "--replace {old}: the layout has no node of that name, so this node has no part in the data: name a dead member \
             (`rondo status` shows them), or start this node without --replace, to join"
        )),
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::id::NodeId;

    use super::*;

    fn role(number: u128, name: &str) -> Role {
        Role { node: NodeId(number), name: name.to_owned(), weight: 1, zone: String::new() }
    }

    #[test]
    fn the_place_of_a_member_is_asked_for_when_it_has_been_silent_for_a_while() {
        let id = |number: u128| NodeId(number).to_string();
        let before = [role(1, "alpha"), role(2, "beta")];
        let now = |uptime_ms, roles, old, alive: bool| {
            let me = Me { id: &id(9), name: "new", uptime_ms };
            next(me, roles, old, |node| alive || node == id(1))
        };
        assert_eq!(now(MET_MS, None, "beta", false), Next::Wait);
        assert_eq!(now(MET_MS - 1, Some(&before), "beta", false), Next::Wait);
        assert_eq!(now(MET_MS, Some(&before), "beta", false), Next::Ask(id(2)));
        assert!(matches!(now(MET_MS, Some(&before), "beta", true), Next::WaitFor(_)));
        assert!(matches!(now(MET_MS, Some(&before), "gamma", false), Next::WaitFor(_)));
        let after = [role(1, "alpha"), role(9, "new")];
        assert!(matches!(now(MET_MS, Some(&after), "beta", false), Next::End(_)));
    }

    #[test]
    fn who_can_replace_nobody_takes_the_place_of_a_dead_member_of_its_own_name() {
        let id = |number: u128| NodeId(number).to_string();
        let roles = [role(1, "alpha"), role(2, "beta"), role(3, "gamma")];
        let now = |old, dead: u128| {
            let me = Me { id: &id(9), name: "gamma", uptime_ms: MET_MS };
            next(me, Some(&roles), old, |node| node != id(dead))
        };
        for left_over in ["delta", "alpha", "gamma"] {
            let expected = match left_over {
                "gamma" => Next::Ask(id(3)),
                _ => Next::AskForOwn(id(3)),
            };
            assert_eq!(now(left_over, 3), expected, "{left_over}");
        }
        assert_eq!(now("beta", 2), Next::Ask(id(2)));
        for (old, why) in [("delta", "has no node of that name"), ("alpha", "is not called dead")] {
            let Next::WaitFor(said) = now(old, 2) else { panic!("{old}") };
            assert!(said.contains(why), "{said}");
        }
    }
}
