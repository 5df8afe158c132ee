//! This module is the doctor: it examines how a page replies. It reads token, page and first
//! replies, then makes small experiments with rows that are there, by the requests that scans send;
//! at most 40 requests under the limiter, and nothing is changed. This module decides what is
//! asked, and in which order; what the answers prove is decided by pure functions, a file for each
//! subject.

mod cursor;
mod finding;
mod forms;
mod keys;
mod kinds;
mod known;
mod list;
mod messages;
mod pages;
mod places;
mod posts;
mod reading;
mod requests;
mod rows;
mod tags;
mod times;
mod widths;

use std::ops::ControlFlow;
use std::time::SystemTime;

use cursor::{Lead, Steps};
pub use finding::{Finding, Status, prescribe};
use known::{Known, Seen};
pub use pages::ITEM as PAGES;
use reading::Reading;
use requests::Requests;

use crate::error::{Error, Result};
use crate::options::pushdown::Pushdown;
use crate::paging::cursor::Ask as CursorAsk;
use crate::paging::pager::Ask;
use crate::plan::filter::Filterable;
use crate::plan::request::Chain;
use crate::reply::envelope::{Listed, Reply};
use crate::scan::session::Session;
use crate::schema::catalogue::{Object, Pagination};
use crate::schema::keyset::Order;
use crate::time::Micros;

/// What the experiments came to so far: findings in the order of the items, and what is being
/// tried.
struct Course {
    findings: Vec<Finding>,
    item: &'static str,
}

/// What the first reply shows.
struct FirstLook {
    /// The newest rows.
    rows: Vec<Known>,
    bytes: usize,
    /// Elements of the list that are no objects.
    passed_over: u64,
    /// How many seconds Pancake's clock is ahead of ours.
    ahead: Option<i64>,
}

/// The first batches of the list in one order.
struct Walked {
    rows: Vec<Known>,
    /// Where a cursor in mid-list led.
    mid: Option<Lead>,
    /// Where the last rows of batches led.
    last: Option<Lead>,
}

/// The list in both orders.
struct Lists {
    by_inserted: Vec<Known>,
    by_updated: Vec<Known>,
}

/// The answers that are judged together, against rows that did not change meanwhile.
struct Answers {
    kinds: kinds::Answers,
    tags: Option<tags::Answers>,
    posts: Option<posts::Answers>,
    windows: Vec<(times::Window, Seen)>,
}

/// What an examination found.
pub struct Examination {
    pub findings: Vec<Finding>,
    /// It ended before its last item: the last finding is why.
    pub is_cut_short: bool,
}

impl Session {
    /// Examines the page. An error is a finding; what comes after it is left out.
    pub async fn examine(&self, pushdown: &Pushdown) -> Examination {
        let mut course = Course { findings: Vec::new(), item: list::REPLY };
        let is_cut_short = match Requests::of(self).go_through(&mut course, pushdown).await {
            Ok(ControlFlow::Continue(())) => false,
            Ok(ControlFlow::Break(())) => true,
            Err(error) => {
                self.limiter.stats.failed(&error, (self.limiter.clocks.wall_micros)());
                course.failed(&error);
                true
            }
        };
        let findings = course.findings.into_iter().map(|finding| finding.without(&self.token)).collect();
        Examination { findings, is_cut_short }
    }
}

