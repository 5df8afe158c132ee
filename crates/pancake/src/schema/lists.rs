//! This module holds the columns of the lists beside the conversations, and the key of the row that
//! each is read from (docs/api.md). Nothing here is code: how a key becomes a cell is in
//! [`crate::schema::column`], what several keys of a message become in [`crate::schema::messages`].

use crate::schema::column::From::{Birthday, Conversation, Keys, Page, Path, Phones, Row};
use crate::schema::column::columns;
use crate::schema::messages;

columns! {
    MESSAGES:
    "id" Text not_null;
    // What was asked for: a comment's own key may name its parent.
    "conversation_id" Text not_null <- Conversation;
    "page_id" Text not_null <- Page;
    "type" Text;
    "from_id" Text <- Path("/from/id");
    "from_name" Text <- Path("/from/name");
    "from_staff_id" Text <- Keys(messages::from_staff_id);
    "from_staff_name" Text <- Path("/from/admin_name");
    "from_bot" Bool <- Keys(messages::from_bot);
    "message" Text;
    "original_message" Text;
    "text" Text <- Keys(messages::words);
    "attachments" Jsonb;
    "seen" Bool;
    "has_phone" Bool;
    "is_hidden" Bool;
    "is_removed" Bool;
    "inserted_at" Time not_null;
    "raw" Jsonb <- Row;
}

columns! {
    TAGS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "text" Text;
    "color" Text;
    "description" Text;
    "is_lead_event" Bool;
    "is_deactive" Bool;
    "raw" Jsonb <- Row;
}

columns! {
    POSTS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "type" Text;
    "message" Text;
    "comment_count" Int;
    "reactions" Jsonb;
    "phone_number_count" Int;
    "inserted_at" Time not_null;
    "raw" Jsonb <- Row;
}

columns! {
    CUSTOMERS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "customer_id" Text;
    "conversation_id" Text <- Path("/thread_id");
    "psid" Text;
    "name" Text;
    // A text, because a birthday of which only the year is known is 1998-00-00.
    "birthday" Text <- Birthday;
    "gender" Text;
    "phone_numbers" TextArray not_null <- Phones;
    "emails" TextArray not_null;
    "can_inbox" Bool;
    "inserted_at" Time not_null;
    "updated_at" Time not_null;
    "raw" Jsonb <- Row;
}

columns! {
    USERS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "name" Text;
    "status" Text;
    "fb_id" Text;
    "email" Text;
    "is_online" Bool;
    "raw" Jsonb <- Row;
}

columns! {
    PAGES:
    "id" Text not_null;
    "name" Text;
    "platform" Text;
    "username" Text;
    "timezone" Numeric;
    "is_activated" Bool;
    "raw" Jsonb <- Row;
}
