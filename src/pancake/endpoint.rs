//! How a chain's next request is addressed: path and parameters. What to ask is decided by [`crate::walker`].

use crate::plan::Chain;
use crate::url::Address;
use crate::walk;
use crate::walker::Ask;

/// The address of one request, without its token.
pub fn address(page_id: &str, chain: &Chain, ask: &Ask) -> Address {
    match ask {
        Ask::Cursor(ask) => conversations(page_id, chain, ask),
    }
}

fn conversations(page_id: &str, chain: &Chain, ask: &walk::Ask) -> Address {
    let mut address =
        Address::new("public_api/v2").segment("pages").segment(page_id).segment("conversations");
    if let Some(kind) = &chain.kind {
        address = address.param("type", kind);
    }
    if !chain.tags.is_empty() {
        address = address.param("tags", &chain.tags.join(","));
    }
    if let Some(post_id) = &chain.post_id {
        address = address.param("post_ids", post_id);
    }
    // since and until act on the order_by column: it is always named.
    address = address.param("order_by", chain.order.column());
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
