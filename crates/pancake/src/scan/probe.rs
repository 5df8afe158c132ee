//! This module proves once a day that `post_ids` filters on a page, which no document settles.
//! Every other parameter is right under each of its readings and needs no proof.

use crate::error::Result;
use crate::http::endpoint::address;
use crate::paging::cursor;
use crate::paging::pager::BatchParams;
use crate::plan::request::Chain;
use crate::reply::decode::spots;
use crate::reply::envelope::{Reply, RowList};
use crate::scan::session::Session;
use crate::schema::keyset::{Order, RowKey};

impl Session {
    /// Returns whether `post_ids` filters on this page: as a session found out within the last day,
    /// or by trying it on a post of the newest comments.
    pub(crate) async fn post_ids_filter(&self, is_trusted: bool) -> Result<bool> {
        if is_trusted {
            return Ok(true);
        }
        let known = match self.limiter.post_ids_filter() {
            Some(known) => known,
            None => {
                let found = self.try_post_ids().await?;
                self.limiter.remember_post_ids(found);
                found
            }
        };
        self.tally.post_ids_refused.set(u64::from(!known));
        Ok(known)
    }

    /// The rows of the post must come back, and no others.
    async fn try_post_ids(&self) -> Result<bool> {
        let all = Chain::whole(Order::InsertedAt);
        let comments = self.head(&Chain { kind: Some("COMMENT".to_owned()), ..all.clone() }).await?;
        let Some(post_id) = comments.iter().find_map(|(_, post)| post.clone()) else { return Ok(false) };
        let of_post = self.head(&Chain { post_id: Some(post_id.clone()), ..all }).await?;
        let mine = |(_, post): &&(RowKey, Option<String>)| post.as_ref() == Some(&post_id);
        let Some((oldest, _)) = of_post.last() else { return Ok(false) };
        let mut expected = comments.iter().filter(mine).filter(|(spot, _)| spot.at > oldest.at);
        let came =
            |(spot, _): &(RowKey, Option<String>)| of_post.iter().any(|(other, _)| other.id == spot.id);
        Ok(of_post.iter().all(|row| mine(&row)) && expected.all(came))
    }

    /// The newest rows of a chain with their posts; none where the server does not take the
    /// question.
    async fn head(&self, chain: &Chain) -> Result<Vec<(RowKey, Option<String>)>> {
        let ask = BatchParams::Cursor(cursor::CursorParams { cursor: None, since: None, until: None });
        let address = address(self.object, &self.page_id, chain, &ask);
        let rows = |_: &Reply, listed: &RowList| {
            let served = spots(self.object, &listed.rows, chain.order)?;
            Ok(served.into_iter().map(|row| (row.spot.clone(), row.post_id())).collect())
        };
        // What fails once may pass, and the verdict holds for a day.
        Ok(self.read_unless_refused(&address, 2, rows).await?.unwrap_or_default())
    }
}
