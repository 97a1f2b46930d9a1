//! Operations, and which of them are worth trying in a state.

use super::books::{Content, FIRST_ENTITY, Life, Limits, Place, QUOTAS, Spec, State};
use proptest::{prelude::*, sample::select, strategy::Union};

/// Paths of a case: few, so that contents meet.
pub(super) const PATHS: usize = 4;
const SIZES: [usize; 8] = [0, 1, 10, 1_000, 5_000, 65_536, 100_000, 200_000];
/// What a limit leaves of bytes and of files.
const ROOM_BYTES: [i64; 6] = [0, 1, 5_000, 70_000, 150_000, 1_200_000];
const ROOM_FILES: [i64; 3] = [0, 1, 2];

/// How a stream that brings bytes ends without `finish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// By the client, in order.
    Ended,
    /// By the client, in the middle.
    Dropped,
    /// By the service, after so many milliseconds.
    Killed(u64),
}

/// How an upload is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Right,
    /// With its SHA-256.
    Verified,
    /// With the spec once more, and the content from its beginning.
    BySpec,
    WrongSum,
    /// Fewer bytes than declared.
    Short,
    /// More bytes than declared.
    Long,
    /// The service is killed after so many milliseconds, and the client asks again.
    Killed(u64),
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Start(Spec),
    StartKilled(Spec, u64),
    StartAgain(usize),
    /// Brings an upload to this many bytes.
    Write(usize, usize, Cut),
    /// Two streams: the second takes over when the first has brought it to some bytes, and brings it to more.
    TakeOver(usize, usize, usize),
    Finish(usize, How),
    /// One that is a file already.
    FinishAgain(usize),
    Cancel(usize),
    Look(usize),
    /// With a `request_id`, or without.
    OneShot(Spec, How, bool),
    /// A stream without a `request_id` that is left by the client or killed with the service.
    OneShotCut(Spec, Cut),
    Delete(usize),
    Undelete(usize),
    Purge(usize),
    SetQuota(usize, Limits),
    Kill,
    /// A request that had its effect, as it was.
    Repeat(usize),
    /// Its id with another request.
    Reuse(usize),
}

pub(super) fn specs() -> impl Strategy<Value = Spec> {
    let content = (any::<u8>(), select(&SIZES[..])).prop_map(|(tag, size)| Content { tag, size });
    (0..PATHS, any::<bool>(), prop::bool::weighted(0.1), any::<bool>(), content).prop_map(
        |(path, in_project, create_only, is_declared, content)| Spec {
            path,
            in_project,
            create_only,
            is_declared,
            content,
        },
    )
}

