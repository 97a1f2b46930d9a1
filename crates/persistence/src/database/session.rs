//! What every session has set.

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Error, Options};

/// The settings that go with the first message of a connection, which costs no round trip.
///
/// Later ones win: the URL's own, then `options`, then `settings`.
pub(super) fn startup_options(of_url: Option<&str>, options: &Options, settings: &[(&str, &str)]) -> String {
    let quoted = options.schema.quoted();
    let milliseconds = |timeout: std::time::Duration| timeout.as_millis().to_string();
    let (statement, lock, idle) = (
        milliseconds(options.statement_timeout),
        milliseconds(options.lock_timeout),
        milliseconds(options.idle_in_transaction_timeout),
    );
    let ours = [
        ("search_path", quoted.as_str()),
        ("statement_timeout", &statement),
        ("lock_timeout", &lock),
        ("idle_in_transaction_session_timeout", &idle),
    ];
    let mut text = of_url.unwrap_or_default().to_owned();
    for (name, value) in ours.iter().chain(settings) {
        text.push_str(" -c ");
        push_escaped(&mut text, name);
        text.push('=');
        push_escaped(&mut text, value);
    }
    text
}

/// The server splits the text at blanks that have no backslash in front.
fn push_escaped(text: &mut String, part: &str) {
    for character in part.chars() {
        if character.is_ascii_whitespace() || character == '\\' {
            text.push('\\');
        }
        text.push(character);
    }
}

#[derive(QueryableByName)]
struct Language {
    #[diesel(sql_type = Text)]
    lc_messages: String,
    #[diesel(sql_type = Text)]
    role: String,
}

/// Has the server write its messages in English, or makes sure that it does.
///
/// diesel hands out no SQLSTATE, so a deadlock is known by its message alone. The setting belongs to superusers
/// (and, from PostgreSQL 15, to whom they grant it), so it cannot be among the first message's: refused there, it
/// would refuse the connection.
pub(super) async fn speak_english(connection: &mut AsyncPgConnection) -> Result<(), Error> {
    let set = diesel::sql_query("SET lc_messages TO 'C'").execute(connection).await;
    if set.is_ok() {
        return Ok(());
    }
    let language: Language =
        diesel::sql_query("SELECT current_setting('lc_messages') AS lc_messages, current_user::text AS role")
            .get_result(connection)
            .await
            .map_err(|error| Error::unavailable(&error))?;
    if is_english(&language.lc_messages) {
        Ok(())
    } else {
        Err(Error::Language { found: language.lc_messages, role: language.role })
    }
}

fn is_english(locale: &str) -> bool {
    let language = locale.split(['_', '.', '@']).next().unwrap_or_default();
    ["C", "POSIX", "en", "English"].contains(&language)
}

#[cfg(test)]
mod tests {
    use super::{Options, is_english, startup_options};

    #[test]
    fn settings_follow_each_other_and_are_escaped() {
        let text = startup_options(Some("-c work_mem=8MB"), &Options::default(), &[("a.b", r"x y\z")]);
        assert_eq!(
            text,
            r#"-c work_mem=8MB -c search_path="coffer" -c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000 -c a.b=x\ y\\z"#
        );
    }

    #[test]
    fn english_is_told_from_other_languages() {
        for locale in ["C", "C.UTF-8", "POSIX", "en_US.UTF-8", "en_GB", "en", "English_United States.1252"] {
            assert!(is_english(locale), "{locale}");
        }
        for locale in ["de_DE.UTF-8", "fr_FR", "Catalan_Spain", "enm", ""] {
            assert!(!is_english(locale), "{locale}");
        }
    }
}
