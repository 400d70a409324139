//! Two clusters in one mesh: each decides for itself, under loss and while the mesh is parted.

use crate::member::Directory;
use crate::report::Figure;
use crate::state::{all_members, run_until, seconds};
use crate::whole::{HEADERS, Whole, meet, range};
use crate::world::{Place, Weather, World};
use kairn_mesh_protocol::ballot::{BallotName, Outcome, Rules};
use kairn_mesh_protocol::{ClusterName, NodeId};
use std::sync::Arc;
use std::time::Duration;

/// Which of the two a place belongs to.
const fn cluster_of(place: Place) -> usize {
    place.0 % 2
}

/// The winners that the nodes of a cluster know, of each once.
fn winners(world: &World<Whole>, cluster: usize, name: &BallotName) -> Vec<Option<NodeId>> {
    let nodes = world.nodes().filter(|(place, _)| cluster_of(*place) == cluster);
    let known = nodes.map(|(_, whole)| {
        let view = whole.node().ballots().find(|view| view.name == name);
        view.and_then(|view| view.outcome.winner())
    });
    let mut known: Vec<Option<NodeId>> = known.collect();
    known.sort();
    known.dedup();
    known
}

/// Nodes that hold a roll with somebody of the other cluster, or two decisions.
fn across(world: &World<Whole>, directory: &Directory, name: &BallotName) -> f64 {
    let is_across = |(place, whole): &(Place, &Whole)| {
        let view = whole.node().ballots().find(|view| view.name == name);
        view.is_some_and(|view| {
            let is_other = |node: &NodeId| directory.place(node).is_none_or(|of| cluster_of(of) != cluster_of(*place));
            view.sealed.is_some_and(|roll| roll.voters().iter().any(is_other))
                || view.outcome.winner().is_some_and(|winner| is_other(&winner))
                || matches!(view.outcome, Outcome::Frozen(..))
        })
    };
    world.nodes().filter(is_across).count() as f64
}

/// Two clusters of so many nodes each hold the ballot `first` at once, in a mesh that is parted so that each has its larger part on
/// another side.
pub fn clusters(seed: u64, size: u16, weather: Weather) -> Vec<Figure> {
    let count = 2 * usize::from(size);
    let (edge, first) = ("edge".to_owned(), "first".to_owned());
    let (Ok(edge), Ok(first), Ok(rules)) =
        (ClusterName::try_from(edge), BallotName::try_from(first), Rules::new(2, Some(size)))
    else {
        return vec![Figure::at_most("clusters: names that are none", f64::NAN, 0.0, "")];
    };
    let directory = Arc::new(Directory::new(count));
    let mut world = World::new(seed, weather, HEADERS);
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..count {
        let place = world.add_place(rng.i64(-600_000..=600_000));
        let cluster = if cluster_of(place) == 0 { ClusterName::default() } else { edge.clone() };
        let now = world.clocks(place);
        let whole = Whole::of(cluster, &directory, (place, 1), rng.u64(..), now, range(count));
        world.start(place, whole.voting(now, rules, crate::whole::Disk::new()));
        if place.0 > 0 {
            meet(&mut world, place, Place(rng.usize(..place.0)));
        }
    }
    let met = run_until(&mut world, Duration::from_secs(60), |world| all_members(world, count));
    for place in (0..count).map(Place) {
        world.with(place, |whole, _| whole.node_mut().stand(&first).is_ok());
    }
    // Two of five of the one cluster are with three of five of the other.
    let least = usize::from(size) - usize::from(rules.quorum());
    world.part(|place| u32::from((place.0 / 2 < least) == (cluster_of(place) == 0)));
    let some = |world: &World<Whole>| (0..2).all(|cluster| winners(world, cluster, &first).iter().any(Option::is_some));
    let decided = run_until(&mut world, Duration::from_secs(180), some);
    world.run_for(Duration::from_secs(60));
    let parted = across(&world, &directory, &first);
    world.heal();
    let all =
        |world: &World<Whole>| (0..2).all(|cluster| matches!(winners(world, cluster, &first).as_slice(), [Some(_)]));
    let known = run_until(&mut world, Duration::from_secs(180), all);
    world.run_for(Duration::from_secs(60));
    // Questions that a partition left without an answer are none of these.
    let letters = |whole: &Whole| whole.refused().iter().filter(|why| why.contains("ballot")).count();
    let refused = world.nodes().map(|(_, whole)| letters(whole)).sum::<usize>() as f64;
    let name = |what: &str| format!("clusters, 2 of {size} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("all know all"), seconds(met), 60.0, "s"),
        Figure::at_most(name("each has decided while parted"), seconds(decided), 90.0, "s"),
        Figure::at_most(name("all of each know its winner after healing"), seconds(known), 60.0, "s"),
        Figure::at_most(
            name("nodes that count one of the other"),
            parted + across(&world, &directory, &first),
            0.0,
            "",
        ),
        Figure::at_most(name("letters that were refused"), refused, 0.0, ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_of_one_mesh_decide_each_for_itself_while_it_is_parted() {
        for seed in 1..5 {
            let figures = clusters(seed, 5, Weather::PROMISED);
            let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
            assert!(figures.iter().all(Figure::holds), "with seed {seed}:\n{table}");
        }
    }

    #[test]
    fn a_mesh_that_hears_nothing_does_not_pass() {
        let deaf = Weather { loss: 1.0, ..Weather::LAN };
        assert!(!clusters(1, 3, deaf).iter().all(Figure::holds));
    }
}
