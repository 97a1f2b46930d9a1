//! libFuzzer on the target that `FUZZ_TARGET` names. `cargo xtask fuzz` builds it with the coverage that libFuzzer is guided by.

#![no_main]

use std::{env, sync::LazyLock};

static PROPERTY: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = env::var("FUZZ_TARGET").unwrap_or_default();
    let found = coffer_fuzz::TARGETS.into_iter().find(|(name, _)| *name == wanted);
    let Some((_, property)) = found else { panic!("FUZZ_TARGET names a target, not {wanted:?}") };
    property
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| PROPERTY(data));
