//! A protobuf message written field by field, so that an answer copies each of its texts once: into the bytes that Envoy gets. The
//! generated types would want a tree of owned texts first, which made a fifth of a check's work.

use prost::encoding::WireType;
use prost::encoding::encode_key;
use prost::encoding::encode_varint;

/// What a length may take, in bytes.
const VARINT_MAX: usize = 10;
/// What most answers are shorter than, in bytes.
const USUAL: usize = 1024;

/// The fields that are written so far. As proto3 has it, a zero and an empty text are not there.
#[derive(Debug)]
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn empty() -> Self {
        Self(Vec::with_capacity(USUAL))
    }

    /// An `int32` or an enum.
    pub fn number(&mut self, tag: u32, value: i32) {
        if value != 0 {
            prost::encoding::int32::encode(tag, &value, &mut self.0);
        }
    }

    /// A `string`.
    pub fn text(&mut self, tag: u32, value: &str) {
        if !value.is_empty() {
            encode_key(tag, WireType::LengthDelimited, &mut self.0);
            encode_varint(value.len() as u64, &mut self.0);
            self.0.extend_from_slice(value.as_bytes());
        }
    }

    /// A message: there, even if `write` writes nothing.
    pub fn message(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        encode_key(tag, WireType::LengthDelimited, &mut self.0);
        // Its length stands before it and is known after it; most need no more than this byte.
        let start = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - start - 1;
        match (u8::try_from(length), self.0.get_mut(start)) {
            (Ok(short @ ..0x80), Some(prefix)) => *prefix = short,
            _ => {
                let mut varint = [0; VARINT_MAX];
                let mut rest = varint.as_mut_slice();
                encode_varint(length as u64, &mut rest);
                let used = VARINT_MAX - rest.len();
                self.0.splice(start..=start, varint.into_iter().take(used));
            }
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Struct;
    use envoy_types::pb::google::protobuf::Value;
    use envoy_types::pb::google::protobuf::value::Kind;
    use envoy_types::pb::google::rpc::Status;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_the_generated_types_write(code in any::<i32>(), message in ".{0,300}") {
            let mut fields = Fields::empty();
            fields.number(1, code);
            fields.text(2, &message);
            prop_assert_eq!(fields.into_bytes(), Status { code, message, details: Vec::new() }.encode_to_vec());
        }

        #[test]
        fn a_message_has_its_length_before_it(name in ".{0,200}", text in ".{1,20000}") {
            let mut fields = Fields::empty();
            fields.message(1, |entry| {
                entry.text(1, &name);
                entry.message(2, |value| value.text(3, &text));
            });
            let value = Value { kind: Some(Kind::StringValue(text)) };
            prop_assert_eq!(fields.into_bytes(), Struct { fields: [(name, value)].into() }.encode_to_vec());
        }
    }

    #[test]
    fn an_empty_message_is_there() {
        let mut fields = Fields::empty();
        fields.message(2, |_nothing| {});
        assert_eq!(fields.into_bytes(), [0x12, 0]);
    }
}
