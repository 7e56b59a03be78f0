//! Pools: what their names lead to, and which of the servers behind them are used.

use std::net::SocketAddr;

use refclocks::time::{Raw, Timestamp};

use super::shells::Shell;
use super::{PoolId, Roster, RunningServer, is_asked_alike, key_of, source_of};
use crate::clock::DisciplinedClock;
use crate::config::{self, Server};
use crate::core::measurement::SourceId;
use crate::core::source::SourceConfig;
use crate::core::verdict::Verdict;
use crate::ntp::client::names::ResolveError;
use crate::ntp::client::pool::{Pool, Standing, Step};
use crate::ntp::client::{Order, ServerState};

/// A pool.
pub(super) struct RunningPool {
    pub(super) number: PoolId,
    pub(super) config: config::Pool,
    pool: Pool,
    servers: Vec<(SocketAddr, RunningServer)>,
    /// Until there is a server, the pool stands for itself among the sources.
    alone: Option<SourceId>,
    /// What was told of it last.
    told: Option<ServerState>,
    offline: bool,
    lookup: Option<Shell>,
}

impl RunningPool {
    pub(super) fn servers(&self) -> impl Iterator<Item = &RunningServer> {
        self.servers.iter().map(|(_, server)| server)
    }

    pub(super) fn servers_mut(&mut self) -> impl Iterator<Item = &mut RunningServer> {
        self.servers.iter_mut().map(|(_, server)| server)
    }

    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Offline => self.offline = true,
            Order::Online => self.offline = false,
            Order::Poll(_) | Order::Burst => {}
        }
        self.servers_mut().for_each(|server| server.order(order));
    }

    pub(super) fn handle_resolved(
        &mut self,
        answer: Result<Vec<SocketAddr>, ResolveError>,
        taken: impl Fn(SocketAddr) -> bool,
        clock: &mut DisciplinedClock,
        now: Timestamp<Raw>,
    ) {
        self.lookup = None;
        let found = answer.unwrap_or_else(|error| {
            self.tell(ServerState::Unresolved(error), clock);
            Vec::new()
        });
        self.pool.handle_resolved(&found, taken, now);
    }

    pub(super) fn handle_timeout(
        &mut self,
        taken: impl Fn(SocketAddr) -> bool,
        clock: &DisciplinedClock,
        now: Timestamp<Raw>,
    ) {
        if self.offline {
            return;
        }
        for (address, server) in &self.servers {
            let standing = match clock.verdict_of(server.id) {
                _ if server.refused => Standing::Refused,
                Some(
                    Verdict::Unreachable
                    | Verdict::ServerUnsynchronised
                    | Verdict::FollowsUs
                    | Verdict::Falseticker { .. },
                ) => Standing::Useless,
                _ => Standing::Good,
            };
            self.pool.handle_standing(*address, standing, now);
        }
        self.pool.handle_timeout(taken, now);
    }

    /// Tells how the name stands, for as long as there is nothing else to tell.
    fn tell(&mut self, state: ServerState, clock: &mut DisciplinedClock) {
        if let Some(alone) = self.alone
            && self.told.as_ref() != Some(&state)
        {
            clock.handle_server_state(alone, state.to_string(), state.action());
            self.told = Some(state);
        }
    }

    /// The settings of one of its servers.
    fn server(&self, address: SocketAddr, names: &[String]) -> Server {
        let ip = address.ip().to_string();
        let name = if names.contains(&ip) { address.to_string() } else { ip.clone() };
        Server { name, host: ip, port: address.port(), ..self.config.each.clone() }
    }

    /// The same, as the engine knows it.
    fn source(&self, server: &Server) -> SourceConfig {
        SourceConfig {
            address: format!("{} ({})", source_of(server).address, self.config.each.host),
            ..source_of(server)
        }
    }
}

impl Roster {
    pub(super) fn apply_pools(&mut self, pools: &[config::Pool], clock: &mut DisciplinedClock, said: &mut Vec<String>) {
        self.pools.retain(|running| {
            let key = key_of(&running.config.each, self.keys.as_ref());
            let stays = pools.iter().any(|p| is_asked_alike(&p.each, &running.config.each))
                && running.servers().all(|server| server.key == key);
            if !stays {
                running.servers().map(|s| s.id).chain(running.alone).for_each(|id| clock.remove_source(id));
                said.push(format!("{} is gone.", running.config.each.name));
            }
            stays
        });
        for pool in pools {
            match self.pools.iter_mut().find(|p| is_asked_alike(&p.config.each, &pool.each)) {
                Some(running) if running.config == *pool => {}
                Some(running) => {
                    let fewer = running.config.maxsources != pool.maxsources;
                    running.config = pool.clone();
                    if fewer {
                        running.pool.want(pool.maxsources);
                    }
                    for i in 0..running.servers.len() {
                        let Some((_, server)) = running.servers.get(i) else { continue };
                        let config = Server {
                            name: server.config.name.clone(),
                            host: server.config.host.clone(),
                            ..pool.each.clone()
                        };
                        clock.configure_source(server.id, running.source(&config));
                    }
                    said.push(format!("{} has other settings.", pool.each.name));
                }
                None => {
                    let number = self.next_pool;
                    self.next_pool += 1;
                    self.pools.push(RunningPool {
                        number,
                        config: pool.clone(),
                        pool: Pool::new(pool.maxsources),
                        servers: Vec::new(),
                        alone: Some(clock.add_source(source_of(&pool.each))),
                        told: None,
                        offline: false,
                        lookup: None,
                    });
                    said.push(format!("{} is new.", pool.each.name));
                }
            }
        }
    }

    /// Does what the pools want.
    pub(super) fn step_pools(&mut self, clock: &mut DisciplinedClock) {
        for i in 0..self.pools.len() {
            while let Some(step) = self.pools.get_mut(i).and_then(|p| p.pool.poll_step()) {
                self.step_pool(i, step, clock);
            }
        }
    }

    fn step_pool(&mut self, i: usize, step: Step, clock: &mut DisciplinedClock) {
        let Some(pool) = self.pools.get(i) else { return };
        match step {
            Step::Resolve => {
                let lookup = self.start_resolving(pool.number, &pool.config);
                if let Some(pool) = self.pools.get_mut(i) {
                    pool.tell(ServerState::Resolving, clock);
                    pool.lookup = Some(lookup);
                }
            }
            Step::Add(address) => {
                let names: Vec<String> = self.names_in_use();
                let server = pool.server(address, &names);
                let id = clock.add_source(pool.source(&server));
                let running = self.start_server(server, id);
                if let Some(pool) = self.pools.get_mut(i) {
                    pool.servers.push((address, running));
                    if let Some(alone) = pool.alone.take() {
                        clock.remove_source(alone);
                    }
                }
            }
            Step::Remove(address) => {
                let Some(pool) = self.pools.get_mut(i) else { return };
                if let Some(at) = pool.servers.iter().position(|(other, _)| *other == address) {
                    let (_, gone) = pool.servers.remove(at);
                    clock.remove_source(gone.id);
                }
            }
        }
    }

    pub(super) fn names_in_use(&self) -> Vec<String> {
        let clocks = self.clocks.iter().map(|c| c.config.name.clone());
        let members = self.pools.iter().flat_map(RunningPool::servers);
        let servers = self.servers.iter().chain(members).map(|s| s.config.name.clone());
        clocks.chain(servers).collect()
    }
}