impl Requests<'_> {
    /// Goes through all items. Breaks off at a list that is not in order, because then nothing else
    /// can be judged.
    async fn go_through(&self, course: &mut Course, pushdown: &Pushdown) -> Result<ControlFlow<()>> {
        let FirstLook { rows: newest, bytes, passed_over, ahead } = self.first_look().await?;
        let now = self.now().minus_seconds(-ahead.unwrap_or(0));
        let base_url = self.session.server.base_url.as_str();
        course.add([
            Finding::ok(
                "server",
                format!("{base_url} answers, in {} ms", self.session.tally.network.get().as_millis()),
            ),
            Finding::ok("token", "opens the page"),
            list::page(&newest, &self.session.page_id),
            Finding::ok("API", "is switched on"),
            list::reply(&newest, bytes),
            rows::verdict(&newest.iter().collect::<Vec<_>>(), passed_over, now),
            list::clock(ahead),
        ]);
        if newest.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        course.item = list::ORDER;
        let first = self.must_look(&self.head(&Chain::whole(Order::InsertedAt))).await?;
        let order = list::order(&newest, &first);
        let in_order = order.status != Status::Fail;
        course.add([order]);
        if !in_order {
            course.add([places::verdict(&newest, &first)]);
            return Ok(ControlFlow::Break(()));
        }
        let lists = self.try_cursors(course, &newest, &first).await?;
        course.revise(rows::verdict(&lists.distinct(), passed_over, now));
        self.try_forms(course, &lists, now).await?;
        let known = self.try_filters(course, &newest, &first, pushdown).await?;
        let all: Vec<_> = newest.into_iter().chain(known).collect();
        course.item = messages::ITEM;
        course.add([self.try_messages(&all).await?]);
        self.try_other_lists(course, &all, now).await?;
        Ok(ControlFlow::Continue(()))
    }

    fn now(&self) -> Micros {
        Micros((self.session.limiter.clocks.wall_micros)())
    }

    async fn first_look(&self) -> Result<FirstLook> {
        let ahead = |reply: &Reply| {
            let theirs = reply.date?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
            Some(theirs as i64 - self.now().floor_second().0)
        };
        let first = |reply: &Reply, listed: &Listed| {
            Ok(FirstLook {
                rows: known::read(listed)?,
                bytes: reply.body.len(),
                passed_over: listed.passed_over,
                ahead: ahead(reply),
            })
        };
        self.session.read(&self.head(&Chain::whole(Order::UpdatedAt)), first).await
    }

    /// Follows the list in both orders over four batches.
    async fn try_cursors(&self, course: &mut Course, newest: &[Known], first: &[Known]) -> Result<Lists> {
        course.item = cursor::CURSOR;
        let inserted = self.walk_on(first, Order::InsertedAt).await?;
        course.add([match inserted.mid {
            Some(lead) => cursor::cursor(lead, inserted.last),
            None => Finding::untried(cursor::CURSOR, "too few rows"),
        }]);
        course.item = cursor::STEPS;
        let updated = self.walk_on(newest, Order::UpdatedAt).await?;
        let steps = Steps {
            mid_by_updated: updated.mid,
            last_by_updated: updated.last,
            last_by_inserted: inserted.last,
        };
        let lists = Lists { by_inserted: inserted.rows, by_updated: updated.rows };
        let places = places::verdict(&lists.by_updated, &lists.by_inserted);
        let has_low_rows = !self.session.known(Order::UpdatedAt).ends_by_time;
        course
            .add([cursor::steps(&steps), if has_low_rows { places::with_low_rows(places) } else { places }]);
        Ok(lists)
    }

    /// Asks from a row in mid-list, from the last one of the first batch, and from the last one of
    /// what that brings.
    async fn walk_on(&self, first: &[Known], order: Order) -> Result<Walked> {
        let mut walked = Walked { rows: first.to_vec(), mid: None, last: None };
        if let Some(at) = cursor::row(first, order) {
            walked.mid = Some(self.step(&mut walked.rows, at, order).await?.0);
        }
        let mut at = first.len().checked_sub(1);
        for _ in 0..2 {
            let Some(from) = at else { break };
            let (lead, last) = self.step(&mut walked.rows, from, order).await?;
            if walked.last.is_none_or(|earlier| lead.is_bad() || earlier == Lead::Unknown) {
                walked.last = Some(lead);
            }
            at = last.filter(|last| *last > from && !lead.is_bad());
        }
        Ok(walked)
    }

    /// Asks from a row of the list, and from the one above if that may have moved or gone
    /// meanwhile. Returns where it leads, and the place of the reply's last row.
    async fn step(&self, list: &mut Vec<Known>, at: usize, order: Order) -> Result<(Lead, Option<usize>)> {
        let chain = Chain::whole(order);
        let from = |row: &Known| self.page(&chain, CursorAsk::from(&row.id));
        let mut seen = self.look(&from(&list[at])).await?;
        let mut lead = Lead::of(list, at, &seen, order);
        if lead.is_bad() && at > 0 && self.may_repeat() {
            seen = self.look_once(&from(&list[at - 1])).await?;
            lead = Lead::of(list, at - 1, &seen, order);
        }
        // Rows that moved meanwhile prove nothing about the places of the others.
        if !lead.is_bad() && lead != Lead::Unknown {
            cursor::append(list, &seen);
        }
        let last = match &seen {
            Seen::Rows(rows) => rows.last(),
            Seen::Refused => None,
        };
        let place = last.and_then(|last| list.iter().position(|row| row.id == last.id));
        Ok((lead, place))
    }

    /// Asks for windows by their width, and for `since` alone.
    async fn try_forms(&self, course: &mut Course, lists: &Lists, now: Micros) -> Result<()> {
        course.item = forms::MONTH;
        course.add([forms::month(self.try_form(lists, now, forms::Edges::month).await?)]);
        course.item = forms::WIDE;
        course.add([forms::wide(self.try_form(lists, now, forms::Edges::wide).await?)]);
        course.item = forms::LONE;
        course.add([forms::lone(self.try_form(lists, now, forms::Edges::lone).await?)]);
        Ok(())
    }

    async fn try_form(
        &self,
        lists: &Lists,
        now: Micros,
        form: impl Fn(forms::Edges) -> CursorAsk,
    ) -> Result<forms::Both> {
        let ask = |order| Some(form(forms::Edges::of(lists.by(order), order, now)?));
        let (Some(inserted), Some(updated)) = (ask(Order::InsertedAt), ask(Order::UpdatedAt)) else {
            return Ok([None; 2]);
        };
        let asks = |order| if order == Order::InsertedAt { &inserted } else { &updated };
        let address = |order| self.page(&Chain::whole(order), asks(order).clone());
        let [by_inserted, by_updated] = self.look_in_both(address).await?;
        let read = |order, seen| Some(forms::read(lists.by(order), order, asks(order), seen));
        Ok([read(Order::InsertedAt, &by_inserted), read(Order::UpdatedAt, &by_updated)])
    }

    /// Asks for what filters select, and returns the rows that did not change meanwhile.
    async fn try_filters(
        &self,
        course: &mut Course,
        newest: &[Known],
        first: &[Known],
        pushdown: &Pushdown,
    ) -> Result<Vec<Known>> {
        let answers = self.ask_filters(course, newest, first).await?;
        course.item = times::COLUMN;
        let by_updated_window = match times::Window::by_updated_at(newest) {
            Some(window) => Some(self.in_window(window, Order::UpdatedAt).await?),
            None => None,
        };
        // What changed since the first look proves nothing.
        let known: Vec<_> = match self.look(&self.head(&Chain::whole(Order::InsertedAt))).await? {
            Seen::Refused => first.to_vec(),
            Seen::Rows(again) => {
                first.iter().filter(|row| again.iter().any(|now| row.is_still(now))).cloned().collect()
            }
        };
        course.add([
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
        course.add(times::verdicts(&answers.windows, &known));
        course.add([times::column(by_updated_window.as_ref(), newest)]);
        Ok(known)
    }

    async fn ask_filters(&self, course: &mut Course, newest: &[Known], first: &[Known]) -> Result<Answers> {
        let rows: Vec<_> = first.iter().chain(newest).cloned().collect();
        course.item = kinds::ITEM;
        let kinds = self.ask_kinds(&rows).await?;
        course.item = tags::ITEM;
        let tags = match tags::choose(first).or_else(|| tags::choose(&rows)) {
            Some((tag, other)) => Some(self.ask_tags(tag, other).await?),
            None => None,
        };
        course.item = posts::ITEM;
        let comments = match &kinds.comment {
            Seen::Rows(comments) => comments.as_slice(),
            Seen::Refused => &[],
        };
        let posts = match posts::choose(&rows, comments) {
            Some(choice) => Some(self.ask_posts(choice, first).await?),
            None => None,
        };
        course.item = times::SINCE;
        let mut windows = Vec::new();
        for window in times::Window::by_inserted_at(first) {
            windows.push(self.in_window(window, Order::InsertedAt).await?);
        }
        Ok(Answers { kinds, tags, posts, windows })
    }

    async fn ask_kinds(&self, rows: &[Known]) -> Result<kinds::Answers> {
        let whole = Chain::whole(Order::InsertedAt);
        let of_kind = |kind: &str| self.head(&Chain { kind: Some(kind.to_owned()), ..whole.clone() });
        Ok(kinds::Answers {
            inbox: self.look(&of_kind("INBOX")).await?,
            comment: self.look(&of_kind("COMMENT")).await?,
            listed: self.look(&of_kind("INBOX,COMMENT")).await?,
            repeated: self.look(&of_kind("INBOX").param("type", "COMMENT")).await?,
            unlisted: match kinds::unlisted(rows) {
                Some(kind) => Some((kind.clone(), self.look(&of_kind(&kind)).await?)),
                None => None,
            },
        })
    }

    async fn ask_tags(&self, tag: String, other: Option<String>) -> Result<tags::Answers> {
        let of_tags = |tags: Vec<String>| self.head(&Chain { tags, ..Chain::whole(Order::InsertedAt) });
        let one = self.look(&of_tags(vec![tag.clone()])).await?;
        let two = match other {
            Some(other) => {
                let seen = self.look(&of_tags(vec![tag.clone(), other.clone()])).await?;
                Some((other, seen))
            }
            None => None,
        };
        Ok(tags::Answers { tag, one, two })
    }

    async fn ask_posts(&self, choice: posts::Choice, known: &[Known]) -> Result<posts::Answers> {
        let of = |posts: &str, kind: Option<&str>| {
            let (post_id, kind) = (Some(posts.to_owned()), kind.map(str::to_owned));
            self.head(&Chain { post_id, kind, ..Chain::whole(Order::InsertedAt) })
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
        let seen = self.look(&self.window(&Chain::whole(order), since, until)).await?;
        Ok((window, seen))
    }

    async fn try_messages(&self, known: &[Known]) -> Result<Finding> {
        let Some(conversation) = messages::choose(known) else {
            return Ok(Finding::untried(messages::ITEM, "no conversation"));
        };
        let conversation_id = Some(conversation.id.clone());
        let chain = Chain { conversation_id, ..Chain::whole(Object::Messages.order()) };
        let newest = self.list(Object::Messages, &chain, &Ask::Skip(0)).await?;
        let next = match messages::skip(&newest) {
            Some(rows) => Some(self.list(Object::Messages, &chain, &Ask::Skip(rows)).await?),
            None => None,
        };
        Ok(messages::verdict(conversation, &newest, next.as_ref()))
    }

    /// Asks for posts and customers by windows of both widths, and whether posts and users are what
    /// rows name.
    async fn try_other_lists(&self, course: &mut Course, known: &[Known], now: Micros) -> Result<()> {
        course.item = Object::Posts.name();
        let posts = self.ask_widths(Object::Posts, now).await?;
        course.add([widths::verdict(Object::Posts, &posts)]);
        course.item = Object::Customers.name();
        let customers = self.ask_widths(Object::Customers, now).await?;
        let (rows, is_whole) = posts.rows();
        course.add([widths::verdict(Object::Customers, &customers), keys::posts(rows, is_whole, known)]);
        course.item = keys::USERS;
        let users = self.list(Object::Users, &Chain::whole(Object::Users.order()), &Ask::Whole).await?;
        course.add([keys::users(&users, known)]);
        Ok(())
    }

    async fn ask_widths(&self, object: Object, now: Micros) -> Result<widths::Answers> {
        let chain = Chain::whole(object.order());
        let size = match object.paging() {
            Pagination::TimeSlices { batch } => batch,
            Pagination::Cursor | Pagination::Offset | Pagination::Single => 1,
        };
        let wide = self.list(object, &chain, &widths::wide(now, size)).await?;
        let (narrow, since) = widths::narrow(now, size);
        Ok(widths::Answers { wide, narrow: self.list(object, &chain, &narrow).await?, since })
    }
}

impl Lists {
    fn by(&self, order: Order) -> &[Known] {
        if order == Order::UpdatedAt { &self.by_updated } else { &self.by_inserted }
    }

    /// The rows of both orders, each once.
    fn distinct(&self) -> Vec<&Known> {
        let is_new = |row: &&Known| !self.by_updated.iter().any(|other| other.id == row.id);
        self.by_updated.iter().chain(self.by_inserted.iter().filter(is_new)).collect()
    }
}

impl Course {
    fn add<const N: usize>(&mut self, findings: [Finding; N]) {
        self.findings.extend(findings);
    }

    /// Replaces what was found of an item before.
    fn revise(&mut self, finding: Finding) {
        if let Some(earlier) = self.findings.iter_mut().find(|earlier| earlier.item == finding.item) {
            *earlier = finding;
        }
    }

    /// An error stands under the item that it speaks of, once.
    fn failed(&mut self, error: &Error) {
        let finding = Finding::of_error(error, self.item);
        // Any reply at all shows that the server is there.
        self.findings.retain(|earlier| earlier.item != finding.item);
        self.findings.push(finding);
    }
}

#[cfg(test)]
#[path = "examination_tests.rs"]
mod tests;
