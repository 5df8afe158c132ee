//! The door for tests: starts and stops a simulator, changes its behaviour, hands out its log.
//! What a page holds is left to its handle.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::certificate;
use crate::fault::{Fault, Only, Times};
use crate::handle::PageHandle;
use crate::log::Entry;
use crate::server::{Server, Shared};
use crate::settings::{SEEN_FROZEN, Settings};
use crate::switches::Switches;
use crate::world::World;

/// A running simulator; dropping it stops it and closes every connection.
#[derive(Debug)]
pub struct Simulator {
    world: Shared,
    server: Server,
    ca_pem: Option<String>,
    user_token: String,
}

impl Simulator {
    pub fn start(settings: Settings) -> io::Result<Simulator> {
        let (tls, ca_pem) = if settings.tls {
            certificate::make().map(|(tls, ca)| (Some(tls), Some(ca)))?
        } else {
            (None, None)
        };
        let world = Arc::new(Mutex::new(World::new(&settings)));
        let server = Server::start(world.clone(), settings.port, tls)?;
        Ok(Simulator { world, server, ca_pem, user_token: settings.user_token })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `http://127.0.0.1:PORT/api`, or `https` with TLS.
    pub fn base_url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/api", self.server.address)
    }

    /// The authority to trust, as PEM, with TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    pub fn user_token(&self) -> &str {
        &self.user_token
    }

    pub fn page(&self, page_id: &str) -> PageHandle {
        PageHandle { world: self.world.clone(), id: page_id.to_owned() }
    }

    /// The ids of the pages, in the order of the settings.
    pub fn page_ids(&self) -> Vec<String> {
        self.world().order.clone()
    }

    /// The first page of the settings.
    pub fn first_page(&self) -> PageHandle {
        self.page(&self.page_ids().into_iter().next().unwrap_or_default())
    }

    /// Lines `page_id:token` for all pages, as a token file holds them.
    pub fn token_file(&self) -> String {
        let world = self.world();
        let pages = world.order.iter().filter_map(|id| world.pages.get(id));
        pages.map(|page| format!("{}:{}\n", page.shop.id, page.door.token)).collect()
    }

    /// Changes the behaviour from the next request on.
    pub fn switches(&self, change: impl FnOnce(&mut Switches)) {
        let mut world = self.world();
        let World { pages, switches, .. } = &mut *world;
        change(switches);
        for page in pages.values_mut() {
            page.obey(switches);
        }
    }

    /// Sets the switches in which the live API differs from the documents (see
    /// [`Switches::as_seen`]), leaves the others, and freezes 2 % of the conversations of every
    /// page.
    ///
    /// A test that sets all switches back calls it again; rows that are frozen already count.
    pub fn as_seen(&self) {
        self.switches(Switches::apply_seen);
        for id in self.page_ids() {
            self.page(&id).freeze_share(SEEN_FROZEN);
        }
    }

    /// Arms a fault for any request.
    pub fn fault(&self, fault: Fault, how: Times) {
        self.fault_on(Only::default(), fault, how);
    }

    /// Arms a fault for the requests that `only` watches.
    pub fn fault_on(&self, only: Only, fault: Fault, how: Times) {
        self.world().faults.arm(fault, how, only);
    }

    pub fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// Moves the simulator's clock ahead.
    pub fn advance(&self, by: Duration) {
        self.world().clock.advance(by);
    }

    /// The simulator's time, in microseconds since 1970.
    pub fn now(&self) -> i64 {
        self.world().clock.now()
    }

    /// Every request so far, in the order of arrival.
    pub fn log(&self) -> Vec<Entry> {
        self.world().log.entries().to_vec()
    }

    pub fn clear_log(&self) {
        self.server.requests.reset();
        self.world().log.clear();
    }

    /// Every request since the start, `clear_log` or not.
    pub fn requests(&self) -> u64 {
        self.world().log.requests()
    }

    /// Everything the log reports a violation about.
    pub fn violations(&self) -> Vec<String> {
        self.world().log.entries().iter().flat_map(|entry| entry.violations.clone()).collect()
    }

    /// The most requests that one page got within any window of this length.
    pub fn busiest(&self, window: Duration) -> usize {
        self.world().log.busiest(window)
    }

    /// The most requests that waited for their reply's head at once, since `clear_log`.
    pub fn most_in_flight(&self) -> usize {
        self.server.requests.most()
    }

    /// Requests that wait for their reply's head now; one whose client goes away is not counted any
    /// more.
    pub fn in_flight(&self) -> usize {
        self.server.requests.now()
    }

    pub fn open_connections(&self) -> usize {
        self.server.connections.now()
    }

    /// Serves until the process ends.
    pub fn wait(self) {
        self.server.wait();
    }
}
