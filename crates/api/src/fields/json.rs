//! `google.protobuf.Struct` and JSON. A `Struct` has only doubles; whole numbers up to 2^53 are kept as whole numbers.

use coffer_domain::file::Metadata;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Number, Value as Json};

/// Whole numbers beyond this are not exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// What JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotJson {
    /// NaN or an infinity.
    #[error("numbers must be finite")]
    NotFinite,
    /// A `Value` without a kind.
    #[error("each value must be null, a bool, a number, a string, a list or an object")]
    NoKind,
}

/// Depth is bounded by the decoder of messages, which refuses more than 100 levels.
pub(super) fn from_struct(Struct { fields }: Struct) -> Result<Metadata, NotJson> {
    fields.into_iter().map(|(key, value)| Ok((key, from_value(value)?))).collect()
}

fn from_value(Value { kind }: Value) -> Result<Json, NotJson> {
    Ok(match kind.ok_or(NotJson::NoKind)? {
        Kind::NullValue(_) => Json::Null,
        Kind::BoolValue(value) => value.into(),
        Kind::StringValue(text) => text.into(),
        Kind::NumberValue(number) => Json::Number(from_number(number)?),
        Kind::ListValue(ListValue { values }) => {
            Json::Array(values.into_iter().map(from_value).collect::<Result<_, _>>()?)
        }
        Kind::StructValue(object) => Json::Object(from_struct(object)?),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
fn from_number(number: f64) -> Result<Number, NotJson> {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or(NotJson::NotFinite)
}

/// An object for the wire. Numbers beyond 2^53 lose precision: what must be exact is kept as text.
pub(crate) fn to_struct(object: Metadata) -> Struct {
    Struct { fields: object.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

fn to_value(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(to_value).collect() })
        }
        Json::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Kind) -> Struct {
        Struct { fields: [("a".to_owned(), Value { kind: Some(value) })].into() }
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(from_struct(object(Kind::NumberValue(number))), Err(NotJson::NotFinite));
        }
        let nested = Kind::ListValue(ListValue { values: vec![Value { kind: None }] });
        assert_eq!(from_struct(object(nested)), Err(NotJson::NoKind));
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let number = |number| from_struct(object(Kind::NumberValue(number))).unwrap()["a"].to_string();
        assert_eq!(number(3.0), "3");
        assert_eq!(number(-0.0), "0");
        assert_eq!(number(MAX_EXACT), "9007199254740992");
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(1e300), "1e+300");
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            (-(1i64 << 53)..=(1 << 53)).prop_map(Json::from),
            (-1e12..1e12f64).prop_filter("a fraction", |n| n.fract() != 0.0).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn objects_come_back_as_they_went(value in json()) {
            let object = Metadata::from_iter([("k".to_owned(), value)]);
            prop_assert_eq!(from_struct(to_struct(object.clone())), Ok(object));
        }
    }
}
