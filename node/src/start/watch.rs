//! What a running node tells people by itself: nodes that it does not count, why it must not serve, what is wrong although it
//! serves, and where its settings differ from the layout in force. One line each, when it begins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rondo_core::layout::Quorums;
use rondo_core::status::LayoutStatus;

use crate::http::front::Front;
use crate::settings::Settings;

/// How often the node is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Says each note on the log when it is new, and whether settings differ from the layout, once.
pub async fn watch_notes(settings: Settings, front: Arc<Front>) {
    let mut said = BTreeSet::new();
    let mut has_layout = false;
    while let Ok(status) = front.status().await {
        let notes = status.notes.iter().chain(&status.barred);
        let notes = notes.map(|note| (note.clone(), note));
        // That the number of the records has changed is not new.
        let is_digit = |c: char| c.is_ascii_digit();
        let troubles =
            status.troubles.iter().map(|trouble| (trouble.replace(is_digit, ""), trouble));
        said = tell(&said, notes.chain(troubles));
        if let Some(layout) = status.layout.as_ref().filter(|_| !has_layout) {
            has_layout = true;
            if let Some(differs) = differs(&settings, layout, &status.node) {
                tracing::warn!("{differs}");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Tells what is new, by its kind, and returns what goes on.
fn tell<'a>(
    said: &BTreeSet<String>,
    notes: impl Iterator<Item = (String, &'a String)>,
) -> BTreeSet<String> {
    let mut goes_on = BTreeSet::new();
    for (kind, note) in notes {
        if !said.contains(&kind) {
            tracing::warn!("{note}");
        }
        goes_on.insert(kind);
    }
    goes_on
}

/// The banner, with the quorums in force instead of those that the settings ask for.
#[must_use]
pub fn in_force(banner: &str, settings: &Settings, layout: Option<&LayoutStatus>) -> String {
    let Some(layout) = layout.filter(|layout| !of_the_cluster(settings, layout).is_empty()) else {
        return banner.to_owned();
    };
    let Quorums { n, r, w } = layout.quorums;
    let line = format!(
        "  replicas N={n} R={r} W={w}, as the cluster was formed; the settings differ and change nothing"
    );
    let replaced =
        banner.lines().map(|old| if old.starts_with("  replicas") { &line } else { old });
    replaced.fold(String::new(), |text, line| text + line + "\n")
}

/// What the settings ask for that the layout in force has otherwise, in one line. `me`: this node, as the layout names it.
fn differs(settings: &Settings, layout: &LayoutStatus, me: &str) -> Option<String> {
    let mut what = of_the_cluster(settings, layout);
    if let Some(role) = layout.roles.iter().find(|role| role.node.to_string() == me) {
        if role.zone != settings.zone {
            let named = |zone: &str| {
                if zone.is_empty() { "no zone".to_owned() } else { format!("zone `{zone}`") }
            };
            let (formed, asked) = (named(&role.zone), named(&settings.zone));
            what.push(format!("{formed} of this node and not {asked}"));
        }
        if role.weight != settings.vnodes {
            let (formed, asked) = (role.weight, settings.vnodes);
            what.push(format!("{formed} vnodes of this node and not {asked}"));
        }
    }
    let what = what.join(", ");
    (!what.is_empty()).then(|| {
        format!(
            "the layout has {what}: that is in force, and the settings of this start change nothing of it; \
             `rondo cluster join` changes the share and the zone of a member"
        )
    })
}

/// What of that is about all nodes.
fn of_the_cluster(settings: &Settings, layout: &LayoutStatus) -> Vec<String> {
    let asked =
        Quorums { n: settings.replication, r: settings.read_quorum, w: settings.write_quorum };
    let formed = layout.wanted;
    let mut what = Vec::new();
    if asked != formed {
        let text = |q: Quorums| format!("N={} R={} W={}", q.n, q.r, q.w);
        what.push(format!("{} and not {}", text(formed), text(asked)));
    }
    what
}

#[cfg(test)]
mod tests {
    use rondo_core::layout::{Layout, Role};

    use super::*;
    use crate::settings::flags::Flags;
    use crate::settings::sources::Texts;

    fn layout() -> LayoutStatus {
        let role =
            Role { node: Default::default(), name: "a".into(), weight: 1, zone: String::new() };
        let layout = Layout::first(8, Quorums { n: 3, r: 2, w: 2 }, vec![role], Vec::new());
        LayoutStatus::new(&layout, Default::default())
    }

    #[test]
    fn settings_that_differ_from_the_layout_are_named_and_the_banner_shows_what_is_in_force() {
        let mut settings = Texts::collect(&Flags::default(), [])
            .and_then(|texts| Settings::check(&texts))
            .expect("the defaults are sound");
        let banner = "a\n  replicas N=5 R=3 W=3\nb\n";
        let me = layout().roles[0].node.to_string();
        (settings.vnodes, settings.zone) = (1, String::new());
        assert_eq!(differs(&settings, &layout(), &me), None);
        assert_eq!(in_force(banner, &settings, Some(&layout())), banner);
        (settings.replication, settings.read_quorum, settings.write_quorum) = (5, 3, 3);
        let differs = differs(&settings, &layout(), &me).expect("they differ");
        assert!(differs.contains("N=3 R=2 W=2 and not N=5 R=3 W=3"), "{differs}");
        let shown = in_force(banner, &settings, Some(&layout()));
        assert!(
            shown.starts_with("a\n  replicas N=1 R=1 W=1, as the cluster was formed"),
            "{shown}"
        );
    }

    #[test]
    fn another_zone_or_share_of_this_node_is_named_and_of_others_nothing_is_said() {
        let mut settings = Texts::collect(&Flags::default(), [])
            .and_then(|texts| Settings::check(&texts))
            .expect("the defaults are sound");
        (settings.vnodes, settings.zone) = (7, "east".to_owned());
        let me = layout().roles[0].node.to_string();
        let said = differs(&settings, &layout(), &me).expect("they differ");
        let what = "no zone of this node and not zone `east`, 1 vnodes of this node and not 7";
        assert!(said.contains(what), "{said}");
        assert_eq!(in_force("  replicas N=3", &settings, Some(&layout())), "  replicas N=3");
        assert_eq!(differs(&settings, &layout(), "another"), None);
    }
}
