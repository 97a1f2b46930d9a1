use super::*;
use coffer_domain::error::Limited;
use tokio::task::yield_now;

const LIMITS: Limits =
    Limits { requests: 100, requests_per_principal: 50, uploads_per_principal: 5, turns: 4 };

fn source() -> Option<IpAddr> {
    Some("192.0.2.7".parse().unwrap())
}

fn arrive(admission: &Admission) -> Place {
    admission.arrive(source(), Kind::Unary).unwrap()
}

fn is_empty(admission: &Admission) -> bool {
    let state = admission.0.state();
    state.requests == 0 && state.turns == 0 && state.callers.is_empty() && state.waiting.is_empty()
}

async fn enter(place: &Place, caller: &str) -> Result<()> {
    place.belong_to(caller.to_owned())?;
    place.take_turn().await
}

/// A request of `caller` that has its turn.
async fn working(admission: &Admission, caller: &str) -> Place {
    let place = arrive(admission);
    enter(&place, caller).await.unwrap();
    place
}

/// A request of `caller` that waits for its turn.
async fn queued(admission: &Admission, caller: &'static str) -> tokio::task::JoinHandle<(Place, Result<()>)> {
    let place = arrive(admission);
    let waiting = tokio::spawn(async move {
        let entered = enter(&place, caller).await;
        (place, entered)
    });
    yield_now().await;
    waiting
}

#[tokio::test]
async fn nobody_has_more_than_he_may_and_others_are_not_touched() {
    let limits = Limits { requests_per_principal: 3, turns: 100, ..LIMITS };
    let admission = Admission::new(limits);
    let mut ann = Vec::new();
    for _ in 0..3 {
        ann.push(working(&admission, "ann").await);
    }
    let more = enter(&arrive(&admission), "ann").await;
    assert!(matches!(more, Err(Error::LimitReached { of: Limited::Requests, limit: 3 })), "{more:?}");
    let _bob = working(&admission, "bob").await;
    ann.pop();
    ann.push(working(&admission, "ann").await);
    drop(ann);
    drop(_bob);
    assert!(is_empty(&admission), "nothing is kept of callers who have nothing");
}

#[tokio::test]
async fn uploads_have_a_limit_of_their_own() {
    let admission = Admission::new(Limits { uploads_per_principal: 1, ..LIMITS });
    let upload = |source: &str| admission.arrive(Some(source.parse().unwrap()), Kind::Upload);
    let first = upload("192.0.2.1").unwrap();
    first.belong_to("ann".to_owned()).unwrap();
    let second = upload("192.0.2.1").unwrap();
    let refused = second.belong_to("ann".to_owned());
    assert!(matches!(refused, Err(Error::LimitReached { of: Limited::Uploads, limit: 1 })), "{refused:?}");
    second.belong_to("bob".to_owned()).unwrap();
    working(&admission, "ann").await;
    drop((first, second));
    assert!(is_empty(&admission));
}

#[test]
fn in_all_there_is_a_limit_and_probes_are_answered_beyond() {
    let admission = Admission::new(Limits { requests: 2, ..LIMITS });
    let places = [arrive(&admission), arrive(&admission)];
    let refused = |kind| admission.arrive(source(), kind);
    assert!(matches!(refused(Kind::Unary), Err(Error::Overloaded)));
    assert!(matches!(refused(Kind::Upload), Err(Error::Overloaded)));
    drop(refused(Kind::Probe).unwrap());
    drop(places);
    drop(arrive(&admission));
    assert!(is_empty(&admission));
}

#[test]
fn who_is_not_known_shares_with_his_source() {
    let admission = Admission::new(Limits { requests_per_principal: 1, ..LIMITS });
    let from = |ip: &str| admission.arrive(Some(ip.parse().unwrap()), Kind::Unary);
    let _v4 = from("192.0.2.7").unwrap();
    assert!(from("::ffff:192.0.2.7").is_err());
    let _v6 = from("2001:db8:1:2::1").unwrap();
    assert!(from("2001:db8:1:2:3::1").is_err());
    assert!(from("2001:db8:1:3::1").is_ok());
}

#[tokio::test]
async fn the_next_turn_is_that_of_who_has_the_fewest() {
    let admission = Admission::new(LIMITS);
    let mut ann = Vec::new();
    for _ in 0..3 {
        ann.push(working(&admission, "ann").await);
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(queued(&admission, "ann").await);
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "the last turn is for others");
    let bob = working(&admission, "bob").await;
    let second = queued(&admission, "bob").await;
    assert!(!second.is_finished(), "all turns are taken");
    drop(ann.pop());
    let (second, entered) = second.await.unwrap();
    entered.unwrap();
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "bob had one, ann two");
    drop((bob, second));
    yield_now().await;
    let entered = waiting.iter().filter(|waiting| waiting.is_finished()).count();
    assert_eq!(entered, 1, "then it is ann's again");
}

#[tokio::test]
async fn an_answer_takes_no_turn() {
    let admission = Admission::new(Limits { turns: 1, ..LIMITS });
    let first = working(&admission, "ann").await;
    let second = queued(&admission, "bob").await;
    assert!(!second.is_finished());
    first.answered();
    second.await.unwrap().1.unwrap();
    drop(first);
    assert!(is_empty(&admission));
}

#[tokio::test]
async fn turns_of_those_who_left_are_not_lost() {
    let admission = Admission::new(Limits { turns: 1, ..LIMITS });
    let first = working(&admission, "ann").await;
    let left = [queued(&admission, "bob").await, queued(&admission, "bob").await];
    let last = queued(&admission, "carol").await;
    left.iter().for_each(tokio::task::JoinHandle::abort);
    yield_now().await;
    // Given to whom is aborted before he sees it.
    let granted = queued(&admission, "dave").await;
    drop(first);
    granted.abort();
    last.await.unwrap().1.unwrap();
    let _ = granted.await;
    drop(working(&admission, "eve").await);
    assert!(is_empty(&admission));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_is_refused() {
    let admission = Admission::new(Limits { turns: 1, ..LIMITS });
    let first = working(&admission, "ann").await;
    let since = Instant::now();
    let place = arrive(&admission);
    assert!(matches!(enter(&place, "bob").await, Err(Error::Overloaded)));
    assert_eq!(since.elapsed(), LONGEST_WAIT);
    drop((first, place));
    assert!(is_empty(&admission));
}

#[tokio::test]
async fn many_at_once_lose_no_turn() {
    let admission = Admission::new(LIMITS);
    let callers = ["ann", "bob", "carol"];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let admission = admission.clone();
        tasks.spawn(async move {
            for round in 0..20 {
                let place = working(&admission, callers[number % 3]).await;
                assert!(admission.0.state().turns <= LIMITS.turns);
                if round % 3 == 0 {
                    yield_now().await;
                }
                drop(place);
            }
        });
    }
    tasks.join_all().await;
    assert!(is_empty(&admission));
}
