//! This module is the doctor: it examines how a page replies. It reads token, page and first
//! replies, then makes small experiments with rows that are there, by the requests that scans send;
//! at most 40 requests under the limiter, and nothing is changed. This module decides what is
//! asked, and in which order; what the answers prove is decided by pure functions, a file for each
//! subject.

mod cursor;
mod filters;
mod finding;
mod forms;
mod keys;
mod kinds;
mod known;
mod list;
mod messages;
mod orders;
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

pub use finding::{Finding, Status, prescribe};
use known::KnownRow;
use orders::Lists;
pub use pages::ITEM as PAGES;
use requests::Requests;

use crate::error::{Error, Result};
use crate::options::pushdown::PushdownOption;
use crate::paging::cursor::CursorParams;
use crate::paging::pager::BatchParams;
use crate::plan::request::Chain;
use crate::reply::envelope::{Reply, RowList};
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
    rows: Vec<KnownRow>,
    bytes: usize,
    /// Elements of the list that are no objects.
    passed_over: u64,
    /// How many seconds Pancake's clock is ahead of ours.
    ahead: Option<i64>,
}

/// What an examination found.
pub struct Examination {
    pub findings: Vec<Finding>,
    /// It ended before its last item: the last finding is why.
    pub is_cut_short: bool,
}

impl Session {
    /// Examines the page. An error is a finding; what comes after it is left out.
    pub async fn examine(&self, pushdown: &PushdownOption) -> Examination {
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
    async fn go_through(&self, course: &mut Course, pushdown: &PushdownOption) -> Result<ControlFlow<()>> {
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
        let first = |reply: &Reply, listed: &RowList| {
            Ok(FirstLook {
                rows: known::read(listed)?,
                bytes: reply.body.len(),
                passed_over: listed.passed_over,
                ahead: ahead(reply),
            })
        };
        self.session.read(&self.head(&Chain::whole(Order::UpdatedAt)), first).await
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
        form: impl Fn(forms::Edges) -> CursorParams,
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

    async fn try_messages(&self, known: &[KnownRow]) -> Result<Finding> {
        let Some(conversation) = messages::choose(known) else {
            return Ok(Finding::untried(messages::ITEM, "no conversation"));
        };
        let conversation_id = Some(conversation.id.clone());
        let chain = Chain { conversation_id, ..Chain::whole(Object::Messages.order()) };
        let newest = self.list(Object::Messages, &chain, &BatchParams::Skip(0)).await?;
        let next = match messages::skip(&newest) {
            Some(rows) => Some(self.list(Object::Messages, &chain, &BatchParams::Skip(rows)).await?),
            None => None,
        };
        Ok(messages::verdict(conversation, &newest, next.as_ref()))
    }

    /// Asks for posts and customers by windows of both widths, and whether posts and users are what
    /// rows name.
    async fn try_other_lists(&self, course: &mut Course, known: &[KnownRow], now: Micros) -> Result<()> {
        course.item = Object::Posts.name();
        let posts = self.ask_widths(Object::Posts, now).await?;
        course.add([widths::verdict(Object::Posts, &posts)]);
        course.item = Object::Customers.name();
        let customers = self.ask_widths(Object::Customers, now).await?;
        let (rows, is_whole) = posts.rows();
        course.add([widths::verdict(Object::Customers, &customers), keys::posts(rows, is_whole, known)]);
        course.item = keys::USERS;
        let users =
            self.list(Object::Users, &Chain::whole(Object::Users.order()), &BatchParams::Whole).await?;
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
