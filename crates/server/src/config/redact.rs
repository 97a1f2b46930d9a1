//! Database URLs without their passwords.

/// What stands in a password's place.
pub(super) const HIDDEN: &str = "***";

/// The URL with `***` for its password, whether that is behind the user's name or a parameter.
pub(super) fn url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    // Up to the first `@` are user and password, whatever else is in them: a `?` there begins no parameters.
    let place_at = rest.find('@').unwrap_or(0);
    let query_at = rest[place_at..].find('?').map(|at| place_at + at);
    let (place, query) = rest.split_at(query_at.unwrap_or(rest.len()));
    let mut shown = format!("{scheme}://{}", authority(place));
    if let Some(query) = query.strip_prefix('?') {
        let parameters: Vec<_> = query.split('&').map(parameter).collect();
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

/// A password may hold what should have been escaped, so everything from the first colon to the last `@` goes.
fn authority(authority: &str) -> String {
    match authority.rsplit_once('@').and_then(|(user, place)| Some((user.split_once(':')?.0, place))) {
        Some((user, place)) => format!("{user}:{HIDDEN}@{place}"),
        None => authority.to_owned(),
    }
}

fn parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        // A name may be escaped as well.
        Some((name, _)) if name.eq_ignore_ascii_case("password") || name.contains('%') => {
            format!("{name}={HIDDEN}")
        }
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
            ("postgres://ann:sword?fish@db/coffer?a=b", "postgres://ann:***@db/coffer?a=b"),
            ("postgres://ann:sword/?password=fish@db/coffer", "postgres://ann:***@db/coffer"),
            ("postgres://ann@db/coffer?p%61ssword=swordfish", "postgres://ann@db/coffer?p%61ssword=***"),
            ("postgres://db/coffer?user=ann", "postgres://db/coffer?user=ann"),
            ("host=db password=swordfish", "***"),
        ] {
            assert_eq!(super::url(url), shown);
        }
    }
}
