//! Page tokens: where a page ended, sealed so that only this service's own tokens for the same question are taken back.
//!
//! A token is base64url of a version byte, the cursor's id and sort value, and an HMAC-SHA256 over those and over what the list was
//! asked: RPC, caller and query.

use crate::fields::Fields;
use coffer_domain::{
    caller::Principal,
    id::ClusterId,
    page::{Cursor, PageRequest},
};
use coffer_proto::v1::{
    ListCredentialsRequest, ListEndpointsRequest, ListFilesRequest, ListLocalPathsRequest,
    ListOperationsRequest, ListQuotasRequest, ListTasksRequest, ListUploadsRequest, ListVolumesRequest,
};
use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use ring::{digest, hmac};
use uuid::Uuid;

/// Form of the tokens made here; others are refused.
const VERSION: u8 = 1;

/// Bytes of the HMAC.
const TAG_BYTES: usize = 32;

/// Most characters of a token: the longest sort value is a path of 4,096 bytes.
const MAX_TOKEN_CHARS: usize = 8 * 1_024;

/// Makes and reads the tokens of one metadata database.
#[derive(Debug, Clone)]
pub struct Tokens {
    key: hmac::Key,
}

/// What a token is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding([u8; 32]);

/// The numbers of a list request.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `page_size`.
    size: i32,
    /// `skip`; 0 where the RPC has none.
    skip: i32,
    /// `page_token`.
    token: &'a str,
}

/// A request for a page of a list.
pub trait List: Message + Clone {
    /// Its RPC.
    const METHOD: &'static str;

    /// Which page is asked for.
    fn asked(&self) -> Asked<'_>;

    /// What is listed: the request without `page_size` and `page_token`, in which the requests of one list may differ.
    #[must_use]
    fn query(&self) -> Self;
}

macro_rules! lists {
    ($($message:ident = $method:literal $(, $skip:ident)?;)+) => {$(
        impl List for $message {
            const METHOD: &'static str = $method;

            fn asked(&self) -> Asked<'_> {
                Asked { size: self.page_size, skip: 0 $(+ self.$skip)?, token: &self.page_token }
            }

            fn query(&self) -> Self {
                let mut query = self.clone();
                (query.page_size, query.page_token) = (0, String::new());
                query
            }
        }
    )+};
}

lists! {
    ListCredentialsRequest = "ListCredentials";
    ListEndpointsRequest = "ListEndpoints";
    ListFilesRequest = "ListFiles", skip;
    ListLocalPathsRequest = "ListLocalPaths";
    ListOperationsRequest = "ListOperations";
    ListQuotasRequest = "ListQuotas";
    ListTasksRequest = "ListTasks";
    ListUploadsRequest = "ListUploads";
    ListVolumesRequest = "ListVolumes";
}

