//! This module builds the address of a chain's next request: path and parameters. What to ask is
//! decided by [`crate::paging::pager`].

use crate::paging::cursor;
use crate::paging::pager::Ask;
use crate::paging::time_slices::Numbered;
use crate::plan::request::Chain;
use crate::schema::catalogue::Object;
use crate::url::Address;

/// The address of one request, without its token.
pub fn address(object: Object, page_id: &str, chain: &Chain, ask: &Ask) -> Address {
    let page = |version| Address::new(version).segment("pages").segment(page_id);
    let v1 = || page("public_api/v1");
    match (object, ask) {
        (Object::Messages, Ask::Skip(rows)) => {
            let conversation = chain.conversation_id.as_deref().unwrap_or_default();
            let address = v1().segment("conversations").segment(conversation).segment("messages");
            address.param("current_count", &rows.to_string())
        }
        (Object::Posts, Ask::Numbered(batch)) => {
            let address = v1().segment("posts");
            numbered(chain.kind.iter().fold(address, |address, kind| address.param("type", kind)), batch)
        }
        (Object::Customers, Ask::Numbered(batch)) => {
            numbered(ordered(v1().segment("page_customers"), chain), batch)
        }
        // The one endpoint of the user API.
        (Object::Pages, _) => Address::new("v1").segment("pages"),
        (_, Ask::Cursor(ask)) => conversations(page("public_api/v2"), chain, ask),
        // Whole lists go by the name of their table.
        _ => v1().segment(object.name()),
    }
}

/// since and until act on the order_by column: it is always named.
fn ordered(address: Address, chain: &Chain) -> Address {
    chain.order.column().iter().fold(address, |address, column| address.param("order_by", column))
}

fn numbered(address: Address, batch: &Numbered) -> Address {
    address
        .param("since", &batch.since.0.to_string())
        .param("until", &batch.until.0.to_string())
        .param("page_number", &batch.number.to_string())
        .param("page_size", &batch.size.to_string())
}

fn conversations(page: Address, chain: &Chain, ask: &cursor::Ask) -> Address {
    let mut address = page.segment("conversations");
    if let Some(kind) = &chain.kind {
        address = address.param("type", kind);
    }
    if !chain.tags.is_empty() {
        address = address.param("tags", &chain.tags.join(","));
    }
    if let Some(post_id) = &chain.post_id {
        address = address.param("post_ids", post_id);
    }
    address = ordered(address, chain);
    if let Some(since) = ask.since {
        address = address.param("since", &since.0.to_string());
    }
    if let Some(until) = ask.until {
        address = address.param("until", &until.0.to_string());
    }
    match &ask.cursor {
        Some(cursor) => address.param("last_conversation_id", cursor),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::keyset::Order;
    use crate::time::UnixSeconds;

    fn path(object: Object, chain: &Chain, ask: Ask) -> String {
        address(object, "a:b", chain, &ask).without_token()
    }

    #[test]
    fn every_list_has_its_address() {
        let chain = Chain::whole(Order::Served);
        let batch = Numbered { since: UnixSeconds(1), until: UnixSeconds(9), number: 2, size: 30 };
        let thread = Chain { conversation_id: Some("a_b/c".into()), ..Chain::whole(Order::InsertedAt) };
        assert_eq!(
            path(Object::Messages, &thread, Ask::Skip(29)),
            "/public_api/v1/pages/a%3Ab/conversations/a_b%2Fc/messages?current_count=29"
        );
        let videos = Chain { kind: Some("video".into()), ..Chain::whole(Order::InsertedAt) };
        assert_eq!(
            path(Object::Posts, &videos, Ask::Numbered(batch)),
            "/public_api/v1/pages/a%3Ab/posts?type=video&since=1&until=9&page_number=2&page_size=30"
        );
        assert_eq!(
            path(Object::Customers, &Chain::whole(Order::UpdatedAt), Ask::Numbered(batch)),
            "/public_api/v1/pages/a%3Ab/page_customers?order_by=updated_at&since=1&until=9&page_number=2&page_size=30"
        );
        assert_eq!(path(Object::Tags, &chain, Ask::Whole), "/public_api/v1/pages/a%3Ab/tags?");
        assert_eq!(path(Object::Users, &chain, Ask::Whole), "/public_api/v1/pages/a%3Ab/users?");
        assert_eq!(path(Object::Pages, &chain, Ask::Whole), "/v1/pages?");
        let head = cursor::Ask { cursor: None, since: None, until: None };
        assert_eq!(
            path(Object::Conversations, &Chain::whole(Order::InsertedAt), Ask::Cursor(head)),
            "/public_api/v2/pages/a%3Ab/conversations?order_by=inserted_at"
        );
    }
}
