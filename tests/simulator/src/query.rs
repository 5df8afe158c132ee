//! Reads a conversations request as Pancake would under the present switches, and says what is wrong with it.
//! Which rows it gets is left to `listing`.

use crate::clock::{Micros, SECOND};
use crate::listing::Ask;
use crate::log::Endpoint;
use crate::switches::{Bound, PostIdsReading, RepeatedType, Switches, TagsReading, UnlistedType};

pub type Params = [(String, String)];

/// What a request comes to: a question, or a failure of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    Ask(Ask),
    Http500,
}

/// From here on a number of seconds can only be milliseconds (year 5138).
const MILLISECONDS: i64 = 100_000_000_000;

/// The last value: `a=1&a=2` is 2.
pub fn last<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Complaints that hold for every endpoint: unknown and repeated parameters.
pub fn review(params: &Params, endpoint: Endpoint) -> Vec<String> {
    let mut complaints = Vec::new();
    for (place, (name, _)) in params.iter().enumerate() {
        if name != endpoint.token_param() && !endpoint.params().contains(&name.as_str()) {
            complaints.push(format!("unknown parameter `{name}`: ignored"));
        }
        if params.iter().take(place).any(|(earlier, _)| earlier == name) {
            complaints.push(format!("repeated parameter `{name}`: the last one wins"));
        }
    }
    complaints
}

pub fn read(params: &Params, switches: &Switches, complaints: &mut Vec<String>) -> Reading {
    if params.iter().any(|(name, _)| name.ends_with("[]")) {
        complaints.push("a parameter with `[]`: HTTP 500".to_owned());
        return Reading::Http500;
    }
    let (lowest, highest, mut nothing) = window(params, switches, complaints);
    let types = match read_types(params, switches) {
        Types::Of(types) => types,
        Types::Nothing => {
            nothing = true;
            Vec::new()
        }
        Types::Http500 => return Reading::Http500,
    };
    let last_type = last(params, "type");
    let posts = match (last(params, "post_ids").filter(|ids| !ids.is_empty()), switches.post_ids) {
        (None, _) | (_, PostIdsReading::Ignored) => None,
        (Some(ids), PostIdsReading::SingleOnly) => Some(vec![ids.to_owned()]),
        (Some(_), PostIdsReading::NeedsComment) if last_type != Some("COMMENT") => None,
        (Some(_), PostIdsReading::NeedsPost) if last_type != Some("POST") => None,
        (Some(_), PostIdsReading::Http500WithoutPost) if last_type != Some("POST") => {
            return Reading::Http500;
        }
        (Some(_), PostIdsReading::NothingWithoutPost) if last_type != Some("POST") => Some(Vec::new()),
        (Some(ids), _) => Some(ids.split(',').map(|id| id.trim().to_owned()).collect()),
    };
    let order = last(params, "order_by");
    if !matches!(order, None | Some("updated_at" | "inserted_at")) {
        complaints.push("`order_by` is neither updated_at nor inserted_at: ignored".to_owned());
    }
    let unread = last(params, "unread_first");
    if !matches!(unread, None | Some("true" | "false")) {
        complaints.push("`unread_first` is neither true nor false: ignored".to_owned());
    }
    let cursor = last(params, "last_conversation_id");
    if cursor == Some("") {
        complaints.push("`last_conversation_id` is empty: ignored".to_owned());
    }
    Reading::Ask(Ask {
        cursor: cursor.filter(|id| !id.is_empty() && !switches.ignore_cursor).map(str::to_owned),
        types,
        tags: if switches.ignore_tags { Vec::new() } else { read_tags(params, complaints) },
        any_tag: switches.tags == TagsReading::Any,
        posts,
        by_inserted: order == Some("inserted_at") && !switches.ignore_order_by,
        lowest,
        highest,
        unread_first: unread == Some("true") && !switches.ignore_unread_first,
        nothing,
    })
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
        match switches.type_comma {
            true => value.split(',').map(str::to_owned).collect(),
            false => vec![(*value).to_owned()],
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
fn read_tags(params: &Params, complaints: &mut Vec<String>) -> Vec<i64> {
    let Some(tags) = last(params, "tags").filter(|tags| !tags.is_empty()) else { return Vec::new() };
    let ids: Option<Vec<i64>> = tags.split(',').map(|tag| tag.trim().parse().ok()).collect();
    ids.unwrap_or_else(|| {
        complaints.push("`tags` is not a list of numbers: the filter is ignored".to_owned());
        Vec::new()
    })
}

/// since and until as the lowest and the highest time they let in, and whether they let in nothing.
pub fn window(params: &Params, switches: &Switches, complaints: &mut Vec<String>) -> (Micros, Micros, bool) {
    let mut read = |name: &str| {
        let text = last(params, name)?;
        let number = text.parse::<i64>().ok();
        match number {
            None => complaints.push(format!("`{name}` is not a number: ignored")),
            Some(number) if number >= MILLISECONDS => {
                complaints.push(format!("`{name}` is in milliseconds: no rows"));
            }
            Some(_) => {}
        }
        number
    };
    let (since, until) = (read("since"), read("until"));
    let milliseconds = since.max(until).is_some_and(|number| number >= MILLISECONDS);
    let reversed = matches!((since, until), (Some(since), Some(until)) if since > until);
    if reversed && !milliseconds {
        complaints.push("`since` is later than `until`: no rows".to_owned());
    }
    let lowest = since.filter(|_| !switches.ignore_since).map_or(Micros::MIN, |since| {
        let start = since.saturating_mul(SECOND);
        match switches.since {
            Bound::Inclusive | Bound::InclusiveSeconds => start,
            Bound::Exclusive => start.saturating_add(1),
            Bound::ExclusiveSeconds => start.saturating_add(SECOND),
        }
    });
    let highest = until.filter(|_| !switches.ignore_until).map_or(Micros::MAX, |until| {
        let start = until.saturating_mul(SECOND);
        match switches.until {
            Bound::Inclusive => start,
            Bound::InclusiveSeconds => start.saturating_add(SECOND - 1),
            Bound::Exclusive | Bound::ExclusiveSeconds => start.saturating_sub(1),
        }
    });
    (lowest, highest, milliseconds || reversed)
}
