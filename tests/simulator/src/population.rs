//! Decides, by seed, which conversations a page begins with and what a new one is.
//! What happens to them afterwards is left to the page.

use std::cell::OnceCell;

use crate::clock::{Micros, SECOND, floor};
use crate::dice::Dice;
use crate::row::{Row, Talk};
use crate::settings::Shape;
use crate::shop::{Post, Shop, about};
use crate::times::RowTimes;
use crate::words;

/// Makes rows with ordinals counting up; remembers who wrote inbox messages, for some of them
/// comment as well.
#[derive(Debug, Default)]
pub struct Population {
    next: u64,
    last_inbox: Option<u64>,
}

impl Population {
    /// The next ordinal, for a row placed by hand.
    pub fn ordinal(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The rows a page begins with, oldest first, the newest of them a few seconds before `now`.
    pub fn settle(&mut self, shop: &Shop, count: usize, now: Micros) -> Vec<Row> {
        let newest = now - 3 * SECOND;
        let span = i128::from(newest - shop.opened);
        (0..count)
            .map(|place| {
                let ordinal = self.next;
                let mut dice = Dice::of(&[shop.key, about::ROW, ordinal]);
                let part = (place as f64 + dice.unit()) / count as f64;
                let inserted =
                    if place + 1 == count { newest } else { shop.opened + (span as f64 * part) as Micros };
                let kind = draw_kind(&mut dice);
                let mut row = self.make(shop, kind, inserted);
                grow_old(&mut row, &mut dice, newest);
                row
            })
            .collect()
    }

    /// A conversation of one message, begun at `time`.
    pub fn make(&mut self, shop: &Shop, kind: &str, time: Micros) -> Row {
        let ordinal = self.ordinal();
        let mut dice = Dice::of(&[shop.key, about::ROW, ordinal, 1]);
        let whole_seconds = matches!(kind, "COMMENT" | "RATING") || shop.shape == Shape::Article;
        let inserted = if whole_seconds { floor(time) } else { time };
        let person = match self.last_inbox {
            Some(writer) if kind != "INBOX" && dice.chance(0.3) => writer,
            _ => ordinal,
        };
        let post = recent_post(shop, &mut dice, inserted, kind == "LIVESTREAM");
        let number = 500_000_000_000_000 + dice.below(90_000) * 1_000_000_000 + ordinal;
        let (id, post_id) = match (kind, post) {
            ("RATING", _) => {
                let id = format!("{}_{number}", shop.id);
                (id.clone(), Some(id))
            }
            ("COMMENT" | "LIVESTREAM", Some(post)) => {
                (format!("{}_{number}", post.number), Some(post.id.clone()))
            }
            _ => (format!("{}_{}", shop.id, shop.person(person).psid), None),
        };
        if kind == "INBOX" {
            self.last_inbox = Some(ordinal);
        }
        Row {
            id: id.into(),
            kind: kind.to_owned(),
            post_id,
            inserted,
            updated: inserted,
            seen: false,
            tags: Vec::new(),
            ordinal,
            person,
            gone: false,
            times: RowTimes::default(),
            ended: false,
            served: None,
            whole_seconds,
            talk: Talk {
                key: dice.roll(),
                first: inserted,
                last: inserted,
                count: 1,
                later: Vec::new(),
                removed: Vec::new(),
            },
            verbatim: None,
            text: OnceCell::new(),
        }
    }
}

fn draw_kind(dice: &mut Dice) -> &'static str {
    match dice.below(100) {
        0..70 => "INBOX",
        70..95 => "COMMENT",
        95..98 => "LIVESTREAM",
        _ => "RATING",
    }
}

/// What happened to a row between its beginning and now: messages, tags, a reader.
fn grow_old(row: &mut Row, dice: &mut Dice, newest: Micros) {
    let later = (newest - row.inserted) as f64 * dice.unit().powi(4);
    if dice.chance(0.65) && later > SECOND as f64 {
        row.updated = row.inserted + later as Micros;
        row.talk.count = 2 + (dice.unit().powi(3) * 90.0) as u64;
    } else if row.kind == "INBOX" && dice.chance(0.25) {
        // Measured on live rows: `inserted_at` 5–9 s later than `updated_at`, 6 rows of 60.
        let ahead = 5 * SECOND + dice.below(4_000_000) as Micros;
        if row.inserted < newest {
            row.updated = row.inserted - ahead;
        }
    }
    if row.whole_seconds {
        row.updated = floor(row.updated);
    }
    row.talk.first = row.inserted.min(row.updated);
    row.talk.last = row.updated;
    row.seen = dice.chance(0.8);
    for _ in 0..dice.times(1.2) {
        let tag = words::TAGS.get(dice.index(words::TAGS.len())).map(|tag| tag.0);
        // Recorded: 37 of 148 entries were null, tags removed since.
        let tag = tag.filter(|tag| !dice.chance(0.25) && !row.has_tag(*tag));
        row.tags.push(tag);
    }
}

/// One of the latest posts that existed at `time`.
fn recent_post<'a>(shop: &'a Shop, dice: &mut Dice, time: Micros, live: bool) -> Option<&'a Post> {
    let known = shop.posts.partition_point(|post| post.inserted <= time).max(1);
    let posts = shop.posts.get(..known)?;
    let lives = || posts.iter().rev().find(|post| post.kind == "livestream");
    let back = dice.index(posts.len().min(20));
    live.then(lives).flatten().or_else(|| posts.iter().rev().nth(back))
}
