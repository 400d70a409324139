//! The loop that runs a node: everything that happens comes in at one place, is handed to the node, and what the node wants
//! done is carried out.

mod archive;
mod ballots;
mod barriers;
mod calls;
mod dht;
mod due;
mod events;
mod leases;
mod names;
mod orders;
mod reach;
mod roles;
mod routes;
mod sealed;
mod services;
mod settings;
mod shell;
mod told;
mod values;
mod view;

use crate::alarm::Alarm;
use crate::api::Api;
use crate::archive::Archive;
use crate::clock;
use crate::discovery::{Found, Lookout};
use crate::error::Error;
use crate::handle::{Handle, Jobs};
use crate::herald::{Herald, Once};
use crate::identity::{IdentityStatus, Keys};
use crate::interfaces::Choice;
use crate::names::{Resolver, Server};
use crate::paths::{Candidates, Paths};
use crate::plane::Plane;
use crate::routing::{self, Routing};
use crate::services::{Services, Transport};
use crate::session::{Caller, Open, Papers, Shared};
use crate::shell::Shells;
use crate::socket::{Datagram, Socket};
use crate::state::{self, StateDir};
use crate::status::Status;
use crate::tls;
pub use barriers::BarrierEvent;
pub(crate) use barriers::Place;
use calls::{Calls, Done};
use dht::Dht;
use kairn_mesh_protocol::node::{Node, Outgoing, Start};
use kairn_mesh_protocol::path::Finder;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{Moment, NetworkKeys, NodeId, Now, Told, swim};
pub use settings::{NameSettings, Settings};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use told::ToldPlaces;
pub(crate) use values::Wanted;

/// How often what must outlive the process is written down, and the machine's addresses are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// After how long a node does with less of its program in memory: what its start used is most of it.
const STARTED: Duration = Duration::from_secs(30);
/// How long changes are gathered before the data plane follows.
const GATHERING: Duration = Duration::from_millis(20);
/// Clocks that are further apart than this do not work together.
const APART: Duration = Duration::from_secs(20 * 60);
/// How long what a node says at its end has to go out.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs a node until `end` is done, then says farewell. `ready` is called once the node listens.
///
/// # Errors
/// It cannot start: files, port, discovery.
pub async fn run(
    dir: StateDir,
    settings: Settings,
    end: impl Future<Output = ()>,
    ready: impl FnOnce(&Status),
) -> Result<(), Error> {
    run_for(dir, settings, end, mpsc::channel(1).1, &mut Once::new(ready)).await
}

/// The same, told of more addresses where nodes may be, and telling a herald how the loop stands.
///
/// # Errors
/// As [`run`].
pub async fn run_for(
    dir: StateDir,
    settings: Settings,
    end: impl Future<Output = ()>,
    mut seeds: mpsc::Receiver<SocketAddr>,
    herald: &mut impl Herald,
) -> Result<(), Error> {
    let mut runner = Runner::start(dir, settings)?;
    herald.ready(&runner.status());
    let mut sign = herald.period().map(|period| Instant::now() + period);
    let failed = |doing| move |source| Error::Alarm { doing, source };
    let mut alarm = Alarm::new().map_err(failed("making"))?;
    let mut end = std::pin::pin!(end);
    loop {
        runner.flush();
        if runner.is_out {
            runner.farewell().await?;
            return Err(Error::PutOut);
        }
        let due = runner.next_due().min(sign.unwrap_or(runner.housekeeping));
        tokio::select! {
            () = &mut end => break,
            Some(datagram) = runner.datagrams.recv() => runner.datagram(&datagram),
            Some(found) = runner.found.recv() => runner.found(&found),
            Some(visited) = Dht::next(&mut runner.dht) => runner.visited_table(visited),
            Some(done) = runner.calls.next() => runner.done(done),
            came = runner.routing.next() => runner.came(came),
            Some(job) = runner.jobs.next() => {
                runner.wake();
                job(&mut runner);
            }
            incoming = runner.endpoint.accept() => runner.incoming(incoming),
            rung = alarm.ring(due) => {
                rung.map_err(failed("waiting for"))?;
                if sign.is_some_and(|sign| sign <= Instant::now()) {
                    herald.alive(&runner.pulse());
                    sign = herald.period().map(|period| Instant::now() + period);
                }
                if let Some(interface) = runner.do_due() {
                    if let Err(error) = runner.farewell().await {
                        tracing::error!(error = kairn_report::in_one_line(&error), "the node does not end whole");
                    }
                    return Err(Error::InterfaceGone { interface });
                }
            }
            Some(address) = seeds.recv() => runner.told_of(address),
        }
    }
    herald.ending();
    runner.farewell().await
}

