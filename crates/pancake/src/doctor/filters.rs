//! This module asks for what filters select, and has the answers judged together, against rows that
//! did not change meanwhile.

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::reading::Reading;
use super::requests::Requests;
use super::{Course, kinds, posts, tags, times};
use crate::error::Result;
use crate::options::pushdown::PushdownOption;
use crate::plan::filter::Filterable;
use crate::plan::request::Chain;
use crate::schema::keyset::Order;

/// The answers that are judged together, against rows that did not change meanwhile.
struct Answers {
    kinds: kinds::Answers,
    tags: Option<tags::Answers>,
    posts: Option<posts::Answers>,
    windows: Vec<(times::Window, Answer)>,
}

impl Requests<'_> {
    /// Asks for what filters select, and returns the rows that did not change meanwhile.
    pub(super) async fn try_filters(
        &self,
        course: &mut Course,
        newest: &[KnownRow],
        first: &[KnownRow],
        pushdown: &PushdownOption,
    ) -> Result<Vec<KnownRow>> {
        let answers = self.ask_filters(course, newest, first).await?;
        course.item = times::COLUMN;
        let by_updated_window = match times::Window::by_updated_at(newest) {
            Some(window) => Some(self.in_window(window, Order::UpdatedAt).await?),
            None => None,
        };
        // What changed since the first look proves nothing.
        let known: Vec<_> = match self.look(&self.head(&Chain::whole(Order::InsertedAt))).await? {
            Answer::Refused => first.to_vec(),
            Answer::Rows(again) => {
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

    async fn ask_filters(
        &self,
        course: &mut Course,
        newest: &[KnownRow],
        first: &[KnownRow],
    ) -> Result<Answers> {
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
            Answer::Rows(comments) => comments.as_slice(),
            Answer::Refused => &[],
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

    async fn ask_kinds(&self, rows: &[KnownRow]) -> Result<kinds::Answers> {
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

    async fn ask_posts(&self, choice: posts::Choice, known: &[KnownRow]) -> Result<posts::Answers> {
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

    async fn in_window(&self, window: times::Window, order: Order) -> Result<(times::Window, Answer)> {
        let (since, until) = window.bounds(order);
        let seen = self.look(&self.window(&Chain::whole(order), since, until)).await?;
        Ok((window, seen))
    }
}
