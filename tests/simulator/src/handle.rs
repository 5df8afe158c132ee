//! Shows a test the truth of one page, and lets it change that truth.
//! How the change is done is left to the page.

mod times;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::catalogue;
use crate::churn::Event;
use crate::door::Denial;
use crate::page::Page;
use crate::server::Shared;
use crate::shop::Shop;
use crate::switches::Switches;
use crate::world::World;

/// One page of a running simulator. A page id that it does not have is an empty page.
#[derive(Debug, Clone)]
pub struct PageHandle {
    pub(crate) world: Shared,
    pub(crate) id: String,
}

impl PageHandle {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the page as it is now.
    fn with<T: Default>(&self, act: impl FnOnce(&mut Page, i64, &Switches) -> T) -> T {
        let mut world = self.lock();
        let now = world.clock.now();
        let World { pages, switches, .. } = &mut *world;
        let Some(page) = pages.get_mut(&self.id) else { return T::default() };
        page.surface(now);
        act(page, now, switches)
    }

    /// The same, after which the clock shows the time of whatever is new: no row is dated ahead of
    /// it unless a test sets that.
    fn news<T: Default>(&self, act: impl FnOnce(&mut Page, i64, &Switches) -> T) -> T {
        let (done, ahead) = self.with(|page, now, switches| {
            let done = act(page, now, switches);
            (done, page.newest(now) - now)
        });
        self.lock().clock.advance(Duration::from_micros(ahead.max(0).unsigned_abs()));
        done
    }

    fn on_row(&self, id: &str, act: impl FnOnce(&mut Page, usize, i64, &Switches)) -> bool {
        self.with(|page, now, switches| {
            let row = page.find(id).filter(|index| page.shows(*index));
            row.map(|index| act(page, index, now, switches)).is_some()
        })
    }

    /// In microseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.with(|_, now, _| now)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn token(&self) -> String {
        self.with(|page, _, _| page.door.token.clone())
    }

    /// The visible rows, newest `updated_at` first, as they are served.
    pub fn conversations(&self) -> Vec<Value> {
        self.with(|page, _, _| page.by_updated.iter().map(|place| page.json(place.2)).collect())
    }

    pub fn conversation(&self, id: &str) -> Option<Value> {
        self.with(|page, _, _| page.find(id).filter(|index| page.shows(*index)).map(|index| page.json(index)))
    }

    /// The ids of the visible rows, newest `updated_at` first.
    pub fn ids(&self) -> Vec<String> {
        self.with(|page, _, _| {
            let rows = page.by_updated.iter().filter_map(|place| page.rows.get(place.2));
            rows.map(|row| row.id.to_string()).collect()
        })
    }

    pub fn len(&self) -> usize {
        self.with(|page, _, _| page.by_updated.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All messages of a conversation, oldest first.
    pub fn messages(&self, conversation_id: &str) -> Vec<Value> {
        self.with(|page, _, _| catalogue::all_messages(page, conversation_id))
    }

    pub fn posts(&self) -> Vec<Value> {
        self.with(|page, _, _| catalogue::all_posts(page).into_iter().map(|(_, post)| post).collect())
    }

    pub fn customers(&self) -> Vec<Value> {
        self.with(|page, _, _| catalogue::all_customers(page))
    }

    pub fn tags(&self) -> Vec<Value> {
        Shop::tags()
    }

    pub fn users(&self) -> Vec<Value> {
        self.with(|page, _, _| page.shop.users())
    }

    /// The row gets a message now and moves to the head; `false`: there is no such row.
    pub fn message(&self, id: &str) -> bool {
        self.news(|page, now, switches| {
            let row = page.find(id).filter(|index| page.shows(*index));
            row.map(|index| page.message(index, now, switches, true)).is_some()
        })
    }

    /// Takes back a message, by its place from the oldest (0): later ones move up.
    pub fn delete_message(&self, id: &str, place: usize) -> bool {
        self.on_row(id, |page, index, _, _| page.edit(index, |row| row.take_back(place)))
    }

    /// A new conversation of this type (`INBOX`, `COMMENT`, `LIVESTREAM`, `RATING`) at the head;
    /// gives its id.
    pub fn create(&self, kind: &str) -> String {
        self.news(|page, now, switches| page.create(kind, now, switches, true).to_string())
    }

    /// The row vanishes without a trace.
    pub fn delete(&self, id: &str) -> bool {
        self.on_row(id, |page, index, _, _| page.delete(index))
    }

    /// Changes tags; moves nothing.
    pub fn retag(&self, id: &str, tags: &[i64]) -> bool {
        self.on_row(id, |page, index, _, _| page.edit(index, |row| row.retag(tags)))
    }

    /// Marks as read or unread; moves nothing.
    pub fn set_seen(&self, id: &str, seen: bool) -> bool {
        self.on_row(id, |page, index, _, _| page.edit(index, |row| row.read(seen)))
    }

    /// Places a row verbatim, by its own times; one of the same id goes.
    pub fn insert_row(&self, row: Value) {
        self.with(|page, now, _| page.insert(row, now));
    }

    /// All rows go, and these take their place.
    pub fn replace_rows(&self, rows: Vec<Value>) {
        self.with(|page, now, _| {
            page.delete_all();
            for row in rows {
                page.insert(row, now);
            }
        });
    }

    /// A new token; the old one answers code 105.
    pub fn set_token(&self, token: &str) {
        self.with(|page, _, _| page.door.renew(token));
    }

    /// Closes the page to every token, or opens it again.
    pub fn deny(&self, denial: Option<Denial>) {
        self.with(|page, _, _| page.door.denial = denial);
    }

    /// This page's own requests per second, with a fresh budget.
    pub fn set_rate(&self, rate: Option<f64>) {
        self.with(|page, _, _| page.door.set_rate(rate));
    }

    /// Has something happen just before the `nth` conversations request from now (1: the next) is
    /// answered, faulted ones counted.
    pub fn at_request(&self, nth: u64, event: Event) {
        self.with(|page, _, _| page.script.add(nth, event));
    }

    /// The same for this page's messages requests.
    pub fn at_messages_request(&self, nth: u64, event: Event) {
        self.with(|page, _, _| page.message_script.add(nth, event));
    }

    /// The same for this page's requests for posts and for customers.
    pub fn at_list_request(&self, nth: u64, event: Event) {
        self.with(|page, _, _| page.list_script.add(nth, event));
    }

    /// Writes every row once, so that the first reading is as fast as the next.
    pub fn warm(&self) {
        self.with(|page, _, _| {
            for index in 0..page.rows.len() {
                page.text(index);
            }
        });
    }
}