pub(crate) struct Runner {
    dir: StateDir,
    settings: Settings,
    /// How the identity is kept.
    kept: IdentityStatus,
    network: NetworkKeys,
    /// The beginning of the node's own clock.
    start: Instant,
    sleep: clock::Sleep,
    node: Node,
    papers: Shared,
    paths: Paths,
    choice: Choice,
    socket: Arc<Socket>,
    port: u16,
    endpoint: quinn::Endpoint,
    calls: Calls,
    services: Arc<Services>,
    shells: Arc<Shells>,
    /// What this node exposes: where each service is on this machine.
    exposed: BTreeMap<String, (Transport, SocketAddr)>,
    datagrams: mpsc::Receiver<Datagram>,
    found: mpsc::Receiver<Found>,
    jobs: Jobs,
    places: barriers::Places,
    archive: Archive,
    housekeeping: Instant,
    /// When what only the start used is given back; nothing once that was done.
    started: Option<Instant>,
    /// What this node says of where it is.
    candidates: Candidates,
    told_places: ToldPlaces,
    remembered: Vec<SocketAddr>,
    incarnation: swim::Incarnation,
    plane: Option<Plane>,
    routing: Routing,
    /// When the data plane is made to follow what changed.
    plane_due: Option<Instant>,
    networks: Vec<if_addrs::Interface>,
    /// How many announcements of others came from the local network.
    announcements: u64,
    dht: Option<Dht>,
    /// A time that is over for certain, since the Unix epoch.
    past: Duration,
    /// An administrator ordered something that is not written down yet.
    ordered: bool,
    /// An administrator put this node out.
    is_out: bool,
    lookout: Lookout,
    _api: Api,
    names: Option<Server>,
}

