//! This module tests requests with their retries, scans that ask ahead, and the proof of
//! `post_ids`, on canned replies and a paused clock.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use std::sync::Mutex;

use super::*;
use crate::error::{Error, Kind};
use crate::http::endpoint::address;
use crate::paging::cursor;
use crate::paging::pager::BatchParams;
use crate::plan::request::{Chain, RequestPlan};
use crate::scan::canned::{Canned, NOW, reply, session};
use crate::scan::queue::{BatchQueue, Event};
use crate::scan::run::Scan;
use crate::schema::catalogue::Object;

const EMPTY: &str = r#"{"conversations":[]}"#;
const LATENCY: Duration = Duration::from_millis(100);

fn unreachable() -> Failure {
    Failure::transient(Error::new(Kind::Unreachable, "connection was lost"))
}

fn head(session: &Session) -> Address {
    address(
        session.object,
        &session.page_id,
        &Chain::whole(Order::UpdatedAt),
        &BatchParams::Cursor(cursor::CursorParams::HEAD),
    )
}

fn count(_: &Reply, listed: &RowList) -> Result<usize> {
    Ok(listed.rows.len())
}

async fn rows_at_head(session: &Session) -> Result<usize> {
    session.read(&head(session), count).await
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_retried_at_growing_pauses() {
    let canned =
        Canned::new(LATENCY, |number, _| if number < 3 { Err(unreachable()) } else { Ok(reply(200, EMPTY)) });
    let session = session(canned.clone(), &[]);
    rows_at_head(&session).await.unwrap();
    assert_eq!(canned.seconds(), [0.0, 1.1, 3.2, 7.3]);
    assert_eq!((session.tally.requests.get(), session.tally.retried.get()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_failure_and_their_number() {
    let canned = Canned::new(LATENCY, |_, _| Err(unreachable()));
    let session = session(canned.clone(), &[("max_retries", "2")]);
    let error = rows_at_head(&session).await.unwrap_err();
    assert_eq!(error.message(), "connection was lost");
    assert!(error.detail_text().unwrap_or_default().ends_with("It was tried 3 times."), "{error:?}");
    assert_eq!(canned.seconds(), [0.0, 1.1, 3.2]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_asked_for_once() {
    let refusal = r#"{"success":false,"error_code":105,"message":"renewed"}"#;
    let canned = Canned::new(LATENCY, move |_, _| Ok(reply(200, refusal)));
    let session = session(canned.clone(), &[]);
    let error = session.read_unless_refused(&head(&session), 1, count).await.unwrap_err();
    assert_eq!(error.sqlstate(), "28000");
    assert_eq!(canned.seconds().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_the_rate_holds_back_all_sessions_of_the_page() {
    let canned = Canned::new(LATENCY, |number, _| match number {
        0 => Ok(Reply { retry_after: Some(Duration::from_secs(7)), ..reply(429, "{}") }),
        _ => Ok(reply(200, EMPTY)),
    });
    let session = session(canned.clone(), &[]);
    // Another backend has a session of its own, and the same limiter.
    let other = Session { tally: Arc::default(), ..session.clone() };
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rows_at_head(&other).await
    };
    let (first, second) = tokio::join!(rows_at_head(&session), later);
    first.and(second).unwrap();
    assert!(canned.seconds().iter().skip(1).all(|at| *at >= 7.1), "{:?}", canned.seconds());
    assert_eq!(canned.seconds().len(), 3);
}

/// A refusal that may be due to the form is no answer where the caller has another form, and a
/// failure like any other where it has none.
#[tokio::test(start_paused = true)]
async fn a_refused_form_is_returned_or_retried() {
    let refusal = r#"{"success":false,"message":"until is required"}"#;
    let canned = Canned::new(LATENCY, move |_, _| Ok(reply(400, refusal)));
    let session = session(canned.clone(), &[]);
    let address = head(&session);
    assert!(session.read_unless_refused(&address, 2, count).await.unwrap().is_none());
    assert_eq!(canned.seconds().len(), 1);
    let error = session.read(&address, count).await.unwrap_err();
    assert!(format!("{error:?}").contains("until is required"), "{error:?}");
}

/// HTTP 503 may be due to the form, and may pass.
#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_asked_once_more() {
    for (failures, times, expected) in [(1, 1, None), (1, 2, Some(0)), (2, 2, None)] {
        let canned = Canned::new(LATENCY, move |number, _| {
            Ok(reply(if number < failures { 503 } else { 200 }, EMPTY))
        });
        let session = session(canned.clone(), &[]);
        let rows = session.read_unless_refused(&head(&session), times, count).await.unwrap();
        assert_eq!(rows, expected, "{failures} {times}");
        assert_eq!(rows_at_head(&session).await.unwrap(), 0);
    }
}

/// Rows `from..` of a list of `rows` rows, a minute apart.
fn batch(rows: usize, from: usize) -> Reply {
    let row = |i: usize| {
        let at = Micros(NOW).minus_seconds(60 * i as i64).iso();
        format!(r#"{{"id":"1_{i}","type":"INBOX","inserted_at":"{at}","updated_at":"{at}"}}"#)
    };
    let rows: Vec<_> = (from..rows.min(from + 60)).map(row).collect();
    reply(200, format!(r#"{{"conversations":[{}]}}"#, rows.join(",")))
}

fn param<'a>(address: &'a str, name: &str) -> Option<&'a str> {
    address.split(['?', '&']).find_map(|param| param.strip_prefix(name)?.strip_prefix('='))
}

/// A list of `rows` rows, newest first, which takes cursors and times.
fn list(rows: usize, address: &str) -> Reply {
    let after =
        param(address, "last_conversation_id").and_then(|id| id.strip_prefix("1_")?.parse::<usize>().ok());
    let until = param(address, "until").and_then(|until| until.parse::<i64>().ok());
    let below = until.map(|until| (NOW / 1_000_000 - until).max(0) as usize / 60);
    batch(rows, after.map_or(0, |row| row + 1).max(below.unwrap_or(0)))
}

/// Runs a scan of the whole list, and returns its rows.
async fn rows_of(session: Session, plan: RequestPlan) -> Result<usize> {
    let woken = Arc::new(tokio::sync::Notify::new());
    let wake = woken.clone();
    let queue = BatchQueue::new(Box::new(move || wake.notify_one()));
    let scan = Scan { session, plan, trusts_post_ids: false, wanted: Vec::new(), queue: queue.clone() };
    tokio::spawn(scan.run());
    queue.want();
    let mut rows = 0;
    loop {
        match queue.take() {
            Some(Event::Batch(batch)) => {
                rows += batch.len();
                queue.want();
            }
            Some(Event::Ended(_)) => return Ok(rows),
            Some(Event::Failed(error)) => return Err(error),
            None => woken.notified().await,
        }
    }
}

/// At a second a request, one after the other would take a minute. Asking ahead takes what the rate
/// allows, and little more requests.
#[tokio::test(start_paused = true)]
async fn a_long_scan_asks_ahead_as_fast_as_the_rate_allows() {
    const ROWS: usize = 3_540;
    let canned = Canned::new(Duration::from_secs(1), |_, address| Ok(list(ROWS, address)));
    let plan =
        RequestPlan { chains: vec![Chain::whole(Order::InsertedAt)], whole: true, ..RequestPlan::default() };
    assert_eq!(rows_of(session(canned.clone(), &[]), plan).await.unwrap(), ROWS);
    let (seconds, most) = (canned.seconds(), canned.most_in_flight.load(SeqCst));
    assert!(seconds.len() <= 90, "{} requests", seconds.len());
    assert!(*seconds.last().unwrap() < 30.0, "{seconds:?}");
    assert!((4..=16).contains(&most), "{most} at a time");
    // Five in any second: the sixth of them comes a second later.
    let log = canned.log.lock().unwrap();
    assert!(log.windows(6).all(|six| six[5].0 - six[0].0 >= Duration::from_secs(1)), "{log:?}");
}

/// A scan of 3,540 rows with a limit of 300, and its queue.
fn limited(canned: &Arc<Canned>) -> Arc<BatchQueue> {
    let plan = RequestPlan {
        chains: vec![Chain::whole(Order::InsertedAt)],
        whole: true,
        ordered: true,
        limit: Some(300),
        ..RequestPlan::default()
    };
    let queue = BatchQueue::new(Box::new(|| ()));
    let session = session(canned.clone(), &[]);
    let scan = Scan { session, plan, trusts_post_ids: false, wanted: Vec::new(), queue: queue.clone() };
    tokio::spawn(scan.run());
    queue
}

/// Beyond its limit a scan sends one request after the other, unless the limit is raised.
#[tokio::test(start_paused = true)]
async fn a_scan_is_as_fast_beyond_a_limit_that_is_raised() {
    let seconds = async |raised: u64| {
        let canned = Canned::new(Duration::from_secs(1), |_, address| Ok(list(3_540, address)));
        let queue = limited(&canned);
        queue.raise_limit(raised);
        (0..60).for_each(|_| queue.want());
        let begun = tokio::time::Instant::now();
        queue.brought().wait_for(|brought| brought.rows >= 2_400).await.unwrap();
        begun.elapsed().as_secs_f64()
    };
    let (kept, raised) = (seconds(0).await, seconds(3_240).await);
    assert!(raised * 1.5 < kept, "{raised} s, {kept} s with the old limit");
}

/// Without memory for more a scan requests what is wanted, and nothing ahead of it.
#[tokio::test(start_paused = true)]
async fn a_scan_without_memory_asks_for_nothing_ahead() {
    let requests = async |more: bool| {
        let canned = Canned::new(Duration::from_millis(300), |_, address| Ok(list(3_540, address)));
        let queue = limited(&canned);
        queue.raise_limit(3_240);
        queue.allow_more(more);
        (0..4).for_each(|_| queue.want());
        tokio::time::sleep(Duration::from_secs(60)).await;
        canned.seconds().len()
    };
    let (without, with) = (requests(false).await, requests(true).await);
    assert!(without <= 5 && with > 8, "{without} requests without memory, {with} with");
}

/// A page whose windows are refused is read from its head, and all sessions know it from then on.
#[tokio::test(start_paused = true)]
async fn a_scan_whose_windows_are_refused_goes_by_the_head() {
    let canned = Canned::new(LATENCY, |_, address| match param(address, "until") {
        Some(_) => Ok(reply(400, r#"{"success":false,"message":"until is invalid"}"#)),
        None => Ok(list(300, address)),
    });
    let high = Some(Micros(NOW).minus_seconds(2 * 86_400));
    let window = crate::schema::keyset::TimeRange { low: None, high };
    let plan = |chain| RequestPlan { chains: vec![chain], ..RequestPlan::default() };
    let session = session(canned.clone(), &[]);
    let chain = Chain { window, ..Chain::whole(Order::InsertedAt) };
    assert_eq!(rows_of(session.clone(), plan(chain.clone())).await.unwrap(), 0);
    let first = canned.log.lock().unwrap().drain(..).count();
    assert_eq!(rows_of(session, plan(chain)).await.unwrap(), 0);
    let log = canned.log.lock().unwrap();
    assert!(log.iter().all(|(_, address)| param(address, "until").is_none()), "{log:?}");
    assert_eq!(log.len() + 1, first);
}

/// An outage shorter than the first pause costs the requests that met it, and changes no form.
#[tokio::test(start_paused = true)]
async fn a_short_outage_is_not_taken_for_a_refused_form() {
    let high = Some(Micros(NOW).minus_seconds(2 * 86_400));
    let window = crate::schema::keyset::TimeRange { low: None, high };
    let chain = Chain { window, ..Chain::whole(Order::InsertedAt) };
    let plan = RequestPlan { chains: vec![chain], ..RequestPlan::default() };
    let addresses = |fails: fn(usize) -> bool| {
        let canned = Canned::new(LATENCY, move |number, address| {
            Ok(if fails(number) { reply(503, EMPTY) } else { list(3_500, address) })
        });
        let scan = rows_of(session(canned.clone(), &[("max_concurrency", "1")]), plan.clone());
        async move {
            let rows = scan.await.unwrap();
            let log = canned.log.lock().unwrap();
            (rows, log.iter().map(|(_, address)| address.clone()).collect::<Vec<_>>())
        }
    };
    let (rows, undisturbed) = addresses(|_| false).await;
    assert!(rows > 500, "{rows}");
    for fails in [|number| number == 0, |number| number == 2] {
        let (same, mut disturbed) = addresses(fails).await;
        let before = disturbed.len();
        disturbed.dedup();
        assert_eq!((same, disturbed.len(), before), (rows, undisturbed.len(), undisturbed.len() + 1));
        assert_eq!(disturbed, undisturbed);
    }
}

/// A customer without `inserted_at` shows `updated_at` there, and comes in any slice: too late for
/// an ordered scan. That fails once, and the planner sorts from then on.
#[tokio::test(start_paused = true)]
async fn a_row_without_the_time_of_the_order_ends_the_order_of_slices() {
    let ago = |seconds: i64| Micros(NOW).minus_seconds(seconds);
    let canned = Canned::new(LATENCY, move |_, address| {
        let second = |name| param(address, name).and_then(|second| second.parse().ok()).unwrap_or(0);
        let (since, until): (i64, i64) = (second("since"), second("until"));
        if until - since > 27 * 86_400 {
            return Ok(reply(400, r#"{"success":false,"message":"date range is too wide"}"#));
        }
        let holds = |at: Micros| (since..=until).contains(&at.floor_second().0);
        let mut rows = Vec::new();
        if holds(ago(7_200)) {
            rows.push(format!(r#"{{"id":"new","inserted_at":"{}"}}"#, ago(7_200).iso()));
        }
        if holds(ago(40 * 86_400)) {
            rows.push(format!(r#"{{"id":"undated","updated_at":"{}"}}"#, ago(60).iso()));
        }
        Ok(reply(200, format!(r#"{{"total":{},"customers":[{}]}}"#, rows.len(), rows.join(","))))
    });
    let session = Session { object: Object::Customers, ..session(canned, &[]) };
    let is_in_order = || session.known(Order::InsertedAt).is_in_order;
    let plan = |ordered| RequestPlan {
        chains: vec![Chain::whole(Order::InsertedAt)],
        ordered,
        ..RequestPlan::default()
    };
    assert!(is_in_order());
    let error = rows_of(session.clone(), plan(true)).await.unwrap_err();
    assert_eq!(error.message(), "reply is not in the order that was asked for");
    assert!(!is_in_order());
    assert_eq!(rows_of(session.clone(), plan(false)).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn post_ids_is_believed_where_only_its_rows_come() {
    fn rows(posts: &[&str]) -> Reply {
        let row = |(i, post): (usize, &&str)| {
            let at = Micros(NOW).minus_seconds(i as i64).iso();
            format!(
                r#"{{"id":"{i}","type":"COMMENT","post_id":"{post}","inserted_at":"{at}","updated_at":"{at}"}}"#
            )
        };
        let rows: Vec<_> = posts.iter().enumerate().map(row).collect();
        reply(200, format!(r#"{{"conversations":[{}]}}"#, rows.join(",")))
    }
    for (of_post, is_believed) in [
        (rows(&["1_a", "1_a"]), true),
        (rows(&["1_a", "1_b"]), false),
        (reply(200, EMPTY), false),
        (reply(400, r#"{"success":false,"message":"bad request"}"#), false),
    ] {
        let of_post = Mutex::new(Some(of_post));
        let canned = Canned::new(LATENCY, move |number, _| {
            Ok(if number == 0 { rows(&["1_a", "1_a"]) } else { of_post.lock().unwrap().take().unwrap() })
        });
        let session = session(canned.clone(), &[]);
        assert_eq!(session.post_ids_filter(false).await.unwrap(), is_believed);
        // It is remembered.
        assert_eq!(session.post_ids_filter(false).await.unwrap(), is_believed);
        assert_eq!(canned.seconds().len(), 2);
    }
}
