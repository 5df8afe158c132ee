//! What the union does with the replies to its chains: order, repeats, ids, and lists without a cursor.

use super::*;
use crate::plan::{Order, Window};
use crate::time::SECOND;

fn plan(chains: usize, ordered: bool, ids: Option<&[&str]>) -> RequestPlan {
    let window = Window::default();
    let chain = Chain { window, ..Chain::whole(Order::InsertedAt) };
    let ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    RequestPlan { chains: vec![chain; chains], ids, ordered, ..RequestPlan::default() }
}

/// Serves each chain its rows, then the end; tells what came out.
fn run(plan: &RequestPlan, lists: &[&[(&str, i64)]]) -> Vec<String> {
    let mut union = Union::on(Terms { full_batch: 2, patience: 3 }, Object::Conversations, plan, false);
    let mut out = vec![];
    while let Some(question) = union.next(false) {
        let Asker::Segment(chain) = question.asker else { panic!("a look") };
        let from = question
            .ask
            .cursor()
            .cursor
            .as_ref()
            .map(|cursor| lists[chain].iter().position(|(id, _)| id == cursor).unwrap() + 1);
        let rows = lists[chain].iter().skip(from.unwrap_or_default()).take(2);
        let spots: Vec<_> = rows.map(|(id, at)| Spot { id: (*id).into(), at: Micros(at * SECOND) }).collect();
        let fresh = union.reply(question.asker, &spots, None).unwrap();
        let row = |i: usize| Row { id: spots[i].id.clone(), at: spots[i].at, cells: Default::default() };
        union.feed(question.asker, fresh.into_iter().map(row).collect());
        out.extend(union.ready().unwrap().into_iter().map(|row| row.id));
    }
    assert!(union.is_over());
    out
}

#[test]
fn ordered_chains_come_newest_first() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5), ("c", 1)], &[("d", 7), ("e", 3), ("f", 2)]];
    assert_eq!(run(&plan(2, true, None), lists), ["a", "d", "b", "e", "f", "c"]);
}

#[test]
fn a_row_of_several_chains_comes_once() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5)], &[("a", 9), ("c", 4)]];
    for ordered in [true, false] {
        let mut rows = run(&plan(2, ordered, None), lists);
        rows.sort();
        assert_eq!(rows, ["a", "b", "c"]);
    }
}

#[test]
fn the_stream_is_over_when_all_ids_have_come() {
    let lists: &[&[(&str, i64)]] = &[&[("a", 9), ("b", 5), ("c", 1)]];
    assert_eq!(run(&plan(1, false, Some(&["b", "a"])), lists), ["a", "b"]);
}

fn batch(rows: &[(&str, i64)]) -> Vec<Spot> {
    rows.iter().map(|(id, at)| Spot { id: (*id).into(), at: Micros(at * SECOND) }).collect()
}

/// Only a walk by a cursor can be cut, but as many conversations are on their way as there is room for.
#[test]
fn conversations_are_walked_at_once_and_each_by_one_request_after_the_other() {
    let of = |id: &str| Chain { conversation_id: Some(id.into()), ..Chain::whole(Order::InsertedAt) };
    let chains = vec![of("a"), of("b")];
    for ordered in [true, false] {
        let plan = RequestPlan { chains: chains.clone(), ordered, ..RequestPlan::default() };
        let mut union = Union::new(Object::Messages, &plan, false);
        let asked = [union.next(true).unwrap(), union.next(true).unwrap()];
        assert!(union.next(true).is_none());
        assert_eq!(asked.each_ref().map(|question| &question.chain), [&chains[0], &chains[1]]);
        // The same id in two conversations is two messages.
        for question in &asked {
            let rows = batch(&[("1", 1), ("2", 2), ("3", 3)]);
            assert_eq!(union.reply(question.asker, &rows, None).unwrap(), [2, 1, 0]);
            assert_eq!(question.ask, Ask::Skip(0));
        }
        assert_eq!(union.next(true).unwrap().ask, Ask::Skip(2));
        assert_eq!(union.next(true).unwrap().ask, Ask::Skip(2));
        assert!(union.next(true).is_none());
    }
}

/// A list in numbered batches looks after what moves by itself.
#[test]
fn looks_belong_to_a_cursor() {
    let plan = RequestPlan { chains: vec![Chain::whole(Order::UpdatedAt)], ..RequestPlan::default() };
    let mut union = Union::new(Object::Customers, &plan, true);
    let question = union.next(true).unwrap();
    assert_eq!(union.reply(question.asker, &batch(&[("a", 9), ("b", 5)]), Some(2)).unwrap(), [0, 1]);
    assert_eq!(union.total(), Some(2));
    assert!(union.next(true).is_none() && union.is_over());
    assert_eq!(union.end(), Some(End::ListEnded));
}
