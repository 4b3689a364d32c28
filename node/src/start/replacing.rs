//! `--replace NAME`: a node that asks to take the place of a dead member, until it has a place of its own.
//!
//! The member must be silent: a node that still runs is never pushed out by the start of another one. `rondo cluster replace`
//! does that, for whoever means it.

use std::sync::Arc;
use std::time::Duration;

use rondo_core::admin::{AdminRequest, Change};
use rondo_core::layout::Role;

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
    /// It is done, or never will be.
    End(String),
}

/// Asks for the place of the member of this name.
pub async fn take_place(old: String, front: Arc<Front>) {
    let mut said = String::new();
    while let Ok(status) = front.status().await {
        let roles = status.layout.as_ref().map(|layout| &layout.roles[..]);
        let is_alive = |node: &str| {
            // Who is only suspected, or restarts, may come back.
            let is_gone = |state: &str| matches!(state, "dead" | "left");
            status.members.iter().any(|member| member.node == node && !is_gone(member.state))
        };
        let line = match next((&status.node, status.uptime_ms), roles, &old, is_alive) {
            Next::Wait => String::new(),
            Next::WaitFor(why) => why,
            Next::End(how) => return tracing::info!("{how}"),
            Next::Ask(node) => {
                let change = Change::Replace { old: node, new: status.node };
                match front.admin(AdminRequest::Apply(change)).await {
                    Ok(Ok(_)) => format!("this node takes the place of {old}"),
                    Ok(Err(refused)) => format!("--replace {old}: {}", refused.message),
                    Err(_) => return,
                }
            }
        };
        if !line.is_empty() && line != said {
            tracing::info!("{line}");
            said = line;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// By the roles of the live layout, if there is one, and by who is alive.
fn next(
    (me, uptime_ms): (&str, u64),
    roles: Option<&[Role]>,
    old: &str,
    is_alive: impl Fn(&str) -> bool,
) -> Next {
    let Some(roles) = roles else {
        return Next::Wait;
    };
    if roles.iter().any(|role| role.node.to_string() == me) {
        return Next::End(format!("--replace {old}: this node is in the layout"));
    }
    if uptime_ms < MET_MS {
        return Next::Wait;
    }
    let Some(role) = roles.iter().find(|role| role.name == old) else {
        return Next::WaitFor(format!("--replace {old}: the layout has no node of that name"));
    };
    let node = role.node.to_string();
    match is_alive(&node) {
        true => Next::WaitFor(format!("--replace {old}: {old} is alive; stop it first")),
        false => Next::Ask(node),
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::id::NodeId;

    use super::*;

    #[test]
    fn the_place_of_a_member_is_asked_for_when_it_has_been_silent_for_a_while() {
        let role = |number: u128, name: &str| Role {
            node: NodeId(number),
            name: name.to_owned(),
            weight: 1,
            zone: String::new(),
        };
        let id = |number: u128| NodeId(number).to_string();
        let before = [role(1, "alpha"), role(2, "beta")];
        let now = |uptime_ms, roles, old, alive: bool| {
            next((&id(9), uptime_ms), roles, old, |node| alive || node == id(1))
        };
        assert_eq!(now(MET_MS, None, "beta", false), Next::Wait);
        assert_eq!(now(MET_MS - 1, Some(&before), "beta", false), Next::Wait);
        assert_eq!(now(MET_MS, Some(&before), "beta", false), Next::Ask(id(2)));
        assert!(matches!(now(MET_MS, Some(&before), "beta", true), Next::WaitFor(_)));
        assert!(matches!(now(MET_MS, Some(&before), "gamma", false), Next::WaitFor(_)));
        let after = [role(1, "alpha"), role(9, "new")];
        assert!(matches!(now(MET_MS, Some(&after), "beta", false), Next::End(_)));
    }
}