impl Runner {
    fn start(dir: StateDir, settings: Settings) -> Result<Self, Error> {
        let Keys { identity, wireguard: tunnel_key, status: kept } =
            dir.keys(&settings.sealing, settings.allowed.is_some())?;
        let past = dir.past()?;
        let clock = clock::look(past);
        match clock {
            Clock::Sure => {}
            Clock::Doubtful => tracing::info!(
                "nothing keeps this machine's clock: the node signs nothing before a peer says what time it is, for 3 s at most"
            ),
            Clock::Unset => tracing::warn!(
                "this machine's clock is not set: the node signs nothing before a peer says what time it is"
            ),
        }
        let (generation, incarnation) = dir.begin_run()?;
        let network = settings.token.network();
        let secrets = dir.secrets(&network.id, &settings.token)?;
        let failed = |doing| {
            let path = dir.path().to_owned();
            move |source| Error::State { path, doing, source }
        };
        let seed = u64::from_be_bytes(state::random().map_err(failed("drawing a seed"))?);
        let (socket, datagrams, probes) =
            Socket::bind(settings.port).map_err(|source| Error::Port { port: settings.port, source })?;
        let port = quinn::AsyncUdpSocket::local_addr(&*socket).map_err(failed("asking for the port"))?.port();
        let configs = tls::configs(&identity)?;
        let abstracted: Arc<dyn quinn::AsyncUdpSocket> = Arc::clone(&socket) as _;
        let mut options = quinn::EndpointConfig::default();
        // The first byte tells QUIC from the rest: see `socket`.
        options.grease_quic_bit(false);
        let runtime = Arc::new(quinn::TokioRuntime);
        let mut endpoint =
            quinn::Endpoint::new_with_abstract_socket(options, Some(configs.server), abstracted, runtime)
                .map_err(failed("opening the port for QUIC"))?;
        endpoint.set_default_client_config(configs.client);
        let mut choice = Choice::new(network.ula);
        choice.excluded.extend(settings.excluded.iter().cloned());
        choice.tunnel = settings.vpn.as_ref().map(|vpn| vpn.interface.clone());
        let (lookout, found) = Lookout::start(&network.label, identity.id(), port, &choice, Moment::default())?;
        let (handle, jobs) = Handle::new();
        let api = Api::open(dir.path(), handle.clone())?;
        let start = Instant::now();
        let administrators = settings.token.admin().into_iter().chain(&settings.administrators);
        let administrators = administrators.map(|admin| *admin.id()).collect();
        let (outlets, inlets) = routing::connection();
        let plane = match &settings.vpn {
            Some(vpn) => Some(Plane::open(
                vpn,
                *tunnel_key.private(),
                port.wrapping_add(1),
                network.ula,
                &identity.id(),
                outlets,
            )?),
            None => None,
        };
        let is_server = settings.names.is_server;
        let range = settings.vpn.as_ref().map(|vpn| vpn.range);
        let dht = settings.dht.clone().map(|settings| Dht::new(settings, &dir, seed.rotate_left(32)));
        let lease = dir.lease(&network.id, identity.id());
        // IPv6, UDP and WireGuard around what the interface takes.
        let packet = settings.vpn.as_ref().map(|vpn| vpn.mtu.saturating_add(80));
        let finder = Finder::new(identity.clone(), generation, seed ^ u64::MAX, packet, Moment::default());
        let routing = Routing::new(finder, probes, inlets);
        let begin = Start {
            identity,
            network: network.clone(),
            epochs: secrets.epochs,
            secret: secrets.newest,
            administrators,
            allowed: settings.allowed.clone(),
            generation,
            incarnation,
            seed,
            clock,
            range,
            lease,
        };
        let mut node = Node::new(begin, Moment::default());
        node.fix_role(settings.role);
        node.join_cluster(settings.cluster.clone());
        node.hold_ballots(settings.rules, dir.ballots(node.id(), &settings.cluster)?, Moment::default());
        for order in &secrets.orders {
            if let Err(error) = node.restore((Moment::default(), clock::machine()), order) {
                tracing::warn!(%error, "an order that was kept is not taken");
            }
        }
        if node.store().revoked().contains(&node.id()) {
            return Err(Error::PutOut);
        }
        let (mut archive, contents) = Archive::open(&dir, &network.id);
        archive.recalled(&node.recall((Moment::default(), clock::machine()), contents.records));
        let papers: Shared = Arc::new(RwLock::new(Papers::default()));
        let caller = Caller { endpoint: endpoint.clone(), own: node.id(), papers: Arc::clone(&papers) };
        let services = Services::new(handle.clone(), caller.calling_by(configs.service));
        let by_shell = caller.calling_by(configs.shell);
        let shells = Shells::new(handle.clone(), network.id, by_shell, settings.shell.clone());
        let mut runner = Self {
            calls: Calls::new(caller, services.clone(), shells.clone()),
            services,
            shells,
            exposed: BTreeMap::new(),
            dir,
            settings,
            kept,
            network,
            start,
            sleep: clock::Sleep::new(),
            node,
            papers,
            paths: Paths::default(),
            choice,
            socket,
            port,
            endpoint,
            datagrams,
            found,
            jobs,
            places: barriers::Places::default(),
            archive,
            housekeeping: start + HOUSEKEEPING,
            started: Some(start + STARTED),
            candidates: Candidates::default(),
            told_places: ToldPlaces::default(),
            remembered: Vec::new(),
            incarnation,
            plane,
            routing,
            plane_due: None,
            networks: Vec::new(),
            announcements: 0,
            dht,
            past,
            ordered: false,
            is_out: false,
            lookout,
            _api: api,
            names: is_server.then(|| Server::start(handle, Resolver::default())),
        };
        let (name, version) = (runner.settings.name.clone(), runner.settings.version.clone());
        runner.node.introduce(runner.now(), &tunnel_key, &name, &version)?;
        runner.advertise();
        runner.show_papers();
        runner.shells.begin(&name);
        runner.remembered = runner.dir.peers()?;
        runner.call_known();
        Ok(runner)
    }

