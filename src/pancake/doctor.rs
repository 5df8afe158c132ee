//! The doctor: how a page really answers. One look at token, page and reply, then small experiments with rows that are
//! there; some twenty requests under the meter, and nothing is changed. Here is what is asked and in which order; what
//! the answers prove is decided by pure functions, a file for each subject.

mod finding;
mod keys;
mod kinds;
mod known;
mod list;
mod pages;
mod posts;
mod reading;
mod rows;
mod tags;
mod times;

use std::time::SystemTime;

pub use finding::{Finding, Status, prescribe};
use keys::Keyed;
use known::{Known, Seen};
pub use pages::ITEM as PAGES;
use reading::Reading;

use crate::asking::Answer;
use crate::catalogue::{Object, Paging};
use crate::endpoint::address;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::filter::Filterable;
use crate::place::Order;
use crate::plan::{Chain, RequestPlan};
use crate::pushdown::Pushdown;
use crate::reply::Reply;
use crate::scan::Scan;
use crate::time::{Micros, UnixSeconds};
use crate::walk;
use crate::walker::Ask;
use crate::windows::Numbered;

/// A post may be dated a little ahead of our clock.
const AHEAD_SECONDS: i64 = 86_400;

/// What the experiments came to so far: findings in the order of the items, and what is being tried.
struct Course {
    findings: Vec<Finding>,
    item: &'static str,
}

/// What the first reply shows.
struct FirstLook {
    /// The newest rows.
    rows: Vec<Known>,
    bytes: usize,
    /// How many seconds Pancake's clock is ahead of ours.
    ahead: Option<i64>,
    unusual: Finding,
}

/// The answers that are judged together, against rows that did not change meanwhile.
struct Answers {
    by_inserted: Vec<Known>,
    kinds: kinds::Answers,
    tags: Option<tags::Answers>,
    posts: Option<posts::Answers>,
    windows: Vec<(times::Window, Seen)>,
}

impl Scan {
    /// Examines the page. An error is a finding; what comes after it is left out.
    pub async fn examine(&self, pushdown: &Pushdown) -> Vec<Finding> {
        let mut course = Course { findings: Vec::new(), item: list::REPLY };
        if let Err(error) = self.go_through(&mut course, pushdown).await {
            self.meter.stats.failed(&error, (self.meter.clocks.wall_micros)());
            course.failed(&error);
        }
        course.findings.into_iter().map(|finding| finding.without(&self.token)).collect()
    }

    async fn go_through(&self, course: &mut Course, pushdown: &Pushdown) -> Result<()> {
        let FirstLook { rows: by_updated, bytes, ahead, unusual } = self.first_look().await?;
        let base_url = self.server.base_url.as_str();
        course.say([
            Finding::ok(
                "server",
                format!("{base_url} answers, in {} ms", self.tally.network.get().as_millis()),
            ),
            Finding::ok("token", "opens the page"),
            list::page(&by_updated, &self.page_id),
            Finding::ok("API", "is switched on"),
            list::reply(&by_updated, bytes),
            unusual,
            list::clock(ahead),
        ]);
        if by_updated.is_empty() {
            return Ok(());
        }
        course.item = list::ORDER;
        let by_inserted = self.must_look(&self.beginning(&Chain::whole(Order::InsertedAt))).await?;
        let order = list::order(&by_updated, &by_inserted);
        let in_order = order.status != Status::Fail;
        course.say([order]);
        if !in_order {
            return Ok(());
        }
        course.item = list::CURSOR;
        course.say([self.try_cursor(&by_inserted).await?]);
        let answers = self.try_filters(course, &by_updated, by_inserted).await?;
        course.item = times::COLUMN;
        let by_updated_window = match times::Window::by_updated_at(&by_updated) {
            Some(window) => Some(self.in_window(window, Order::UpdatedAt).await?),
            None => None,
        };
        // What changed since the first look proves nothing.
        let again = self.must_look(&self.beginning(&Chain::whole(Order::InsertedAt))).await?;
        let same =
            |row: &Known| again.iter().any(|now| Known { updated_at: row.updated_at, ..now.clone() } == *row);
        let known: Vec<_> = answers.by_inserted.iter().filter(|row| same(row)).cloned().collect();
        course.say([
            kinds::verdict(&answers.kinds, &known),
            match &answers.tags {
                Some(tags) => tags::verdict(tags, &known),
                None => Finding::untried(tags::ITEM, "none of the newest conversations has a tag"),
            },
            match &answers.posts {
                Some(posts) => posts::verdict(posts, &known, pushdown.trusts(Filterable::PostId)),
                None => Finding::untried(posts::ITEM, "no comment of a post"),
            },
        ]);
        course.say(times::verdicts(&answers.windows, &known));
        course.say([times::column(by_updated_window.as_ref(), &by_updated)]);
        let all: Vec<_> = by_updated.into_iter().chain(known).collect();
        course.item = "posts.id";
        let (posts, total) = self.keys(Object::Posts).await?;
        let whole = total.is_some_and(|total| total <= posts.len() as u64);
        course.say([keys::posts(&posts, whole, &all)]);
        course.item = "users.id";
        let (users, _) = self.keys(Object::Users).await?;
        course.say([keys::users(&users, &all)]);
        Ok(())
    }

