//! What shall run after a reload, and what the cores and the agent are told of it: a value, made before anybody is told.
//!
//! Services have places on a node, which are their groups' indices; one that comes takes the first that is free, and one that
//! leaves the file keeps its own until nothing of it is left. Servers have places inside of their service likewise.

use super::Settled;
use crate::config::{self, Application, Config};
use crate::node::{build_service, load_content};
use cluster::engine::Setting;
use cluster::id::GroupId;
use stack::service::Service;
use stack::shard::Place;
use stack::stack::Renewal;
use stack::upstream::SERVERS_MAX;

/// What shall run, and what the cores are told of it.
pub(super) struct Plan {
    pub file: Config,
    pub config: Config,
    /// The services of `config`, one by one, as the cores have them.
    pub services: Vec<Service>,
    /// By the indices of groups.
    pub steps: Vec<(u8, Step)>,
}

/// What becomes of a group on every core.
#[derive(Clone)]
pub(super) enum Step {
    /// Its service has other settings.
    Renew(Service),
    /// It comes.
    Arrive(GroupId, Service),
    /// It leaves, in this attempt, or stays.
    Leave(Option<u32>),
    /// Nothing of it is left.
    Vacate,
}

impl Step {
    /// With all that one core needs for it.
    pub fn setting(&self, place: Place) -> Setting {
        match self {
            Step::Renew(service) => Setting::Renew(Renewal::new(service.clone(), place)),
            Step::Arrive(group, service) => {
                Setting::Occupy(*group, Renewal::new(service.clone(), place))
            }
            Step::Leave(attempt) => Setting::Leave(*attempt),
            Step::Vacate => Setting::Occupy(GroupId::NONE, Renewal::vacant(place)),
        }
    }
}

impl Plan {
    /// What the file says, where `running` and `services` are what runs. `free` has the places of retired servers without
    /// connections, service by service; what leaves does so in this attempt.
    pub fn new(
        (running, services): (&Config, &[Service]),
        file: Config,
        settled: &Settled,
        free: &[Vec<usize>],
        attempt: u32,
    ) -> Result<Plan, String> {
        settled.refuse(running, &file)?;
        let config = succeed(running, &file, free, attempt)?;
        let (mut built, mut steps) = (Vec::new(), Vec::new());
        for service in &config.services {
            let known = running.services.iter().position(|known| known.id == service.id);
            let of_service = match known {
                Some(n) => {
                    let (old, now) = (&running.services[n], &services[n]);
                    built.push(renewed(old, service, now, settled.mtu));
                    steps_between(old, service, built.last().expect("it was just built"))
                }
                None => {
                    let content = load_content(&config, service).map_err(|e| e.to_string())?;
                    built.push(build_service(service, settled.mtu, content));
                    Vec::new()
                }
            };
            for (index, group) in config.groups_of(service) {
                if known.is_none() {
                    let service = built.last().expect("it was just built").clone();
                    steps.push((index, Step::Arrive(group, service)));
                }
                steps.extend(of_service.iter().map(|step| (index, step.clone())));
            }
        }
        Ok(Plan { file, config, services: built, steps })
    }

    /// The services that come.
    pub fn arrivals(&self) -> impl Iterator<Item = (&config::Service, u8, GroupId)> {
        let arriving = self.steps.iter().filter_map(|(index, step)| match step {
            Step::Arrive(group, _) => Some((*index, *group)),
            _ => None,
        });
        arriving.filter_map(|(index, group)| Some((self.config.service(group)?, index, group)))
    }

    /// Whether a service stays that was about to leave.
    pub fn is_recall(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Leave(None)))
    }
}

/// A service with the settings of `new`; what it serves stays as it was pinned.
fn renewed(old: &config::Service, new: &config::Service, running: &Service, mtu: usize) -> Service {
    match is_same(old, new) {
        true => running.clone(),
        false => build_service(new, mtu, running.content.clone()),
    }
}

/// Whether the settings are the same, be it leaving or not.
fn is_same(old: &config::Service, new: &config::Service) -> bool {
    config::Service { leaving: old.leaving, ..new.clone() } == *old
}

fn steps_between(old: &config::Service, new: &config::Service, built: &Service) -> Vec<Step> {
    let renews = (!is_same(old, new)).then(|| Step::Renew(built.clone()));
    let leaves = (old.leaving != new.leaving).then_some(Step::Leave(new.leaving));
    renews.into_iter().chain(leaves).collect()
}

/// The configuration that runs when `next` follows `running`: services and servers keep their places, what is not in the file
/// any more leaves.
fn succeed(
    running: &Config,
    next: &Config,
    free: &[Vec<usize>],
    attempt: u32,
) -> Result<Config, String> {
    let mut config = next.clone();
    let known = |id: u32| running.services.iter().position(|known| known.id == id);
    let taken = |place: &u8| running.services.iter().any(|known| known.place == *place);
    let places_max = (Config::SERVICES_MAX / usize::from(next.generations())) as u8;
    let mut vacant = (0..places_max).filter(|place| !taken(place));
    for service in &mut config.services {
        let Some(n) = known(service.id) else {
            service.place = vacant.next().ok_or_else(|| {
                format!(
                    "there is no place for {}: a node has {places_max} services at most, and one that leaves keeps its place \
                     while it has connections; nothing was changed",
                    service.name
                )
            })?;
            continue;
        };
        (service.place, service.leaving) = (running.services[n].place, None);
        keep_servers(service, &running.services[n], free.get(n).map_or(&[], Vec::as_slice))?;
    }
    let is_named = |known: &config::Service| next.services.iter().any(|s| s.id == known.id);
    let leaving = running.services.iter().filter(|known| !is_named(known)).cloned();
    config.services.extend(
        leaving.map(|service| config::Service {
            leaving: service.leaving.or(Some(attempt)),
            ..service
        }),
    );
    Ok(config)
}

fn keep_servers(
    service: &mut config::Service,
    known: &config::Service,
    free: &[usize],
) -> Result<(), String> {
    let (Application::Proxy(new), Application::Proxy(old)) =
        (&mut service.application, &known.application)
    else {
        return Ok(());
    };
    new.servers = places(&old.servers, &new.servers, free);
    if new.servers.len() > SERVERS_MAX {
        return Err(format!(
            "{} has no place for more servers: {SERVERS_MAX} at most, and those that have left keep theirs while \
             they have connections; nothing was changed",
            service.name
        ));
    }
    Ok(())
}

/// The servers by their places: those that stay where they are, those that are gone retired, newcomers in places that
/// are `free` or behind them.
pub(super) fn places(
    running: &[config::Server],
    next: &[config::Server],
    free: &[usize],
) -> Vec<config::Server> {
    let is_same =
        |a: &config::Server, b: &config::Server| (a.address, a.port) == (b.address, b.port);
    let stays = |known: &config::Server| {
        let next = next.iter().find(|server| is_same(server, known));
        next.cloned().unwrap_or(config::Server { is_retired: true, weight: 0, ..known.clone() })
    };
    let mut servers: Vec<config::Server> = running.iter().map(stays).collect();
    let is_new = |server: &&config::Server| !running.iter().any(|known| is_same(known, server));
    // One that has come back has its place again.
    let free = free.iter().copied().filter(|&place| servers[place].is_retired);
    let mut free = free.collect::<Vec<_>>().into_iter();
    for newcomer in next.iter().filter(is_new).cloned() {
        match free.next() {
            Some(place) => servers[place] = newcomer,
            None => servers.push(newcomer),
        }
    }
    servers
}
