//! Page tokens: only those are taken that were made for the same list and caller, and they say again what they were made of.

use coffer_api::page::{Binding, List, Tokens};
use coffer_domain::{caller::Principal, id::ClusterId, page::Cursor};
use coffer_proto::v1::{
    FileOrder, ListCredentialsRequest, ListEndpointsRequest, ListFilesRequest, ListLocalPathsRequest,
    ListOperationsRequest, ListQuotasRequest, ListTasksRequest, ListUploadsRequest, ListVolumesRequest,
};
use std::sync::LazyLock;
use uuid::Uuid;

/// Most bytes of a sort value: a path.
const MAX_VALUE_BYTES: usize = 4_096;
/// `page_size` and `page_token` of any list, to be put behind what was said of them before.
const ANOTHER_PAGE: &[u8] = b"\x08\x07\x12\x01x";

/// What lists there are, a token of the first of them, and the tokens of another database.
struct World {
    tokens: Tokens,
    foreign: Tokens,
    bindings: Vec<Binding>,
    token: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let tokens_of =
        |id: u128| Tokens::new(Uuid::from_u128(id).to_string().parse::<ClusterId>().expect("an id"));
    let (tokens, foreign) = (tokens_of(1 << 100), tokens_of(2 << 100));
    let clinic = principal(0);
    let orders =
        [FileOrder::Unspecified, FileOrder::Created, FileOrder::Updated, FileOrder::Name, FileOrder::Size];
    let files = orders.into_iter().flat_map(|order| {
        [false, true].map(|descending| ListFilesRequest {
            order: order.into(),
            descending,
            ..ListFilesRequest::default()
        })
    });
    let mut bindings: Vec<_> = files.map(|list| Binding::of(&list, &clinic)).collect();
    // Without a field these requests are no bytes, so that only the RPC tells them apart.
    bindings.extend(LISTS[1..].iter().filter_map(|bind| Some(bind(&[], &clinic)?.0)));
    let cursor = Cursor { value: "1767225600000000".to_owned(), id: Uuid::from_u128(7) };
    let token = tokens.seal(&cursor, &bindings[0]);
    World { tokens, foreign, bindings, token }
});

/// The first byte says what the rest is.
pub(crate) fn page(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    match form % 3 {
        0 => text(rest),
        1 => altered(rest),
        _ => drop(made(rest)),
    }
}

/// A token, whatever it looks like: of one list at most, and then the one that was made for it.
fn text(token: &[u8]) {
    let Ok(token) = std::str::from_utf8(token) else { return };
    let World { tokens, foreign, bindings, .. } = &*WORLD;
    let mut lists = 0;
    for binding in bindings {
        let Some(cursor) = tokens.open(token, binding) else { continue };
        assert_eq!(tokens.seal(&cursor, binding), token, "made of what it says");
        lists += 1;
    }
    assert!(lists <= 1, "{token} is of {lists} lists");
    assert!(bindings.iter().all(|binding| foreign.open(token, binding).is_none()), "{token} was never made");
}

/// A good token with some bytes changed: pairs of a position and a byte.
fn altered(changes: &[u8]) {
    let World { tokens, bindings, token: good, .. } = &*WORLD;
    let mut token = good.clone().into_bytes();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % token.len();
        token[at] = change[1];
    }
    let Ok(token) = String::from_utf8(token) else { return };
    assert_eq!(tokens.open(&token, &bindings[0]).is_some(), token == *good, "{token}");
}

/// A cursor and two lists, for the first of which a token is made.
fn made(mut data: &[u8]) -> Option<()> {
    let World { tokens, foreign, .. } = &*WORLD;
    let (list, other) = (Listed::read(&mut data)?, Listed::read(&mut data)?);
    let (id, value) = data.split_first_chunk::<16>()?;
    let value = std::str::from_utf8(value).ok().filter(|value| value.len() <= MAX_VALUE_BYTES)?;
    let cursor = Cursor { value: value.to_owned(), id: Uuid::from_bytes(*id) };

    let (binding, asked) = list.binding(&[])?;
    let token = tokens.seal(&cursor, &binding);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
    assert_eq!(tokens.open(&token, &binding).as_ref(), Some(&cursor));
    assert_eq!(foreign.open(&token, &binding), None);
    let (next_page, _) = list.binding(ANOTHER_PAGE)?;
    assert_eq!(
        tokens.open(&token, &next_page).as_ref(),
        Some(&cursor),
        "only size and token of the page differ"
    );
    let (other, also_asked) = other.binding(&[])?;
    assert_eq!(tokens.open(&token, &other).is_some(), asked == also_asked, "{asked:?} and {also_asked:?}");
    Some(())
}

/// Which list: of a caller, by one of the RPCs, and its request as it is encoded.
struct Listed<'a> {
    caller: u8,
    kind: usize,
    request: &'a [u8],
}

/// What a token is bound to.
#[derive(Debug, PartialEq)]
struct Asked {
    scope: String,
    method: &'static str,
    query: Vec<u8>,
}

impl<'a> Listed<'a> {
    /// Caller, kind and length, and then the request.
    fn read(data: &mut &'a [u8]) -> Option<Self> {
        let ([caller, kind, length], rest) = data.split_first_chunk()?;
        let (request, rest) = rest.split_at_checked(usize::from(*length))?;
        *data = rest;
        Some(Self { caller: *caller, kind: usize::from(*kind) % LISTS.len(), request })
    }

    fn binding(&self, more: &[u8]) -> Option<(Binding, Asked)> {
        LISTS[self.kind](&[self.request, more].concat(), &principal(self.caller))
    }
}

type Bind = fn(&[u8], &Principal) -> Option<(Binding, Asked)>;

const LISTS: [Bind; 9] = [
    bind::<ListFilesRequest>,
    bind::<ListLocalPathsRequest>,
    bind::<ListOperationsRequest>,
    bind::<ListQuotasRequest>,
    bind::<ListUploadsRequest>,
    bind::<ListVolumesRequest>,
    bind::<ListEndpointsRequest>,
    bind::<ListCredentialsRequest>,
    bind::<ListTasksRequest>,
];

fn bind<L: List + Default>(request: &[u8], caller: &Principal) -> Option<(Binding, Asked)> {
    let list = L::decode(request).ok()?;
    let asked = Asked { scope: caller.scope(), method: L::METHOD, query: list.query().encode_to_vec() };
    Some((Binding::of(&list, caller), asked))
}

/// One of a few callers of two organisations.
fn principal(number: u8) -> Principal {
    let app = if number & 1 == 0 { "scanner" } else { "viewer" };
    crate::principal(if number & 2 == 0 { "clinic" } else { "bank" }, app)
}