/// Operations that mean something in a state; whether they succeed is another matter.
pub(super) fn of(state: &State) -> BoxedStrategy<Operation> {
    let mut all: Vec<(u32, BoxedStrategy<Operation>)> = vec![
        (8, specs().prop_map(Operation::Start).boxed()),
        (8, one_shots()),
        (2, (specs(), cuts()).prop_map(|(spec, cut)| Operation::OneShotCut(spec, cut)).boxed()),
        (6, limits(state)),
        (1, Just(Operation::Kill).boxed()),
        (1, (specs(), 0..30u64).prop_map(|(spec, moment)| Operation::StartKilled(spec, moment)).boxed()),
    ];
    let mut add = |weight: u32, of: Vec<usize>, make: fn(usize) -> BoxedStrategy<Operation>| {
        if !of.is_empty() {
            all.push((weight, select(of).prop_flat_map(make).boxed()));
        }
    };
    let uploads = |is_so: fn(Life) -> bool| -> Vec<usize> {
        (0..state.uploads.len()).filter(|n| is_so(state.uploads[*n].life)).collect()
    };
    let open = uploads(|life| life == Life::Open);
    add(14, open.clone(), |n| finishes(n).boxed());
    add(3, open.clone(), |n| Just(Operation::Cancel(n)).boxed());
    add(3, open.clone(), |n| Just(Operation::StartAgain(n)).boxed());
    let ended = uploads(|life| life != Life::Open);
    add(2, ended.clone(), |n| Just(Operation::Cancel(n)).boxed());
    add(2, ended.clone(), |n| Just(Operation::StartAgain(n)).boxed());
    add(2, ended, |n| Just(Operation::Look(n)).boxed());
    add(4, uploads(|life| matches!(life, Life::Committed(_))), |n| Just(Operation::FinishAgain(n)).boxed());
    add(2, uploads(|life| life == Life::Aborted), |n| Just(Operation::Write(n, 1, Cut::Ended)).boxed());
    let files = |place: Place| -> Vec<usize> {
        (0..state.files.len()).filter(|n| state.files[*n].place == place).collect()
    };
    add(5, files(Place::Live), |n| Just(Operation::Delete(n)).boxed());
    add(3, files(Place::Trash), |n| Just(Operation::Undelete(n)).boxed());
    add(3, files(Place::Trash), |n| Just(Operation::Purge(n)).boxed());
    // These are refused.
    add(1, (0..state.files.len()).collect(), |n| Just(Operation::Delete(n)).boxed());
    add(1, (0..state.files.len()).collect(), |n| Just(Operation::Undelete(n)).boxed());
    add(1, (0..state.files.len()).collect(), |n| Just(Operation::Purge(n)).boxed());
    add(4, (0..state.asked.len()).collect(), |n| Just(Operation::Repeat(n)).boxed());
    add(1, (0..state.asked.len()).collect(), |n| Just(Operation::Reuse(n)).boxed());
    let partial: Vec<_> = open
        .into_iter()
        .map(|n| (n, state.uploads[n].persisted, state.uploads[n].spec.content.size))
        .collect();
    if !partial.is_empty() {
        let written = |(n, from, size): (usize, usize, usize)| {
            (Just(n), from..=size.max(from), cuts()).prop_map(|(n, to, cut)| Operation::Write(n, to, cut))
        };
        all.push((12, select(partial.clone()).prop_flat_map(written).boxed()));
        let taken_over = |(n, from, size): (usize, usize, usize)| {
            (Just(n), from..=size.max(from), from..=size.max(from))
                .prop_map(|(n, a, b)| Operation::TakeOver(n, a.min(b), a.max(b)))
        };
        all.push((3, select(partial).prop_flat_map(taken_over).boxed()));
    }
    Union::new_weighted(all).boxed()
}

fn cuts() -> impl Strategy<Value = Cut> {
    prop_oneof![
        8 => Just(Cut::Ended),
        4 => Just(Cut::Dropped),
        1 => (0..30u64).prop_map(Cut::Killed),
    ]
}

fn hows() -> impl Strategy<Value = How> {
    prop_oneof![
        10 => Just(How::Right),
        4 => Just(How::Verified),
        3 => Just(How::BySpec),
        2 => Just(How::WrongSum),
        1 => Just(How::Short),
        1 => Just(How::Long),
        1 => (0..60u64).prop_map(How::Killed),
    ]
}

fn finishes(upload: usize) -> impl Strategy<Value = Operation> {
    hows().prop_map(move |how| Operation::Finish(upload, how))
}

fn one_shots() -> BoxedStrategy<Operation> {
    (specs(), hows(), any::<bool>())
        .prop_map(|(spec, how, has_request)| Operation::OneShot(spec, how, has_request))
        .boxed()
}

/// Limits around what is taken, below it, and none.
fn limits(state: &State) -> BoxedStrategy<Operation> {
    let state = state.clone();
    let limits = move |quota: usize| {
        let (used, reserved) = (state.used(quota), state.reserved(quota));
        let taken = used.bytes + reserved.bytes;
        let bytes = prop_oneof![
            3 => Just(None),
            4 => select(&ROOM_BYTES[..]).prop_map(move |room| Some(taken + room)),
            1 => Just(Some(taken / 2)),
        ];
        let of_entity = move |limit: BoxedStrategy<Option<i64>>| {
            if quota < FIRST_ENTITY { Just(None).boxed() } else { limit }
        };
        let files = used.files + reserved.files;
        let files = prop_oneof![
            5 => Just(None),
            2 => select(&ROOM_FILES[..]).prop_map(move |room| Some(files + room)),
        ];
        let file_bytes = prop_oneof![8 => Just(None), 1 => select(&SIZES[..]).prop_map(|n| Some(n as i64))];
        (Just(quota), bytes, of_entity(files.boxed()), of_entity(file_bytes.boxed())).prop_map(
            |(quota, bytes, files, file_bytes)| {
                Operation::SetQuota(quota, Limits { bytes, files, file_bytes })
            },
        )
    };
    (0..QUOTAS).prop_flat_map(limits).boxed()
}
