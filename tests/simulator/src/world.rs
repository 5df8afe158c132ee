//! Holds everything a simulator knows and answers requests from it, one after another.
//! What goes on the wire, and how slowly, is left to `wire`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalogue;
use crate::churn;
use crate::clock::{Clock, Micros};
use crate::dice::Dice;
use crate::door::Denial;
use crate::fault::{Fault, Faults};
use crate::listing;
use crate::log::{Endpoint, Entry, Log};
use crate::page::Page;
use crate::query;
use crate::readings::{PagesForm, V1Conversations};
use crate::render;
use crate::reply::Reply;
use crate::request::Request;
use crate::settings::Settings;
use crate::switches::Switches;

#[derive(Debug)]
pub struct World {
    pub pages: HashMap<String, Page>,
    /// The pages in the order of the settings.
    pub order: Vec<String>,
    pub switches: Switches,
    pub faults: Faults,
    pub log: Log,
    pub clock: Clock,
    user_token: String,
    dice: Dice,
}

/// A reply on its way: how it is broken, and when it leaves.
#[derive(Debug)]
pub struct Answer {
    pub reply: Reply,
    pub fault: Option<Fault>,
    pub delay: Duration,
    pub request_id: String,
    pub endpoint: Endpoint,
    /// The simulator's clock, as the header `Date` has it.
    pub now: Micros,
}

impl World {
    pub fn new(settings: &Settings) -> World {
        let clock = Clock::start(settings.now);
        let now = clock.now();
        let page = |page: &crate::PageSettings| {
            (page.id.clone(), Page::new(page, settings.seed, now, &settings.switches))
        };
        World {
            pages: settings.pages.iter().map(page).collect(),
            order: settings.pages.iter().map(|page| page.id.clone()).collect(),
            switches: settings.switches.clone(),
            faults: Faults::default(),
            log: Log::new(settings.keep_log),
            clock,
            user_token: settings.user_token.clone(),
            dice: Dice::of(&[settings.seed, 99]),
        }
    }

    pub fn answer(&mut self, request: &Request) -> Answer {
        let now = self.clock.now();
        let tokens = self.pages.values().map(|page| page.door.token.as_str());
        let mut violations = request.manners(tokens.chain([self.user_token.as_str()]));
        let mut refusal = None;
        if let Some(page) = self.pages.get_mut(&request.page_id) {
            page.surface(now);
            if let Some((reply, violation)) = page.door.meter(request.at, &self.switches) {
                violations.push(violation);
                refusal = reply;
            }
        }
        let cursor = query::last(&request.params, "last_conversation_id").is_some();
        let fault = match refusal {
            None => self.faults.strike(request, cursor),
            Some(_) => None,
        };
        let reply = match refusal {
            Some(refusal) => refusal,
            None => self.inside(request, now, &mut violations),
        };
        let reply = reply.with_words_under(self.switches.words_under);
        let request_id = format!("F{:016x}", self.dice.roll());
        let status = match &fault {
            None => reply.status,
            Some(fault) => fault.status(reply.status),
        };
        self.log.add(Entry {
            at: request.at,
            page_id: request.page_id.clone(),
            endpoint: request.endpoint,
            method: request.method.clone(),
            path: request.path.clone(),
            params: request.shown_params(),
            status,
            rows: if fault.as_ref().is_none_or(Fault::delivers) { reply.rows } else { 0 },
            connection: request.connection,
            request_id: request_id.clone(),
            faulted: fault.is_some(),
            violations,
        });
        let jitter = self.switches.jitter.mul_f64(self.dice.unit());
        Answer {
            reply,
            fault,
            delay: self.switches.latency + jitter,
            request_id,
            endpoint: request.endpoint,
            now,
        }
    }

    /// The reply to a request that is within the rate.
    fn inside(&mut self, request: &Request, now: i64, violations: &mut Vec<String>) -> Reply {
        let switches = &self.switches;
        if request.method != "GET" || request.endpoint == Endpoint::Unknown {
            return if request.accepts_json {
                Reply::json(406, json!({"errors": {"detail": "Not Acceptable"}}))
            } else {
                Reply::web_app()
            };
        }
        if request.endpoint == Endpoint::Pages {
            return self.pages(request);
        }
        if request.endpoint == Endpoint::ConversationsV1
            && switches.v1_conversations == V1Conversations::Http404
        {
            return not_found();
        }
        let Some(page) = self.pages.get_mut(&request.page_id) else { return not_found() };
        if let Some(refusal) = page.door.refuse(request.token(), switches) {
            return refusal;
        }
        match request.endpoint {
            Endpoint::Messages => {
                churn::talk(page, &request.conversation_id, now, switches);
                catalogue::messages(page, &request.conversation_id, &request.params, switches, violations)
            }
            Endpoint::Tags => catalogue::tags(),
            Endpoint::Users => catalogue::users(page),
            Endpoint::Posts => {
                churn::shift(page, now, switches);
                catalogue::posts(page, &request.params, switches, now, violations)
            }
            Endpoint::Customers => {
                churn::shift(page, now, switches);
                catalogue::customers(page, &request.params, switches, now, violations)
            }
            _ => {
                let cursor = query::last(&request.params, "last_conversation_id");
                churn::blow(page, cursor, now, switches);
                match query::read(&request.params, switches, now, violations) {
                    Ok(ask) => listing::reply(page, &ask, request.gzip && switches.gzip, switches),
                    Err(refusal) => refusal.reply(),
                }
            }
        }
    }

    /// The user API's list of pages, which holds their tokens.
    fn pages(&self, request: &Request) -> Reply {
        let refuse = |code, message| crate::door::unauthorized(code, message, &self.switches);
        match request.token() {
            None => return refuse(101, "access_token is missing"),
            Some(token) if token != self.user_token => return refuse(102, "invalid access_token"),
            Some(_) => {}
        }
        let known = self.order.iter().filter_map(|id| self.pages.get(id));
        let mut groups: BTreeMap<&str, Vec<Value>> =
            ["activated", "hidden", "inactivated", "nopermission"].map(|group| (group, Vec::new())).into();
        let mut flat = Vec::new();
        for page in known {
            let group = match page.door.denial {
                None => "activated",
                Some(Denial::Http403) => "inactivated",
                Some(Denial::Code(_)) => "nopermission",
            };
            let shown = render::page(&page.shop, &page.door.token);
            let mut alone = shown.clone();
            alone["is_activated"] = json!(group == "activated");
            flat.push(alone);
            groups.entry(group).or_default().push(shown);
        }
        let rows = flat.len();
        // If the groups have it, a page need not.
        let body = match self.switches.pages_form {
            PagesForm::Categorized => {
                let ids: Vec<&Value> = groups["activated"].iter().map(|page| &page["id"]).collect();
                let mut categorized = json!(groups);
                // As recorded: a list of ids among the lists of pages.
                categorized["activated_page_ids"] = json!(ids);
                json!({"success": true, "categorized": categorized})
            }
            PagesForm::Flat => json!({"success": true, "pages": flat}),
            PagesForm::Data => json!({"success": true, "data": flat}),
        };
        Reply::list(body, rows)
    }
}

fn not_found() -> Reply {
    Reply::json(404, json!({"errors": {"detail": "Not Found"}}))
}
