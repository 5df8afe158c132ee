//! The loop that most programs begin with: reqwest and serde_json, one page, a typed row. The
//! measure of what the extension adds. It believes whatever it gets.

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use pancake_simulator::PageHandle;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

#[derive(Deserialize)]
struct Reply<R> {
    conversations: Vec<R>,
}

pub trait Row: DeserializeOwned {
    fn id(&self) -> &str;
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoding is what is measured")]
pub struct Two {
    id: String,
    updated_at: String,
}

/// What the columns are made of, typed; the row's other keys are skipped.
#[derive(Deserialize)]
#[allow(dead_code, reason = "decoding is what is measured")]
pub struct All {
    id: String,
    page_id: String,
    r#type: String,
    post_id: Option<String>,
    snippet: Option<String>,
    seen: Option<bool>,
    has_phone: Option<bool>,
    message_count: Option<i64>,
    inserted_at: String,
    updated_at: String,
    customer_id: Option<String>,
    from: Option<Person>,
    last_sent_by: Option<Person>,
    page_customer: Option<Person>,
    customers: Option<Vec<Person>>,
    tags: Vec<Option<Tag>>,
    ad_ids: Option<Vec<String>>,
    assignee_ids: Option<Vec<String>>,
    recent_phone_numbers: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoding is what is measured")]
struct Person {
    id: Option<String>,
    fb_id: Option<String>,
    customer_id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    uid: Option<String>,
    admin_name: Option<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoding is what is measured")]
struct Tag {
    id: i64,
    text: String,
}

impl Row for Two {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for All {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Reads the whole page on this thread: rows, and the thread's user and CPU time.
pub fn read<R: Row>(base_url: &str, page: &PageHandle) -> Result<(usize, Duration, Duration)> {
    let (user, begun) = (user()?, cpu()?);
    let rows = paced::<R>(base_url, page, Duration::ZERO)?;
    let cpu = cpu()?.checked_sub(begun).context("the clock runs backwards")?;
    Ok((rows, self::user()?.saturating_sub(user), cpu))
}

/// The loop of the article: one batch after the other with a pause between them, and after HTTP 429
/// a second.
pub fn paced<R: Row>(base_url: &str, page: &PageHandle, pause: Duration) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!(
            "{base_url}/public_api/v2/pages/{}/conversations?order_by=inserted_at&page_access_token={}",
            page.id(),
            page.token()
        );
        let (mut rows, mut cursor) = (0, String::new());
        loop {
            let request = client.get(format!("{url}{cursor}")).header(ACCEPT, "application/json");
            let response = request.send().await?;
            if response.status().as_u16() == 429 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            let reply: Reply<R> = serde_json::from_slice(&response.bytes().await?)?;
            let Some(last) = reply.conversations.last() else { break };
            rows += reply.conversations.len();
            cursor = format!("&last_conversation_id={}", last.id());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(rows)
    })
}

fn user() -> Result<Duration> {
    let time = getrusage(UsageWho::RUSAGE_THREAD)?.user_time();
    Ok(Duration::from_micros(time.num_microseconds().unsigned_abs()))
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
