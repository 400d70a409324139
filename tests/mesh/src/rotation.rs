//! A network changes its secret and puts a member out, while another is off and a stranger has the old token.

use crate::member::Directory;
use crate::report::Figure;
use crate::state::{agree, run_until, seconds};
use crate::whole::{Whole, administrator, meet, network_of, range};
use crate::world::{Place, Weather, World};
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::entry::Entry;
use kairn_mesh_protocol::node::Draw;
use kairn_mesh_protocol::swim::State;
use std::sync::Arc;
use std::time::Duration;

/// With how many others somebody who must stay out tries to open a session.
const DOORS: usize = 20;

/// Whether all that are to have it have this epoch.
fn all_have(world: &World<Whole>, epoch: u32, but: &[Place]) -> bool {
    let newest = |whole: &Whole| whole.node().store().epochs().first().map(|keys| keys.epoch);
    world.nodes().all(|(place, whole)| but.contains(&place) || newest(whole) == Some(epoch))
}

/// How many of the others take a node for a member.
fn known(world: &World<Whole>, node: &NodeId, but: &[Place]) -> f64 {
    let knows =
        |whole: &Whole| whole.node().store().member(node).is_some() || whole.node().swim().state(node).is_some();
    world.nodes().filter(|(place, whole)| !but.contains(place) && knows(whole)).count() as f64
}

/// With how many of the first members a node gets a session.
fn doors(world: &mut World<Whole>, place: Place, members: usize) -> f64 {
    let opens = |door: &usize| meet(world, place, Place(*door)) || meet(world, Place(*door), place);
    (0..DOORS.min(members)).filter(opens).count() as f64
}

/// Has an administrator order a rotation at a node, and says which epoch it began.
fn order(world: &mut World<Whole>, at: Place, revoked: NodeId) -> Option<u32> {
    let draw = Draw { secret: [1; 32], seed: [101; 32], lot: 1 };
    let ordered = world.with(at, |whole, now| {
        let (admin, clocks) = (administrator(), (now.moment, now.wall));
        let epoch = whole.node().next_epoch(&draw).ok()?;
        for content in whole.node().prepare_rotation(clocks, admin.id(), &[revoked], &draw).ok()? {
            let entry = Entry::sign(whole.node().store().network(), &admin, content).ok()?;
            whole.node_mut().order(clocks, entry).ok()?;
        }
        Some(epoch)
    });
    ordered.flatten()
}

/// The secret of so many nodes is rotated, the last of them put out, one of them off until after that, and a stranger comes with
/// the old token.
pub fn rotation(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let directory = Arc::new(Directory::new(nodes + 1));
    let mut world = network_of(&directory, seed, weather, nodes);
    let (at, off, out, stranger) = (Place(1), Place(nodes / 2), Place(nodes - 1), Place(nodes));
    let [Some(out_id), Some(stranger_id), Some(off_id)] =
        [out, stranger, off].map(|place| directory.id(place).copied())
    else {
        return vec![Figure::at_most("rotation: too few nodes", f64::NAN, 0.0, "")];
    };
    let all = |world: &World<Whole>, count: usize, but: &[Place]| {
        world.nodes().all(|(place, whole)| but.contains(&place) || whole.node().swim().live().len() == count - 1)
    };
    let began = run_until(&mut world, Duration::from_secs(120), |world| all(world, nodes, &[]) && agree(world));
    world.crash(off);
    run_until(&mut world, Duration::from_secs(60), |world| {
        world.nodes().all(|(_, whole)| whole.node().swim().state(&off_id) == Some(State::Dead))
    });
    let deaths = |world: &World<Whole>, but: &[Place]| {
        world.nodes().filter(|(place, _)| !but.contains(place)).map(|(_, whole)| whole.deaths()).sum::<usize>() as f64
    };
    let before = deaths(&world, &[out]);

    let epoch = order(&mut world, at, out_id);
    let limit = Duration::from_secs(120);
    let rotated = epoch.and_then(|epoch| run_until(&mut world, limit, |world| all_have(world, epoch, &[out])));
    let gone = run_until(&mut world, limit, |world| known(world, &out_id, &[out]) == 0.0);
    world.run_for(Duration::from_secs(60));
    let told = world.node(out).is_some_and(Whole::is_put_out);
    let doors_out = doors(&mut world, out, out.0);

    // A fresh identity with the token from before.
    let place = world.add_place(0);
    let whole = Whole::new(&directory, place, 1, seed ^ 1, world.clocks(place), range(nodes));
    world.start(place, whole);
    let doors_stranger = doors(&mut world, stranger, out.0);
    let late = world.nodes().filter(|(place, _)| ![out, stranger].contains(place)).count();
    let lost = deaths(&world, &[out, stranger]) - before;

    // A new run that has kept its identity and the token, and nothing else.
    let whole = Whole::new(&directory, off, 2, seed ^ 2, world.clocks(off), range(nodes));
    world.start(off, whole);
    let returned = meet(&mut world, off, Place(2));
    let outside = [out, stranger];
    let back = epoch.filter(|_| returned).and_then(|epoch| {
        run_until(&mut world, limit, |world| all_have(world, epoch, &outside) && all(world, late + 1, &outside))
    });
    world.run_for(Duration::from_secs(60));
    let strangers = known(&world, &stranger_id, &outside) + known(&world, &out_id, &outside);

    let name = |what: &str| format!("rotation, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("all know all and hold one state"), seconds(began), 120.0, "s"),
        Figure::at_most(name("all have the new secret"), seconds(rotated), 3.0, "s"),
        Figure::at_most(name("nobody knows who was put out, after that"), seconds(gone), 3.0, "s"),
        Figure::plain(name("it was told"), f64::from(u8::from(told)), ""),
        Figure::at_most(name("members that open it a session"), doors_out, 0.0, ""),
        Figure::at_most(name("that open a stranger one"), doors_stranger, 0.0, ""),
        Figure::at_most(name("deaths of the living"), lost, 0.0, ""),
        Figure::at_most(name("who was off has all of it, after its start"), seconds(back), 30.0, "s"),
        Figure::at_most(name("members that know one of the others, at the end"), strangers, 0.0, ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_changes_under_loss_and_who_was_off_returns_while_others_stay_out() {
        for seed in 1..3 {
            let figures = rotation(seed, 16, Weather::PROMISED);
            let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
            assert!(figures.iter().all(Figure::holds), "with seed {seed}:\n{table}");
        }
    }

    #[test]
    fn a_network_that_hears_nothing_does_not_pass() {
        let deaf = Weather { loss: 1.0, ..Weather::LAN };
        assert!(!rotation(1, 6, deaf).iter().all(Figure::holds));
    }
}
