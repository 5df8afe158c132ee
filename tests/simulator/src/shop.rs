//! Knows what belongs to a page beside its conversations: posts, staff, tags, and the people who
//! write. Conversations themselves are left to `row`.

use serde_json::{Value, json};

use crate::clock::{DAY, Micros, SECOND, floor, seconds};
use crate::dice::{Dice, number_of};
use crate::settings::{PageSettings, Shape};
use crate::words;

/// What dice are thrown for; keeps the draws of different things apart.
pub mod about {
    pub const PERSON: u64 = 1;
    pub const STAFF: u64 = 2;
    pub const POST: u64 = 3;
    pub const ROW: u64 = 4;
    pub const CELLS: u64 = 5;
    pub const MESSAGE: u64 = 6;
    pub const FROZEN: u64 = 7;
}

#[derive(Debug, Clone)]
pub struct Post {
    pub id: String,
    pub number: u64,
    pub kind: &'static str,
    pub message: &'static str,
    pub inserted: Micros,
    key: u64,
}

#[derive(Debug, Clone)]
pub struct Staff {
    pub uid: String,
    pub name: &'static str,
    pub fb_id: String,
}

/// Someone who writes to the page.
#[derive(Debug, Clone)]
pub struct Person {
    pub name: String,
    pub psid: String,
    /// The key shared with `page_customers.customer_id`.
    pub customer_id: String,
    /// The page's own record of the customer.
    pub record_id: String,
    pub phone: Option<String>,
    pub gender: &'static str,
    pub birthday: Option<String>,
}

#[derive(Debug)]
pub struct Shop {
    pub id: String,
    pub name: String,
    pub shape: Shape,
    pub row_bytes: Option<usize>,
    pub posts: Vec<Post>,
    pub staff: Vec<Staff>,
    /// When the first conversation may have begun.
    pub opened: Micros,
    pub key: u64,
}

impl Shop {
    pub fn open(page: &PageSettings, seed: u64, now: Micros) -> Shop {
        let key = Dice::of(&[seed, number_of(&page.id)]).roll();
        let opened = now - i64::from(page.days.max(1)) * DAY;
        let count = page.posts.unwrap_or_else(|| (page.conversations / 40).clamp(3, 300));
        let posts = (0..count)
            .map(|ordinal| {
                post(&page.id, key, ordinal, opened + (now - opened) * ordinal as i64 / count as i64)
            })
            .collect();
        let staff = words::STAFF
            .iter()
            .enumerate()
            .map(|(ordinal, name)| {
                let mut dice = Dice::of(&[key, about::STAFF, ordinal as u64]);
                Staff {
                    uid: dice.uuid(),
                    name,
                    fb_id: format!("{}", 200_000_000_000_000 + dice.below(1_000_000_000)),
                }
            })
            .collect();
        Shop {
            id: page.id.clone(),
            name: page.name.clone(),
            shape: page.shape,
            row_bytes: page.row_bytes,
            posts,
            staff,
            opened,
            key,
        }
    }

    /// A new post, later than all others.
    pub fn publish(&mut self, now: Micros) {
        let newest = self.posts.last().map_or(now, |post| now.max(post.inserted + SECOND));
        let ordinal =
            self.posts.iter().map(|post| post.number % 1_000_000).max().map_or(0, |last| last as usize + 1);
        self.posts.push(post(&self.id, self.key, ordinal, newest));
    }

    /// A post goes, by its place from the newest.
    pub fn unpublish(&mut self, place: usize) {
        if let Some(index) = self.posts.len().checked_sub(place + 1) {
            self.posts.remove(index);
        }
    }

    pub fn person(&self, ordinal: u64) -> Person {
        let mut dice = Dice::of(&[self.key, about::PERSON, ordinal]);
        let name =
            format!("{} {} {}", dice.pick(words::FAMILY), dice.pick(words::MIDDLE), dice.pick(words::GIVEN));
        // The ordinal at the end keeps ids apart.
        let psid = format!("{}", 7_000_000_000_000_000 + dice.below(90_000) * 10_000_000_000 + ordinal);
        let phone = dice.chance(0.6).then(|| format!("09{:08}", dice.below(100_000_000)));
        let birthday = dice.chance(0.2).then(|| format!("{}-00-00", 1970 + dice.below(38)));
        Person {
            name,
            psid,
            customer_id: dice.uuid(),
            record_id: dice.uuid(),
            phone,
            gender: dice.pick(&["female", "female", "male"]),
            birthday,
        }
    }

    /// The tags of the page; a tag's `color` and `lighten_color` go into the rows as well.
    pub fn tag(id: i64) -> Option<Value> {
        words::TAGS
            .iter()
            .find(|tag| tag.0 == id)
            .map(|(id, text, color, light)| {
                json!({"id": id, "text": text, "color": color, "lighten_color": light})
            })
    }

    pub fn tags() -> Vec<Value> {
        let mut tags: Vec<Value> = words::TAGS.iter().filter_map(|tag| Shop::tag(tag.0)).collect();
        if let Some(last) = tags.last_mut() {
            last["is_lead_event"] = json!(true);
            last["is_deactive"] = json!(true);
            last["description"] = json!("Khách đến từ quảng cáo");
        }
        tags
    }

    pub fn users(&self) -> Vec<Value> {
        let user = |(ordinal, staff): (usize, &Staff)| {
            let mut user = json!({
                "id": staff.uid, "name": staff.name, "status": "available", "fb_id": staff.fb_id,
                "is_online": ordinal % 2 == 0,
            });
            if ordinal % 2 == 0 {
                user["email"] = json!(format!("nv{ordinal}@shop.example"));
            }
            user
        };
        self.staff.iter().enumerate().map(user).collect()
    }
}

impl Post {
    pub fn json(&self, page: &Shop, comments: usize) -> Value {
        let mut dice = Dice::of(&[self.key, 1]);
        json!({
            "id": self.id, "page_id": page.id, "from": {"id": page.id, "name": page.name},
            "message": self.message, "type": self.kind, "inserted_at": seconds(self.inserted),
            "comment_count": comments, "phone_number_count": comments / 3,
            "reactions": {
                "like_count": dice.below(500), "love_count": dice.below(200), "haha_count": dice.below(40),
                "wow_count": dice.below(20), "sad_count": dice.below(5), "angry_count": dice.below(3),
            },
        })
    }
}

fn post(page_id: &str, key: u64, ordinal: usize, inserted: Micros) -> Post {
    let mut dice = Dice::of(&[key, about::POST, ordinal as u64]);
    let number = 300_000_000_000_000 + dice.below(90_000) * 1_000_000 + ordinal as u64;
    Post {
        id: format!("{page_id}_{number}"),
        number,
        kind: dice.pick(&["photo", "photo", "photo", "video", "text", "livestream"]),
        message: dice.pick(words::POSTS),
        inserted: floor(inserted.max(SECOND)),
        key: dice.roll(),
    }
}
