//! The service against a small model of it: plain vectors of files, uploads and quotas, and random operations on both.
//!
//! After each operation the answer is the model's (code, reason, what is exhausted and by how much, the content as it reads back), and so are
//! all six quotas. What a crash or a connection that breaks leaves open (how much had arrived) is checked to be within its bounds, and then
//! closed: the upload goes on from there.
//!
//! A run is named by its seed, which is printed; `COFFER_SEED` names another, `COFFER_CASES` asks for more. A failure is shrunk to the few
//! operations that it takes.

#[path = "model/books.rs"]
mod books;
#[path = "model/machine.rs"]
mod machine;
#[path = "model/operations.rs"]
mod operations;
#[path = "model/service.rs"]
mod service;
#[path = "model/tenant.rs"]
mod tenant;

use books::State;
use coffer_tests::dice::number_of_run;
use machine::Machine;
use operations::Operation;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use service::Service;
use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};
use tenant::Tenant;

/// Cases in the run of the suite, each of a tenant and a volume of its own; `COFFER_CASES` asks for more.
const CASES: u64 = 12;
const SEED: u64 = 0x5EED;
/// Operations of a case.
const OPERATIONS: std::ops::Range<usize> = 30..50;
/// Attempts at making a failure shorter, each of them a case, and how long they may take.
const MAX_SHRINKS: u32 = 100;
const MAX_SHRINK_MS: u32 = 90_000;

/// What a case does: where it begins, its operations, and how many of them were seen.
type Case = (State, Vec<Operation>, Option<std::sync::Arc<AtomicUsize>>);

#[test]
fn the_service_is_as_its_model() {
    let cases = number_of_run("COFFER_CASES", CASES);
    let seed = number_of_run("COFFER_SEED", SEED);
    println!("seed {seed}, {cases} cases");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let service = RefCell::new(runtime.block_on(Service::start()));
    let operations = AtomicUsize::new(0);
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: MAX_SHRINKS,
        max_shrink_time: MAX_SHRINK_MS,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&Machine::sequential_strategy(OPERATIONS), |case| {
        let mut service = service.borrow_mut();
        runtime.block_on(run(&mut service, case, &operations)).map_err(TestCaseError::fail)
    });
    let operations = operations.load(Ordering::Relaxed);
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (state, case, _))) => {
            panic!("seed {seed}: {why}\nkeeps versions: {}, operations: {case:#?}", state.keeps_versions)
        }
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
    runtime.block_on(service.borrow().settled());
    println!("{operations} operations run, seed {seed}, {cases} cases, 0 differences");
    assert!(operations as u64 >= cases * OPERATIONS.start as u64, "{operations} operations");
}

/// A case on a tenant of its own; what differs, if anything does.
async fn run(service: &mut Service, case: Case, operations: &AtomicUsize) -> Result<(), String> {
    let (mut state, transitions, seen) = case;
    let mut tenant = Tenant::new(service, &state).await;
    for (n, operation) in transitions.into_iter().enumerate() {
        if let Some(seen) = &seen {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let before = state.clone();
        state = Machine::apply(state, &operation);
        let outcome = tenant.carry_out(service, &before, &state, &operation).await;
        let outcome = match outcome {
            Ok(()) => tenant.compare(&state, &operation).await,
            Err(why) => Err(why),
        };
        outcome.map_err(|why| format!("operation {n}, {operation:?}: {why}"))?;
        operations.fetch_add(1, Ordering::Relaxed);
    }
    tenant.compare_all(service, &state).await
}
