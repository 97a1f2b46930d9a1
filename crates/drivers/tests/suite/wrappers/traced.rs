use super::{faulty, faulty::Fault::Fails};
use crate::support::{begin, begin_resumable, key, kind, noise, read, resumable, write};
use coffer_domain::{
    driver::{Batch, Driver as _, ErrorKind, PieceSize},
    id::UploadId,
};
use coffer_drivers::wrap::{self, Retry, Traced};
use futures_util::StreamExt as _;
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, Once},
    thread::ThreadId,
    time::Duration,
};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _, registry::LookupSpan};

/// A span that was seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    name: &'static str,
    level: Option<Level>,
    parent: Option<&'static str>,
    fields: HashMap<&'static str, String>,
    entered_on: Vec<ThreadId>,
    is_closed: bool,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// Keeps the spans that begin on the test's thread, in that order.
type Spans = Rc<RefCell<Vec<Arc<Mutex<Seen>>>>>;

thread_local! {
    static SPANS: RefCell<Option<Spans>> = const { RefCell::new(None) };
}

/// One layer for the whole process: what is enabled is decided once per process, so that a layer per test would miss spans
/// whenever another test began or ended.
struct Recording;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recording {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        SPANS.with_borrow(|spans| {
            let Some(spans) = spans else { return };
            let metadata = attributes.metadata();
            let mut seen = Seen { name: metadata.name(), level: Some(*metadata.level()), ..Seen::default() };
            attributes.record(&mut seen);
            seen.parent = context.span(id).unwrap().parent().map(|parent| parent.name());
            let seen = Arc::new(Mutex::new(seen));
            spans.borrow_mut().push(Arc::clone(&seen));
            context.span(id).unwrap().extensions_mut().insert(seen);
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        change(id, &context, |seen| values.record(seen));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        change(id, &context, |seen| seen.entered_on.push(std::thread::current().id()));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        change(&id, &context, |seen| seen.is_closed = true);
    }
}

fn change<S: Subscriber + for<'a> LookupSpan<'a>>(
    id: &Id,
    context: &Context<'_, S>,
    change: impl FnOnce(&mut Seen),
) {
    if let Some(seen) = context.span(id).unwrap().extensions().get::<Arc<Mutex<Seen>>>() {
        change(&mut seen.lock().unwrap());
    }
}

/// The spans that begin on this thread from now on.
struct Recorder(Spans);

impl Recorder {
    fn start() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Recording)).unwrap();
        });
        let spans = Spans::default();
        SPANS.set(Some(Rc::clone(&spans)));
        Self(spans)
    }

    fn look(&self) -> Vec<Seen> {
        self.0.borrow().iter().map(|seen| seen.lock().unwrap().clone()).collect()
    }
}

fn names(spans: &[Seen]) -> Vec<&'static str> {
    spans.iter().map(|seen| seen.name).collect()
}

#[tokio::test]
async fn every_call_has_a_span_that_says_what_it_was() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    let at = key("aa/object");
    let recorder = Recorder::start();
    write(&traced, &at, &noise(3_000_000, 1)).await.unwrap();
    read(&traced, &at).await.unwrap();
    traced.stat(&at).await.unwrap();
    traced.list("aa/", None, 10).await.unwrap();
    traced.put(&at, noise(10, 1)).await.unwrap();
    traced.delete(&at).await.unwrap();
    traced.sweep(UploadId::new()).await.unwrap();
    begin(&traced, &at).await.unwrap().abort().await.unwrap();
    traced.store(UploadId::new(), &at, vec![noise(10, 1), noise(5, 1)]).await.unwrap();
    let source = key("aa/source");
    inner.store(UploadId::new(), &source, vec![noise(7, 1)]).await.unwrap();
    traced.delete(&at).await.unwrap();
    traced.copy(UploadId::new(), &source, &at).await.unwrap();
    let spans = recorder.look();
    assert_eq!(
        names(&spans),
        [
            "driver.begin",
            "driver.write",
            "driver.write",
            "driver.write",
            "driver.finish",
            "driver.read",
            "driver.stat",
            "driver.list",
            "driver.put",
            "driver.delete",
            "driver.sweep",
            "driver.begin",
            "driver.abort",
            "driver.store",
            "driver.delete",
            "driver.copy",
        ]
    );
    for seen in &spans {
        assert_eq!((&*seen.fields["driver"], &*seen.fields["otel.kind"]), ("local", "client"), "{seen:?}");
        assert!(seen.is_closed && !seen.fields.contains_key("error.kind"), "{seen:?}");
        let is_keyless = matches!(seen.name, "driver.list" | "driver.sweep");
        assert_eq!(seen.fields.get("key").map(String::as_str), (!is_keyless).then_some("aa/object"));
        let level = if seen.name == "driver.write" { Level::DEBUG } else { Level::INFO };
        assert_eq!(seen.level, Some(level), "{seen:?}");
    }
    let bytes: Vec<_> = spans[1..6].iter().map(|seen| &*seen.fields["bytes"]).collect();
    assert_eq!(bytes, ["1048576", "1048576", "902848", "3000000", "3000000"]);
    assert_eq!(spans[7].fields["objects"], "1");
    assert_eq!(spans[13].fields["bytes"], "15");
    assert_eq!((&*spans[15].fields["bytes"], &*spans[15].fields["from"]), ("7", "aa/source"));
}