    fn now(&self) -> Now {
        self.node.now(Moment::after(self.start.elapsed()), clock::machine())
    }

    /// The time that is told to others.
    fn told(&self) -> Told {
        self.node.told(self.now())
    }

    /// Shows sessions what they need of the node's state.
    fn show_papers(&self) {
        let (record, store) = (self.node.record().and_then(|record| record.encode().ok()), self.node.store());
        let (epochs, revoked) = (store.epochs().to_vec(), store.revoked().clone());
        let (allowed, members) = (self.settings.allowed.clone(), store.member_ids().collect());
        match self.papers.write() {
            Ok(mut papers) => *papers = Papers { epochs, role: self.settings.role, record, revoked, allowed, members },
            Err(error) => tracing::error!(%error, "sessions see an old state of this node"),
        }
    }

    fn datagram(&mut self, datagram: &Datagram) {
        if let Ok(from) = self.node.datagram(self.now(), &datagram.bytes) {
            self.heard(from, datagram.from);
        }
    }

    fn heard(&mut self, from: NodeId, address: SocketAddr) {
        if !self.choice.may_try(&address) {
            return tracing::debug!(peer = %from.short(), %address, "heard from within the mesh");
        }
        if self.paths.heard(from, address, Instant::now()) {
            self.route_heard(&from);
            self.plane_changed();
        }
    }

    /// Has the data plane follow soon: what comes together is done together.
    fn plane_changed(&mut self) {
        if self.plane.is_some() && self.plane_due.is_none() {
            self.plane_due = Some(Instant::now() + GATHERING);
        }
    }

    /// The name of the mesh's interface where somebody removed it. A node that starts anew makes another.
    fn lost_interface(&self) -> Option<String> {
        let tunnel = self.plane.as_ref()?.tunnel();
        (!tunnel.is_running()).then(|| tunnel.name().to_owned())
    }

    fn follow(&mut self) {
        self.plane_due = None;
        if let Some(plane) = &mut self.plane {
            plane.follow(&self.node, &self.paths, &self.routing.finder, |ip| reach::is_near(&self.networks, ip));
        }
    }

    fn incoming(&mut self, incoming: Option<quinn::Incoming>) {
        if let Some(incoming) = incoming {
            self.calls.answer(incoming, self.told());
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened(open) => self.opened(&open),
            Done::Failed(error) => {
                self.told_places.failed(&error, Instant::now());
                match error {
                    Error::Own(address) => tracing::debug!(%address, "an address of this node itself"),
                    Error::Unproven { .. } => tracing::warn!(%error, "a stranger"),
                    Error::Unwelcome { .. } => tracing::warn!(%error, "no session"),
                    error => tracing::debug!(%error, "no session"),
                }
            }
            Done::Question { from, bytes, answer } => {
                let now = self.now();
                let text = self.node.question(now, from, &bytes);
                if answer.send(text).is_err() {
                    tracing::debug!(from = %from.short(), "who asked went away");
                }
            }
            Done::Answer { number, answer } => {
                let now = self.now();
                self.node.answered(now, number, answer.as_deref().map_err(Clone::clone));
            }
        }
    }

