//! This module tests whole examinations on canned replies and a paused clock: what ends one, and
//! how many requests it takes.

use std::time::Duration;

use super::*;
use crate::error::{Error, Kind};
use crate::reply::envelope::Reply;
use crate::reply::retry::Failure;
use crate::scan::canned::{Canned, NOW, reply, session};

/// Examines a page that answers so: the findings as text, and the number of requests.
async fn examine(
    answer: impl Fn(usize, &str) -> Result<Reply, Failure> + Send + Sync + 'static,
) -> (Examination, Vec<String>, usize) {
    let canned = Canned::new(Duration::from_millis(100), answer);
    let session = session(canned.clone(), &[("max_retries", "1")]);
    let examination = session.examine(&PushdownOption::parse("all").unwrap()).await;
    let texts = examination.findings.iter().map(|finding| format!("{finding:?}")).collect();
    (examination, texts, canned.seconds().len())
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_ends_it_at_once() {
    let refusal = r#"{"success":false,"error_code":105,"message":"renewed"}"#;
    let (examination, texts, requests) = examine(move |_, _| Ok(reply(200, refusal))).await;
    assert!(examination.is_cut_short);
    assert_eq!(requests, 1);
    assert!(texts.last().unwrap().contains("renewed"), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_ends_it_after_its_retries() {
    let gone = || Failure::transient(Error::new(Kind::Unreachable, "connection was lost"));
    let (examination, texts, requests) = examine(move |_, _| Err(gone())).await;
    assert!(examination.is_cut_short);
    assert_eq!(requests, 2);
    assert!(texts.last().unwrap().contains("connection was lost"), "{texts:?}");
}

/// Only the plain head of the list is answered.
#[tokio::test(start_paused = true)]
async fn refused_forms_do_not_end_it() {
    let at = Micros(NOW).minus_seconds(600).iso();
    let list = format!(
        r#"{{"conversations":[{{"id":"1_1","page_id":"1","type":"INBOX","inserted_at":"{at}","updated_at":"{at}"}}]}}"#
    );
    let (examination, texts, requests) = examine(move |_, address| {
        let is_plain = !address.contains('&') && address.contains("/conversations?");
        Ok(if is_plain {
            reply(200, list.clone())
        } else {
            reply(400, r#"{"success":false,"message":"no"}"#)
        })
    })
    .await;
    assert!(!examination.is_cut_short, "{texts:?}");
    assert!((10..=40).contains(&requests), "{requests}");
    assert!(examination.findings.iter().any(|finding| finding.status != Status::Ok), "{texts:?}");
}