#[tokio::test]
async fn a_call_for_a_version_says_which() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    let (at, version) = (key("aa/object"), "v1".parse().unwrap());
    let recorder = Recorder::start();
    // The driver is on a disk, which keeps none.
    assert!(traced.read_version(&at, &version, 5..9, PieceSize::default()).await.is_err());
    assert!(traced.stat_version(&at, &version).await.is_err());
    assert!(traced.delete_version(&at, &version).await.is_err());
    let spans = recorder.look();
    assert_eq!(names(&spans), ["driver.read", "driver.stat", "driver.delete"]);
    for seen in &spans {
        let fields = ["key", "version", "error.kind"].map(|name| &*seen.fields[name]);
        assert_eq!(fields, ["aa/object", "v1", "Unsupported"], "{seen:?}");
    }
    assert_eq!(spans[0].fields["offset"], "5");
}

#[tokio::test]
async fn a_checkpoint_belongs_to_the_span_in_which_it_was_asked_for() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    let (upload, at) = (UploadId::new(), key("aa/object"));
    drop(begin_resumable(&traced, upload, &at).await.unwrap());
    let recorder = Recorder::start();
    let mut writer = traced.resume(upload, &at, 0, resumable()).await.unwrap();
    let asking = tracing::info_span!("asking");
    let first = asking.in_scope(|| writer.checkpoint());
    tokio::spawn(first).await.unwrap().unwrap();
    inner.plan([Fails(ErrorKind::Unavailable)]);
    let second = asking.in_scope(|| writer.checkpoint());
    assert!(second.await.is_err());
    let spans = recorder.look();
    assert_eq!(names(&spans), ["driver.resume", "asking", "driver.checkpoint", "driver.checkpoint"]);
    let resume = &spans[0].fields;
    assert_eq!((&*resume["offset"], &resume["upload.id"]), ("0", &upload.to_string()));
    let parents: Vec<_> = spans.iter().map(|seen| seen.parent).collect();
    assert_eq!(parents, [None, None, Some("asking"), Some("asking")]);
    assert!(spans[2..].iter().all(|seen| seen.is_closed && seen.fields["key"] == "aa/object"));
    let failed: Vec<_> = spans.iter().map(|seen| seen.fields.get("error.kind").map(String::as_str)).collect();
    assert_eq!(failed, [None, None, None, Some("Unavailable")]);
}

#[tokio::test]
async fn the_span_of_a_read_lasts_as_long_as_its_stream() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    write(&traced, &key("a"), &noise(3_000_000, 1)).await.unwrap();
    let recorder = Recorder::start();
    let mut pieces = traced.read(&key("a"), 0..u64::MAX, PieceSize::default()).await.unwrap();
    let entered_before = recorder.look()[0].entered_on.len();
    let first = pieces.next().await.unwrap().unwrap();
    assert!(!recorder.look()[0].is_closed);
    assert!(recorder.look()[0].entered_on.len() > entered_before, "pieces are asked for within the span");
    drop(pieces);
    let seen = recorder.look().remove(0);
    assert!(seen.is_closed);
    assert_eq!(seen.fields["bytes"], first.len().to_string(), "what was taken, not what there was");
}

#[tokio::test]
async fn a_failure_is_noted_wherever_it_happens() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    write(&traced, &key("a"), &noise(3_000_000, 1)).await.unwrap();
    let recorder = Recorder::start();
    assert_eq!(kind(traced.read(&key("b"), 0..1, PieceSize::default()).await), Some(ErrorKind::NotFound));
    let mut pieces = traced.read(&key("a"), 0..u64::MAX, PieceSize::default()).await.unwrap();
    inner.plan([Fails(ErrorKind::Unavailable)]);
    assert!(pieces.next().await.unwrap().is_err());
    drop(pieces);
    assert_eq!(kind(write(&traced, &key("a"), &noise(1, 1)).await), Some(ErrorKind::AlreadyExists));
    let spans = recorder.look();
    let failed: Vec<_> = spans.iter().map(|seen| seen.fields.get("error.kind").map(String::as_str)).collect();
    assert_eq!(failed, [Some("NotFound"), Some("Unavailable"), None, None, Some("AlreadyExists")]);
    assert!(spans.iter().all(|seen| seen.is_closed));
    assert_eq!(spans.iter().filter(|seen| seen.fields.contains_key("otel.status_code")).count(), 3);
}

#[tokio::test]
async fn what_is_encoded_on_another_thread_is_within_the_span_of_its_write() {
    let (inner, _place) = faulty().await;
    let traced = Traced::new(inner.clone());
    let recorder = Recorder::start();
    let mut writer = begin(&traced, &key("a")).await.unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let encode = move || {
        send.send(std::thread::current().id()).unwrap();
        vec![noise(10, 1)]
    };
    writer.write(Batch::new(encode)).await.unwrap();
    let encoder = receive.recv().unwrap();
    assert_ne!(encoder, std::thread::current().id());
    let spans = recorder.look();
    assert!(spans[1].name == "driver.write" && spans[1].entered_on.contains(&encoder), "{:?}", spans[1]);
}

/// One span for the caller's one call, however often it was tried, and one for a call that was refused.
#[tokio::test]
async fn the_span_is_outside_of_all_other_wrappers() {
    let (inner, _place) = faulty().await;
    let retry = Retry { first_pause: Duration::from_millis(1), ..Retry::default() };
    let driver = wrap::all(inner.clone(), &wrap::Options { retry, ..wrap::Options::default() });
    let recorder = Recorder::start();
    inner.plan([Fails(ErrorKind::Unavailable); 2]);
    driver.stat(&key("a")).await.unwrap();
    assert_eq!(inner.calls(), ["stat"; 3]);
    assert_eq!(kind(driver.list("", None, 0).await), Some(ErrorKind::Unsupported));
    let spans = recorder.look();
    assert_eq!(names(&spans), ["driver.stat", "driver.list"]);
    assert!(!spans[0].fields.contains_key("error.kind"));
    assert_eq!(spans[1].fields["error.kind"], "Unsupported");
}
