//! This module builds the address of a chain's next request: path and parameters. What to ask is
//! decided by [`crate::paging::pager`].

use crate::paging::pager::BatchParams;
use crate::plan::request::Chain;
use crate::schema::catalogue::Object;
use crate::time::UnixSeconds;
use crate::url::Address;

/// The address of one request, without its token.
pub fn address(object: Object, page_id: &str, chain: &Chain, ask: &BatchParams) -> Address {
    let mut segments = object.path().split('/').map(|segment| match segment {
        "{page_id}" => page_id,
        "{conversation_id}" => chain.conversation_id.as_deref().unwrap_or_default(),
        segment => segment,
    });
    let address = Address::new(segments.next().unwrap_or_default());
    let mut address = segments.fold(address, |address, segment| address.segment(segment));
    let tags = (!chain.tags.is_empty()).then(|| chain.tags.join(","));
    // since and until act on the order_by column: it is always named where there is a choice.
    let order = chain.order.column().filter(|_| object.orders().len() > 1);
    for (name, value) in [
        ("type", chain.kind.as_deref()),
        ("tags", tags.as_deref()),
        ("post_ids", chain.post_id.as_deref()),
        ("order_by", order),
    ] {
        address = value.into_iter().fold(address, |address, value| address.param(name, value));
    }
    paged(address, ask)
}

/// The parameters of one batch.
fn paged(address: Address, ask: &BatchParams) -> Address {
    let time = |address: Address, name, time: Option<UnixSeconds>| {
        time.iter().fold(address, |address, time| address.param(name, &time.0.to_string()))
    };
    match ask {
        BatchParams::Whole => address,
        BatchParams::Skip(rows) => address.param("current_count", &rows.to_string()),
        BatchParams::Numbered(batch) => {
            time(time(address, "since", Some(batch.since)), "until", Some(batch.until))
                .param("page_number", &batch.number.to_string())
                .param("page_size", &batch.size.to_string())
        }
        BatchParams::Cursor(ask) => {
            let address = time(time(address, "since", ask.since), "until", ask.until);
            ask.cursor.iter().fold(address, |address, cursor| address.param("last_conversation_id", cursor))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::cursor;
    use crate::paging::time_slices::NumberedBatch;
    use crate::schema::keyset::Order;

    fn path(object: Object, chain: &Chain, ask: BatchParams) -> String {
        address(object, "a:b", chain, &ask).without_token()
    }

    #[test]
    fn every_list_has_its_address() {
        let chain = Chain::whole(Order::Served);
        let batch = NumberedBatch { since: UnixSeconds(1), until: UnixSeconds(9), number: 2, size: 30 };
        let thread = Chain { conversation_id: Some("a_b/c".into()), ..Chain::whole(Order::InsertedAt) };
        assert_eq!(
            path(Object::Messages, &thread, BatchParams::Skip(29)),
            "/public_api/v1/pages/a%3Ab/conversations/a_b%2Fc/messages?current_count=29"
        );
        let videos = Chain { kind: Some("video".into()), ..Chain::whole(Order::InsertedAt) };
        assert_eq!(
            path(Object::Posts, &videos, BatchParams::Numbered(batch)),
            "/public_api/v1/pages/a%3Ab/posts?type=video&since=1&until=9&page_number=2&page_size=30"
        );
        assert_eq!(
            path(Object::Customers, &Chain::whole(Order::UpdatedAt), BatchParams::Numbered(batch)),
            "/public_api/v1/pages/a%3Ab/page_customers?order_by=updated_at&since=1&until=9&page_number=2&page_size=30"
        );
        assert_eq!(path(Object::Tags, &chain, BatchParams::Whole), "/public_api/v1/pages/a%3Ab/tags?");
        assert_eq!(path(Object::Users, &chain, BatchParams::Whole), "/public_api/v1/pages/a%3Ab/users?");
        assert_eq!(path(Object::Pages, &chain, BatchParams::Whole), "/v1/pages?");
        let head = cursor::CursorParams { cursor: None, since: None, until: None };
        assert_eq!(
            path(Object::Conversations, &Chain::whole(Order::InsertedAt), BatchParams::Cursor(head)),
            "/public_api/v2/pages/a%3Ab/conversations?order_by=inserted_at"
        );
    }
}