    async fn first_look(&self) -> Result<FirstLook> {
        let ahead = |reply: &Reply| {
            let theirs = reply.date?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
            Some(theirs as i64 - Micros((self.meter.clocks.wall_micros)()).floor_second().0)
        };
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(None),
            Answer::Rows(reply, listed) => Ok(Some(FirstLook {
                rows: known::read(listed)?,
                bytes: reply.body.len(),
                ahead: ahead(reply),
                unusual: rows::verdict(listed),
            })),
        };
        self.answer(&self.beginning(&Chain::whole(Order::UpdatedAt)), None, take).await
    }

    async fn try_cursor(&self, rows: &[Known]) -> Result<Finding> {
        let Some(at) = list::cursor_row(rows) else {
            return Ok(Finding::untried(list::CURSOR, "too few rows"));
        };
        let from = |row: &Known| {
            let ask = walk::Ask { cursor: Some(row.id.clone()), since: None, until: None };
            address(self.object, &self.page_id, &Chain::whole(Order::InsertedAt), &Ask::Cursor(ask))
        };
        let finding = list::cursor(rows, at, &self.look(&from(&rows[at])).await?);
        match finding.status {
            Status::Ok => Ok(finding),
            // That row may have gone meanwhile.
            _ => Ok(list::cursor(rows, at - 1, &self.look(&from(&rows[at - 1])).await?)),
        }
    }

    async fn try_filters(
        &self,
        course: &mut Course,
        by_updated: &[Known],
        by_inserted: Vec<Known>,
    ) -> Result<Answers> {
        let rows: Vec<_> = by_inserted.iter().chain(by_updated).cloned().collect();
        course.item = kinds::ITEM;
        let whole = Chain::whole(Order::InsertedAt);
        let of_kind = |kind: &str| self.beginning(&Chain { kind: Some(kind.to_owned()), ..whole.clone() });
        let kinds = kinds::Answers {
            inbox: self.look(&of_kind("INBOX")).await?,
            comment: self.look(&of_kind("COMMENT")).await?,
            listed: self.look(&of_kind("INBOX,COMMENT")).await?,
            repeated: self.look(&of_kind("INBOX").param("type", "COMMENT")).await?,
            unlisted: match kinds::unlisted(&rows) {
                Some(kind) => Some((kind.clone(), self.look(&of_kind(&kind)).await?)),
                None => None,
            },
        };
        course.item = tags::ITEM;
        let of_tags = |tags: Vec<String>| self.beginning(&Chain { tags, ..whole.clone() });
        let tags = match tags::choose(&by_inserted).or_else(|| tags::choose(&rows)) {
            Some((tag, other)) => Some(tags::Answers {
                one: self.look(&of_tags(vec![tag.clone()])).await?,
                two: match other {
                    Some(other) => {
                        let seen = self.look(&of_tags(vec![tag.clone(), other.clone()])).await?;
                        Some((other, seen))
                    }
                    None => None,
                },
                tag,
            }),
            None => None,
        };
        course.item = posts::ITEM;
        let comments = match &kinds.comment {
            Seen::Rows(comments) => comments.as_slice(),
            Seen::Refused => &[],
        };
        let posts = match posts::choose(&rows, comments) {
            Some(choice) => Some(self.try_posts(choice, &by_inserted).await?),
            None => None,
        };
        course.item = times::SINCE;
        let mut windows = Vec::new();
        for window in times::Window::by_inserted_at(&by_inserted) {
            windows.push(self.in_window(window, Order::InsertedAt).await?);
        }
        Ok(Answers { by_inserted, kinds, tags, posts, windows })
    }

    async fn try_posts(&self, choice: posts::Choice, known: &[Known]) -> Result<posts::Answers> {
        let of = |posts: &str, kind: Option<&str>| {
            let kind = kind.map(str::to_owned);
            self.beginning(&Chain {
                post_id: Some(posts.to_owned()),
                kind,
                ..Chain::whole(Order::InsertedAt)
            })
        };
        let bare = self.look(&of(&choice.post, None)).await?;
        let (mut beside, mut list, mut others) = (Vec::new(), None, None);
        match posts::reads(&bare, known, &choice.post) {
            Reading::Obeyed | Reading::Untold => {
                if let Some(other) = &choice.other {
                    list = Some(self.look(&of(&format!("{},{other}", choice.post), None)).await?);
                }
                if let Some(post) = choice.no_comment.as_ref().and_then(|row| row.post_id.as_deref()) {
                    others = Some(self.look(&of(post, None)).await?);
                }
            }
            _ => {
                for kind in ["COMMENT", "POST"] {
                    beside.push((kind, self.look(&of(&choice.post, Some(kind))).await?));
                }
            }
        }
        Ok(posts::Answers { choice, bare, beside, list, others })
    }

    async fn in_window(&self, window: times::Window, order: Order) -> Result<(times::Window, Seen)> {
        let (since, until) = window.bounds(order);
        let seen = self.look(&self.window(&Chain::whole(order), Some(since), Some(until))).await?;
        Ok((window, seen))
    }

    /// The ids of the first batch of another list of the page, and how many rows it has.
    async fn keys(&self, object: Object) -> Result<(Vec<Keyed>, Option<u64>)> {
        let chain = Chain::whole(object.order());
        let ask = match object.paging() {
            Paging::Windows { batch } => Ask::Numbered(Numbered {
                since: UnixSeconds(1),
                until: UnixSeconds(
                    Micros((self.meter.clocks.wall_micros)()).floor_second().0 + AHEAD_SECONDS,
                ),
                number: 1,
                size: batch,
            }),
            _ => Ask::Whole,
        };
        let take = |answer: Answer| match answer {
            Answer::Suspect => Ok(None),
            Answer::Rows(_, listed) => {
                let text =
                    |fields: &Fields, key| crate::cell::text(fields.get(key)).map(|text| text.into_owned());
                let keyed =
                    |fields: &Fields| Some(Keyed { id: text(fields, "id")?, fb_id: text(fields, "fb_id") });
                Ok(Some((listed.rows.iter().filter_map(keyed).collect(), listed.total)))
            }
        };
        self.beside(object).answer(&address(object, &self.page_id, &chain, &ask), None, take).await
    }

    /// The same page by another list.
    fn beside(&self, object: Object) -> Scan {
        Scan {
            object,
            server: self.server.clone(),
            page_id: self.page_id.clone(),
            token: self.token.clone(),
            plan: RequestPlan::default(),
            trusts_post_ids: self.trusts_post_ids,
            wanted: Vec::new(),
            meter: self.meter.clone(),
            tally: self.tally.clone(),
            client: self.client.clone(),
            outlet: self.outlet.clone(),
            opening: self.opening.clone(),
        }
    }
}

impl Course {
    fn say<const N: usize>(&mut self, findings: [Finding; N]) {
        self.findings.extend(findings);
    }

    /// An error stands under the item that it speaks of, once.
    fn failed(&mut self, error: &Error) {
        let finding = Finding::of_error(error, self.item);
        // That anything was answered at all says that the server is there.
        self.findings.retain(|earlier| earlier.item != finding.item);
        self.findings.push(finding);
    }
}
