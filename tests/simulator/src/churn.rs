//! Decides what happens on a page while it is being read: scripted events, and a churn of them by
//! chance. How a row changes is left to the page.

use crate::clock::Micros;
use crate::page::Page;
use crate::switches::Switches;

/// The row an event befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Id(String),
    /// Any visible row.
    Random,
    /// The row the request names: its `last_conversation_id`, or the conversation whose messages it
    /// asks for.
    Cursor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(Target),
    Delete(Target),
    /// Takes back a message, by its place from the oldest (0).
    DeleteMessage(Target, usize),
    Retag(Target, Vec<i64>),
    /// A new conversation of this type.
    Create(String),
    /// A new post.
    Publish,
    /// A post goes, by its place from the newest (0).
    Unpublish(usize),
}

/// Events that wait for the requests of one kind.
#[derive(Debug, Default)]
pub struct Script {
    asked: u64,
    waiting: Vec<(u64, Event)>,
}

impl Script {
    /// Before the `nth` request from now.
    pub fn add(&mut self, nth: u64, event: Event) {
        self.waiting.push((self.asked + nth, event));
    }

    /// Counts a request and gives what is due with it, in the order of writing.
    fn due(&mut self) -> Vec<Event> {
        self.asked += 1;
        let asked = self.asked;
        self.waiting.extract_if(.., |(at, _)| *at <= asked).map(|(_, event)| event).collect()
    }
}

/// Brings about what is due with this conversations request, before it is answered.
pub fn blow(page: &mut Page, cursor: Option<&str>, now: Micros, switches: &Switches) {
    for event in page.script.due() {
        befall(page, event, cursor, now, switches);
    }
    let churn = switches.churn;
    let several = |page: &mut Page, average: f64, event: &Event| {
        for _ in 0..page.dice.times(average) {
            befall(page, event.clone(), cursor, now, switches);
        }
    };
    several(page, churn.cursor_messages, &Event::Message(Target::Cursor));
    several(page, churn.cursor_deletes, &Event::Delete(Target::Cursor));
    several(page, churn.messages, &Event::Message(Target::Random));
    several(page, churn.deletes, &Event::Delete(Target::Random));
    several(page, churn.retags, &Event::Retag(Target::Random, vec![61, 66]));
    several(page, churn.creates, &Event::Create("INBOX".to_owned()));
}

/// Brings about what is due with this messages request, before it is answered.
pub fn talk(page: &mut Page, conversation_id: &str, now: Micros, switches: &Switches) {
    for event in page.message_script.due() {
        befall(page, event, Some(conversation_id), now, switches);
    }
}

/// Brings about what is due with this posts or customers request, before it is answered.
pub fn shift(page: &mut Page, now: Micros, switches: &Switches) {
    for event in page.list_script.due() {
        befall(page, event, None, now, switches);
    }
}

fn befall(page: &mut Page, event: Event, cursor: Option<&str>, now: Micros, switches: &Switches) {
    let row = |page: &mut Page, target: Target| match target {
        Target::Id(id) => page.find(&id),
        Target::Cursor => cursor.and_then(|id| page.find(id)),
        Target::Random => page.any(),
    };
    match event {
        Event::Create(kind) => {
            page.create(&kind, now, switches, false);
        }
        Event::Publish => page.shop.publish(now),
        Event::Unpublish(place) => page.shop.unpublish(place),
        Event::Message(target) => {
            if let Some(index) = row(page, target) {
                page.message(index, now, switches, false);
            }
        }
        Event::Delete(target) => {
            if let Some(index) = row(page, target) {
                page.delete(index);
            }
        }
        Event::DeleteMessage(target, place) => {
            if let Some(index) = row(page, target) {
                page.edit(index, |row| row.take_back(place));
            }
        }
        Event::Retag(target, tags) => {
            if let Some(index) = row(page, target) {
                page.edit(index, |row| row.retag(&tags));
            }
        }
    }
}
