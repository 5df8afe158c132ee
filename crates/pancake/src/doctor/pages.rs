//! This module judges the list of a user's pages, which the table `pages` shows: whether it can be
//! read with the user's own token, and whether the page is in it.

use super::finding::Finding;
use crate::http::endpoint::address;
use crate::json::cell::{is_same_page, text};
use crate::paging::pager::BatchParams;
use crate::plan::request::Chain;
use crate::reply::envelope::RowList;
use crate::scan::session::Session;

pub const ITEM: &str = "pages";

impl Session {
    /// Reads the list of the user's pages, and looks for a page.
    pub async fn examine_pages(&self, page_id: &str) -> Finding {
        let chain = Chain::whole(self.object.order());
        let address = address(self.object, "", &chain, &BatchParams::Whole);
        let found = self.read(&address, |_, listed| Ok(verdict(listed, page_id))).await;
        let finding = found.unwrap_or_else(|error| Finding { item: ITEM, ..Finding::of_error(&error, ITEM) });
        finding.without(&self.token)
    }
}

fn verdict(listed: &RowList, page_id: &str) -> Finding {
    let count = listed.rows.len();
    let is_page = |id: &str| is_same_page(id, page_id);
    let page = listed.rows.iter().find(|row| text(row.get("id")).is_some_and(|id| is_page(&id)));
    match page.map(|page| text(page.get("is_activated")).unwrap_or_default()) {
        None => Finding::warn(ITEM, format!("page {page_id} is none of the user's {count} pages"))
            .hint("The access_token is another user's, or this user has no right to the page."),
        Some(activated) if activated == "false" => Finding::warn(
            ITEM,
            format!("page {page_id} is one of the user's {count} pages, and is not activated"),
        )
        .hint("Activate the page in Pancake."),
        Some(_) => Finding::ok(ITEM, format!("page {page_id} is one of the user's {count} pages")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;
    use crate::json::object::Fields;

    #[test]
    fn the_page_is_looked_for_with_and_without_its_channel() {
        let pages =
            [r#"{"id":"zl_1","is_activated":true}"#, r#"{"id":"2","is_activated":false}"#, r#"{"id":3}"#];
        let rows = pages.iter().map(|page| Fields::read(page).unwrap()).collect();
        let listed = RowList { rows, ..RowList::default() };
        for (page_id, status) in
            [("1", Status::Ok), ("2", Status::Warn), ("3", Status::Ok), ("4", Status::Warn)]
        {
            assert_eq!(verdict(&listed, page_id).status, status, "{page_id}");
        }
    }
}
