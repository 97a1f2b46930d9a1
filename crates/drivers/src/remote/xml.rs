//! XML that a server answers with, read without trusting it: no document type, no entities but XML's own, a bounded depth.
//!
//! The bytes are bounded by whoever fetched them.

use crate::wire::Failure;
use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};
use std::borrow::Cow;

/// Deepest element that is read.
const MOST_DEPTH: usize = 32;

/// What happens in a document, in its order. Names are without their namespaces.
pub(crate) enum Step<'a> {
    /// An element begins.
    Open(&'a str),
    /// Text of the element that began last; may come in parts.
    Text(&'a str),
    /// The element that began last of those that have not ended ends.
    Close(&'a str),
}

/// Walks through a document.
pub(crate) fn walk(document: &[u8], mut visit: impl FnMut(Step<'_>)) -> Result<(), Failure> {
    let mut reader = Reader::from_reader(document);
    let mut path: Vec<String> = Vec::new();
    let mut has_root = false;
    loop {
        match reader.read_event().map_err(malformed)? {
            Event::Start(element) => {
                if path.len() == MOST_DEPTH || (path.is_empty() && has_root) {
                    return Err(malformed("too deep, or more than one root"));
                }
                has_root = true;
                let name = name(&element)?;
                visit(Step::Open(&name));
                path.push(name);
            }
            Event::Empty(element) => {
                if path.is_empty() && has_root {
                    return Err(malformed("more than one root"));
                }
                has_root = true;
                let name = name(&element)?;
                visit(Step::Open(&name));
                visit(Step::Close(&name));
            }
            Event::End(_) => match path.pop() {
                Some(name) => visit(Step::Close(&name)),
                None => return Err(malformed("an element ends that did not begin")),
            },
            Event::Text(text) => visit(Step::Text(&text.decode().map_err(malformed)?)),
            Event::CData(text) => visit(Step::Text(&text.decode().map_err(malformed)?)),
            Event::GeneralRef(entity) => {
                if let Some(c) = entity.resolve_char_ref().map_err(malformed)? {
                    visit(Step::Text(c.encode_utf8(&mut [0; 4])));
                    continue;
                }
                let entity: Cow<'_, str> = entity.decode().map_err(malformed)?;
                let text =
                    resolve_predefined_entity(&entity).ok_or_else(|| malformed("an entity of its own"))?;
                visit(Step::Text(text));
            }
            Event::DocType(_) => return Err(malformed("a document type")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if has_root && path.is_empty() => return Ok(()),
            Event::Eof => return Err(malformed("it ends too early")),
        }
    }
}

/// The name of the root element of a whole document.
pub(crate) fn root(document: &[u8]) -> Result<String, Failure> {
    let mut root = None;
    walk(document, |step| {
        if let (Step::Open(name), None) = (&step, &root) {
            root = Some((*name).to_owned());
        }
    })?;
    root.ok_or_else(|| malformed("no element"))
}

/// Whether the beginning of a long document is that of one with this root that has to be so long: something in it has ended that has parts.
pub(crate) fn begins_with_entries(document: &[u8], is_root: impl Fn(&str) -> bool) -> bool {
    let (mut depth, mut has_root, mut has_parts, mut has_entry) = (0_usize, false, false, false);
    // Where it breaks off does not matter: the rest is still to come.
    let _ = walk(document, |step| match step {
        Step::Open(name) => {
            depth += 1;
            match depth {
                1 => has_root = is_root(name),
                2 => has_parts = false,
                _ => has_parts = true,
            }
        }
        Step::Close(_) => {
            has_entry |= depth == 2 && has_parts;
            depth -= 1;
        }
        Step::Text(_) => {}
    });
    has_root && has_entry
}

/// The text of the first element of this name, wherever it is; as much of the document is read as there is.
pub(crate) fn text(document: &[u8], wanted: &str) -> Option<String> {
    let (mut found, mut is_inside) = (None::<String>, false);
    let mut is_over = false;
    let read = walk(document, |step| match step {
        Step::Open(name) if name == wanted && !is_over => {
            is_inside = true;
            found.get_or_insert_default();
        }
        Step::Text(part) if is_inside => found.get_or_insert_default().push_str(part),
        Step::Close(name) if name == wanted => {
            is_over |= is_inside;
            is_inside = false;
        }
        _ => {}
    });
    // What was found before the document broke off counts: it is for the log and for picking a kind.
    let _ = read;
    found
}

fn name(element: &BytesStart<'_>) -> Result<String, Failure> {
    Ok(std::str::from_utf8(element.local_name().as_ref()).map_err(malformed)?.to_owned())
}

fn malformed(problem: impl ToString) -> Failure {
    Failure::Malformed(format!("XML: {}", problem.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_told_and_what_is_no_document_is_refused() {
        assert_eq!(
            root(b"<?xml version=\"1.0\"?>\n<!-- x --><a:Error xmlns:a=\"u\"><b/></a:Error>").unwrap(),
            "Error"
        );
        assert_eq!(root(b"<a/>").unwrap(), "a");
        let deep = [b"<a>".repeat(40), b"</a>".repeat(40)].concat();
        let bomb = b"<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        for bad in [b"".as_slice(), b"text", b"<a>", b"<a></b>", b"<a/><b/>", b"<a>&own;</a>", &deep, bomb] {
            assert!(root(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_long_document_is_one_of_entries_or_not_worth_reading() {
        let begins = |document: &str| begins_with_entries(document.as_bytes(), |root| root == "list");
        for document in [
            "<list><x><y>1</y></x>",
            "<?xml version='1.0'?><list><n/><x><y/></x><x><y>",
            "<list><x><y/></x></list>",
        ] {
            assert!(begins(document), "{document}");
        }
        let blank = " ".repeat(1000);
        for document in [
            "",
            "{}",
            "<list>",
            "<list><x>",
            "<list><x/><x/><x>1</x>",
            "<html><head><title>x</title></head>",
            "<!DOCTYPE list [<!ENTITY a 'aaaa'>]><list><x><y>1</y></x>",
            "<list>&a;<x><y>1</y></x>",
            &format!("{blank}<list>{blank}"),
        ] {
            assert!(!begins(document), "{document}");
        }
    }

    #[test]
    fn text_is_put_together_from_its_parts() {
        let document = b"<a><Code>No&amp;Such<![CDATA[<K>]]>&#101;y</Code><Code>later</Code></a>";
        assert_eq!(text(document, "Code").as_deref(), Some("No&Such<K>ey"));
        assert_eq!(text(document, "Message"), None);
        assert_eq!(text(b"<a><Code>SlowDown</Code><Mess", "Code").as_deref(), Some("SlowDown"));
    }
}
