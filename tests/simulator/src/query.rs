//! Reads a conversations request as Pancake would under the present switches, and returns what is
//! wrong with it. Which rows it gets is left to `listing`.

use crate::clock::Micros;
use crate::listing::Ask;
use crate::log::Endpoint;
use crate::readings::{PostIdsReading, RepeatedType, TagsReading, UnlistedType};
use crate::switches::Switches;
use crate::window::{self, Refusal, Window};

pub type Params = [(String, String)];

/// The last value: `a=1&a=2` is 2.
pub fn last<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Complaints that hold for every endpoint: unknown and repeated parameters.
pub fn review(params: &Params, endpoint: Endpoint) -> Vec<String> {
    let mut violations = Vec::new();
    for (place, (name, _)) in params.iter().enumerate() {
        if name != endpoint.token_param() && !endpoint.params().contains(&name.as_str()) {
            violations.push(format!("unknown parameter `{name}`: ignored"));
        }
        if params.iter().take(place).any(|(earlier, _)| earlier == name) {
            violations.push(format!("repeated parameter `{name}`: the last one wins"));
        }
    }
    violations
}

pub fn read(
    params: &Params,
    switches: &Switches,
    now: Micros,
    violations: &mut Vec<String>,
) -> Result<Ask, Refusal> {
    if params.iter().any(|(name, _)| name.ends_with("[]")) {
        violations.push("a parameter with `[]`: HTTP 500".to_owned());
        return Err(Refusal::Http500);
    }
    let window = window::read(params, Endpoint::Conversations, switches, now, violations)?;
    let cursor = last(params, "last_conversation_id");
    if cursor == Some("") {
        violations.push("`last_conversation_id` is empty: ignored".to_owned());
    }
    let order = last(params, "order_by");
    if !matches!(order, None | Some("updated_at" | "inserted_at")) {
        violations.push("`order_by` is neither updated_at nor inserted_at: ignored".to_owned());
    }
    let unread = last(params, "unread_first");
    if !matches!(unread, None | Some("true" | "false")) {
        violations.push("`unread_first` is neither true nor false: ignored".to_owned());
    }
    let ask = Ask {
        cursor: cursor.filter(|id| !id.is_empty() && !switches.ignore_cursor).map(str::to_owned),
        types: Vec::new(),
        tags: Vec::new(),
        any_tag: switches.tags == TagsReading::Any,
        posts: None,
        by_inserted: order == Some("inserted_at") && !switches.ignore_order_by,
        window,
        unread_first: unread == Some("true") && !switches.ignore_unread_first,
    };
    if ask.cursor.is_some() && switches.cursor_forgets_filters {
        return Ok(ask);
    }
    filter(ask, params, switches, violations)
}

/// Adds the filters by type, tag and post to a request.
fn filter(
    ask: Ask,
    params: &Params,
    switches: &Switches,
    violations: &mut Vec<String>,
) -> Result<Ask, Refusal> {
    let (types, none_of_type) = match read_types(params, switches) {
        Types::Of(types) => (types, false),
        Types::Nothing => (Vec::new(), true),
        Types::Http500 => return Err(Refusal::Http500),
    };
    let posts = read_posts(params, switches)?;
    let tags = if switches.ignore_tags { Vec::new() } else { read_tags(params, violations) };
    let window = Window { nothing: ask.window.nothing || none_of_type, ..ask.window };
    Ok(Ask { types, tags, posts, window, ..ask })
}

/// Returns the post ids of a request, `None` for all.
fn read_posts(params: &Params, switches: &Switches) -> Result<Option<Vec<String>>, Refusal> {
    let last_type = last(params, "type");
    let posts = match (last(params, "post_ids").filter(|ids| !ids.is_empty()), switches.post_ids) {
        (None, _) | (_, PostIdsReading::Ignored) => None,
        (Some(ids), PostIdsReading::SingleOnly) => Some(vec![ids.to_owned()]),
        (Some(_), PostIdsReading::NeedsComment) if last_type != Some("COMMENT") => None,
        (Some(_), PostIdsReading::NeedsPost) if last_type != Some("POST") => None,
        (Some(_), PostIdsReading::Http500WithoutPost) if last_type != Some("POST") => {
            return Err(Refusal::Http500);
        }
        (Some(_), PostIdsReading::NothingWithoutPost) if last_type != Some("POST") => Some(Vec::new()),
        (Some(ids), _) => Some(ids.split(',').map(|id| id.trim().to_owned()).collect()),
    };
    Ok(posts)
}

enum Types {
    Of(Vec<String>),
    Nothing,
    Http500,
}

fn read_types(params: &Params, switches: &Switches) -> Types {
    let sent: Vec<&str> =
        params.iter().filter(|(name, _)| name == "type").map(|(_, value)| value.as_str()).collect();
    let Some(last) = sent.last().filter(|_| !switches.ignore_type) else { return Types::Of(Vec::new()) };
    let taken = match switches.repeated_type {
        RepeatedType::Or => sent,
        RepeatedType::NoRows if sent.len() > 1 => return Types::Nothing,
        RepeatedType::LastWins | RepeatedType::NoRows => vec![*last],
    };
    let split = |value: &&str| -> Vec<String> {
        if switches.type_comma {
            value.split(',').map(str::to_owned).collect()
        } else {
            vec![(*value).to_owned()]
        }
    };
    let types: Vec<String> = taken.iter().flat_map(split).filter(|value| !value.is_empty()).collect();
    let listed =
        |value: &String| matches!(value.as_str(), "INBOX" | "COMMENT" | "COMMENT_LIVESTREAM" | "POST");
    match switches.unlisted_type {
        _ if types.iter().all(listed) => Types::Of(types),
        UnlistedType::Compared => Types::Of(types),
        UnlistedType::Ignored => Types::Of(types.into_iter().filter(listed).collect()),
        UnlistedType::Nothing => Types::Nothing,
        UnlistedType::Http500 => Types::Http500,
    }
}

/// Tag ids; any text among them and the whole filter is ignored.
fn read_tags(params: &Params, violations: &mut Vec<String>) -> Vec<i64> {
    let Some(tags) = last(params, "tags").filter(|tags| !tags.is_empty()) else { return Vec::new() };
    let ids: Option<Vec<i64>> = tags.split(',').map(|tag| tag.trim().parse().ok()).collect();
    ids.unwrap_or_else(|| {
        violations.push("`tags` is not a list of numbers: the filter is ignored".to_owned());
        Vec::new()
    })
}