impl Binding {
    /// Binds to a list: the RPC, its caller, and what is listed.
    pub fn of<L: List>(list: &L, principal: &Principal) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let query = list.query().encode_to_vec();
        for part in [L::METHOD.as_bytes(), principal.scope().as_bytes(), &query] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl Tokens {
    /// Tokens of a metadata database: the same on each of its nodes and after each restart.
    pub fn new(cluster: ClusterId) -> Self {
        let cluster = hmac::Key::new(hmac::HMAC_SHA256, cluster.uuid().as_bytes());
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&cluster, b"coffer.v1 page token").as_ref()),
        }
    }

    /// The token of a page that ended at `cursor`.
    pub fn seal(&self, cursor: &Cursor, binding: &Binding) -> String {
        let mut token = vec![VERSION];
        token.extend_from_slice(cursor.id.as_bytes());
        token.extend_from_slice(cursor.value.as_bytes());
        let tag = hmac::sign(&self.key, &bound(&token, binding));
        token.extend_from_slice(tag.as_ref());
        BASE64URL_NOPAD.encode(&token)
    }

    /// `next_page_token`: empty on the last page.
    pub(crate) fn next(&self, cursor: Option<&Cursor>, binding: &Binding) -> String {
        cursor.map(|cursor| self.seal(cursor, binding)).unwrap_or_default()
    }

    /// The page that is asked for, and what the token of the next one is bound to. `skip` applies to the first page; a token says where the one before ended.
    pub(crate) fn request<L: List>(
        &self,
        list: &L,
        principal: &Principal,
        fields: &mut Fields,
    ) -> (Option<PageRequest>, Binding) {
        let binding = Binding::of(list, principal);
        (self.page(list.asked(), &binding, fields), binding)
    }

    fn page(&self, asked: Asked<'_>, binding: &Binding, fields: &mut Fields) -> Option<PageRequest> {
        let Asked { size, skip, token } = asked;
        let size = fields.absorb(PageRequest::new(size, 0, None));
        let skip = fields.absorb(PageRequest::new(0, skip, None));
        let after = match token {
            "" => Some(None),
            token => fields.take(
                "page_token",
                self.open(token, binding)
                    .map(Some)
                    .ok_or("is not the next_page_token of this list; only page_size may differ"),
            ),
        };
        let (size, skip, after) = (size?.size, skip?.skip, after?);
        Some(PageRequest { size, skip: if after.is_some() { 0 } else { skip }, after })
    }

    /// The cursor that [`Tokens::seal`] made this token of, for the same binding; `None` for any other text.
    pub fn open(&self, token: &str, binding: &Binding) -> Option<Cursor> {
        if token.len() > MAX_TOKEN_CHARS {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (sealed, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        hmac::verify(&self.key, &bound(sealed, binding), tag).ok()?;
        let (version, rest) = sealed.split_first()?;
        let (id, value) = rest.split_at_checked(16)?;
        if *version != VERSION {
            return None;
        }
        Some(Cursor { value: String::from_utf8(value.to_vec()).ok()?, id: Uuid::from_slice(id).ok()? })
    }
}

fn bound(sealed: &[u8], binding: &Binding) -> Vec<u8> {
    [&binding.0, sealed].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_domain::{Error, caller::Roles, time::now};

    fn principal(organisation: &str, app: &str) -> Principal {
        Principal {
            user: None,
            app: Some(app.to_owned()),
            organisation: organisation.to_owned(),
            projects: Vec::new(),
            roles: Roles::default(),
            is_delegated: false,
            expires_at: now(),
        }
    }

    fn binding() -> Binding {
        Binding::of(&ListFilesRequest::default(), &principal("clinic", "scanner"))
    }

    fn cursor() -> Cursor {
        Cursor { value: "zebra ü".to_owned(), id: Uuid::now_v7() }
    }

    fn ask(tokens: &Tokens, token: &str, binding: &Binding, skip: i32) -> Result<PageRequest, Error> {
        let mut fields = Fields::default();
        let page = tokens.page(Asked { size: 5, skip, token }, binding, &mut fields);
        fields.finish(page)
    }

    #[test]
    fn a_token_says_where_to_go_on_and_is_the_same_on_every_node() {
        let (cluster, cursor) = (ClusterId::new(), cursor());
        let token = Tokens::new(cluster).seal(&cursor, &binding());
        let page = ask(&Tokens::new(cluster), &token, &binding(), 7).unwrap();
        assert_eq!(page, PageRequest { size: 5, skip: 0, after: Some(cursor) });
        assert_eq!(ask(&Tokens::new(cluster), "", &binding(), 7).unwrap().skip, 7);
    }

    #[test]
    fn anything_else_is_refused() {
        let tokens = Tokens::new(ClusterId::new());
        let token = tokens.seal(&cursor(), &binding());
        let foreign = Tokens::new(ClusterId::new()).seal(&cursor(), &binding());
        let mut bad = vec![
            "x".to_owned(),
            "!!".to_owned(),
            foreign,
            format!("{token}A"),
            format!("{token}="),
            "A".repeat(100_000),
        ];
        bad.extend((1..token.len()).map(|end| token[..end].to_owned()));
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            bad.push(BASE64URL_NOPAD.encode(&flipped));
        }
        for token in bad {
            let Err(Error::Invalid(violations)) = ask(&tokens, &token, &binding(), 0) else {
                panic!("{token} was taken")
            };
            assert_eq!(violations[0].field, "page_token");
        }
    }

    #[test]
    fn a_token_is_bound_to_rpc_caller_and_query() {
        let tokens = Tokens::new(ClusterId::new());
        let token = tokens.seal(&cursor(), &binding());
        for other in [
            Binding::of(&ListVolumesRequest::default(), &principal("clinic", "scanner")),
            Binding::of(&ListFilesRequest::default(), &principal("bank", "scanner")),
            Binding::of(&ListFilesRequest::default(), &principal("clinic", "viewer")),
            Binding::of(
                &ListFilesRequest { descending: true, ..Default::default() },
                &principal("clinic", "scanner"),
            ),
        ] {
            assert!(ask(&tokens, &token, &other, 0).is_err());
        }
        assert!(ask(&tokens, &token, &binding(), 0).is_ok());
    }

    #[test]
    fn all_bad_numbers_are_told() {
        let tokens = Tokens::new(ClusterId::new());
        let mut fields = Fields::default();
        let list =
            ListFilesRequest { page_size: -1, skip: 10_001, page_token: "x".into(), ..Default::default() };
        let (page, _) = tokens.request(&list, &principal("clinic", "scanner"), &mut fields);
        let Err(Error::Invalid(violations)) = fields.finish(page) else { panic!("taken") };
        assert_eq!(
            violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
            ["page_size", "skip", "page_token"]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_cursor_comes_back_and_no_other_text_does(
            value in ".{0,40}",
            id in proptest::num::u128::ANY,
            text in "[A-Za-z0-9_-]{0,120}",
            at in proptest::prelude::any::<proptest::sample::Index>(),
            byte in "[A-Za-z0-9_-]",
        ) {
            let (tokens, binding) = (Tokens::new(ClusterId::new()), binding());
            let cursor = Cursor { value, id: Uuid::from_u128(id) };
            let token = tokens.seal(&cursor, &binding);
            proptest::prop_assert_eq!(tokens.open(&token, &binding), Some(cursor));
            let mut altered = token.clone();
            let at = at.index(token.len());
            altered.replace_range(at..=at, &byte);
            proptest::prop_assert_eq!(tokens.open(&altered, &binding).is_some(), altered == token);
            proptest::prop_assert_eq!(tokens.open(&text, &binding), None);
        }
    }
}
