//! Decides what happens on a page while it is being read: scripted events, and a storm of them by chance.
//! How a row changes is left to the page.

use crate::clock::Micros;
use crate::page::Page;
use crate::switches::Switches;

/// The row an event befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Id(String),
    /// Any visible row.
    Random,
    /// The row named by the request's `last_conversation_id`.
    Cursor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(Target),
    Delete(Target),
    Retag(Target, Vec<i64>),
    /// A new conversation of this type.
    Create(String),
}

/// Brings about what is due with this conversations request, before it is answered.
pub fn blow(page: &mut Page, cursor: Option<&str>, now: Micros, switches: &Switches) {
    page.asked += 1;
    let asked = page.asked;
    let (due, waiting) = page.script.drain(..).partition(|(at, _)| *at <= asked);
    page.script = waiting;
    let due: Vec<(u64, Event)> = due;
    for (_, event) in due {
        befall(page, event, cursor, now, switches);
    }
    let storm = switches.storm;
    let several = |page: &mut Page, average: f64, event: &Event| {
        for _ in 0..page.dice.times(average) {
            befall(page, event.clone(), cursor, now, switches);
        }
    };
    several(page, storm.cursor_messages, &Event::Message(Target::Cursor));
    several(page, storm.cursor_deletes, &Event::Delete(Target::Cursor));
    several(page, storm.messages, &Event::Message(Target::Random));
    several(page, storm.deletes, &Event::Delete(Target::Random));
    several(page, storm.retags, &Event::Retag(Target::Random, vec![61, 66]));
    several(page, storm.creates, &Event::Create("INBOX".to_owned()));
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
        Event::Retag(target, tags) => {
            if let Some(index) = row(page, target) {
                page.edit(index, |row| row.retag(&tags));
            }
        }
    }
}
