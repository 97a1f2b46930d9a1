//! Database URLs without their passwords.

/// What stands in a password's place.
const HIDDEN: &str = "***";

/// The URL with `***` for its password, whether that is behind the user's name or a parameter.
pub(super) fn url(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, query)) => (url, Some(query)),
        None => (url, None),
    };
    let mut shown = authority(url);
    if let Some(query) = query {
        let parameters: Vec<_> = query.split('&').map(parameter).collect();
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

/// A password may hold what should have been escaped, so everything from the first colon to the last `@` goes.
fn authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{place}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

fn parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if name.eq_ignore_ascii_case("password") => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_are_not_shown_wherever_they_stand() {
        for (url, shown) in [
            ("postgres://ann:swordfish@db/coffer", "postgres://ann:***@db/coffer"),
            ("postgres://ann:sword@fish:/@db/coffer", "postgres://ann:***@db/coffer"),
            (
                "postgres://ann:@db:5432/coffer?sslmode=require",
                "postgres://ann:***@db:5432/coffer?sslmode=require",
            ),
            ("postgres://ann@db/coffer?password=swordfish&a=b", "postgres://ann@db/coffer?password=***&a=b"),
            ("postgres://ann@%2Frun%2Fpg/coffer", "postgres://ann@%2Frun%2Fpg/coffer"),
            ("host=db password=swordfish", "***"),
        ] {
            assert_eq!(super::url(url), shown);
        }
    }
}