    pub(crate) fn opened(&mut self, open: &Open) {
        tracing::info!(peer = %open.peer.short(), address = %open.address, "session");
        self.told_places.met(&open.address, open.peer);
        self.heard(open.peer, open.address);
        let now = self.now();
        // One that nothing keeps follows the other.
        let apart = match (self.node.told(now), open.time) {
            (Told::Kept(ours), Some(Told::Kept(theirs))) => ours.ahead_of(theirs).max(theirs.ahead_of(ours)),
            _ => Duration::ZERO,
        };
        if apart > APART {
            let minutes = apart.as_secs() / 60;
            tracing::warn!(peer = %open.peer.short(), minutes, "its clock and ours are far apart; what the later one writes is refused");
        }
        self.node.joined(now, open.peer, open.record.as_deref(), open.time);
    }

    /// Carries out what the node wants done.
    fn flush(&mut self) {
        self.vote();
        let now = Instant::now();
        for outgoing in self.node.take_outgoing() {
            match outgoing {
                Outgoing::Datagram { to, bytes } => {
                    for address in self.paths.to(&to, now) {
                        if let Err(error) = self.socket.send(address, &bytes) {
                            tracing::debug!(%address, %error, "a datagram was not sent");
                        }
                    }
                }
                Outgoing::Question { to, number, bytes } => {
                    self.calls.ask(to, &self.paths.to(&to, now), number, bytes, self.told());
                }
            }
        }
        for event in self.node.take_events() {
            self.happened(event);
        }
        if std::mem::take(&mut self.ordered) {
            self.keep_secrets();
        }
        self.flush_routing();
    }

    /// A disk that is full or gone does not end a node that others rely on.
    fn keep_house_or_say(&mut self) {
        self.visit_table();
        self.keep_others();
        self.give_back();
        if let Err(error) = self.keep_house() {
            tracing::error!(
                error = kairn_report::in_one_line(&error),
                "what a restart would need was not written down"
            );
        }
    }

    /// Gives back what only the start used of the program, once: it is read again where it is needed after all.
    fn give_back(&mut self) {
        if self.started.take_if(|started| *started <= Instant::now()).is_some() {
            match kairn_host::release_program() {
                Ok(bytes) => tracing::debug!(bytes, "gave back what only the start used of the program"),
                Err(error) => tracing::info!(%error, "what only the start used of the program stays in memory"),
            }
        }
    }

    fn keep_house(&mut self) -> Result<(), Error> {
        self.housekeeping = Instant::now() + HOUSEKEEPING;
        self.node.looked_at_clock(self.now(), clock::look(self.past));
        self.advertise();
        self.choose_relays();
        self.call_told();
        let incarnation = self.node.swim().incarnation();
        if incarnation != self.incarnation {
            self.dir.keep_incarnation(incarnation)?;
            self.incarnation = incarnation;
        }
        // A node that has just started knows nothing yet that is worth more than what it kept.
        let known = self.paths.known();
        if known.is_empty() || known == self.remembered {
            return Ok(());
        }
        self.dir.keep_peers(&known)?;
        self.remembered = known;
        Ok(())
    }

    /// Says that the node leaves, and waits until that is sent.
    async fn farewell(mut self) -> Result<(), Error> {
        self.jobs.end();
        self.hide_all();
        self.node.give_up_leases(self.now());
        self.node.leave(self.now());
        let end = Instant::now() + FAREWELL;
        while Instant::now() < end {
            self.flush();
            let next = (self.start + self.node.next_deadline().since(Moment::default())).min(end);
            sleep_until(next.into()).await;
            self.node.tick(self.now());
        }
        self.keep_all();
        self.keep_house()?;
        self.shells.hide().await;
        // While the interface is there.
        if let Some(names) = self.names.take() {
            names.end().await;
        }
        if let Some(plane) = self.plane.take() {
            plane.close()?;
        }
        self.endpoint.close(0_u8.into(), b"the node ends");
        // A call that nobody answers would be waited for until it is given up, after a minute.
        if timeout(FAREWELL, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("sessions are left without an answer");
        }
        Ok(())
    }
}
