//! The two ways to speak: plain lines with one summary at the end, or acknowledged lines with a name that survives reconnecting.
//!
//! The first line decides. Every answer is one line of JSON, written by [`Answer`].

use serde::{Deserialize, Serialize};

/// The longest name of a producer, in bytes.
pub const MAX_PRODUCER_BYTES: usize = 128;

/// What the first line of a connection asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is an event already: plain lines.
    Plain,
    /// It introduces a producer: acknowledged lines.
    Acknowledged {
        /// The producer's name, 1 to [`MAX_PRODUCER_BYTES`] bytes.
        producer: String,
    },
    /// It introduces a producer in a way that is not understood.
    Refused(&'static str),
}

#[derive(Deserialize)]
struct Greeting {
    hello: Hello,
}

#[derive(Deserialize)]
struct Hello {
    producer: String,
}

/// What `first_line` asks for. Only a line with a member `hello` can be an introduction; everything else is an event or will be refused as one.
pub fn open(first_line: &[u8]) -> Opening {
    let introduces = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(first_line)
        .is_ok_and(|members| members.contains_key("hello"));
    if !introduces {
        return Opening::Plain;
    }
    match serde_json::from_slice::<Greeting>(first_line) {
        Ok(Greeting { hello: Hello { producer } }) if (1..=MAX_PRODUCER_BYTES).contains(&producer.len()) => {
            Opening::Acknowledged { producer }
        }
        Ok(_) => Opening::Refused("hello.producer must be a string of 1 to 128 bytes"),
        Err(_) => Opening::Refused("expected {\"hello\":{\"producer\":\"a name of 1 to 128 bytes\"}}"),
    }
}

/// A line that the server says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<'a> {
    /// To an introduction: the last line of this producer that is durable.
    Welcome {
        /// The name as it was given.
        producer: &'a str,
        /// Number of the last durable line, 0 at first.
        last: u64,
    },
    /// All lines up to this number are durable and will be counted exactly once.
    Ack(u64),
    /// A line is not an event.
    Reject {
        /// The line's number.
        seq: u64,
        /// Why, for a person.
        error: String,
    },
    /// The connection ends, and why.
    Error(&'a str),
    /// To the end of plain lines.
    #[serde(untagged)]
    Summary {
        /// Events that are durable and will be counted exactly once.
        accepted: u64,
        /// Lines that are not events.
        rejected: u64,
    },
}

impl Answer<'_> {
    /// Appends the answer and a line end.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Plain data without maps or foreign types: writing it to memory can't fail.
        if serde_json::to_writer(&mut *out, self).is_ok() {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_decides() {
        assert_eq!(open(br#"{"user_id":1,"product":2}"#), Opening::Plain);
        assert_eq!(open(b"not json, with hello in it"), Opening::Plain);
        let producer = "shop-1".to_owned();
        assert_eq!(open(br#"{"hello":{"producer":"shop-1"}}"#), Opening::Acknowledged { producer });
        for bad in [r#"{"hello":1}"#, r#"{"hello":{}}"#, r#"{"hello":{"producer":""}}"#, r#"{"hello":{"producer":7}}"#]
        {
            assert!(matches!(open(bad.as_bytes()), Opening::Refused(_)), "{bad}");
        }
        let long = format!(r#"{{"hello":{{"producer":"{}"}}}}"#, "x".repeat(129));
        assert!(matches!(open(long.as_bytes()), Opening::Refused(_)));
    }

    #[test]
    fn answers_are_the_lines_of_the_contract() {
        let said = |answer: Answer<'_>| {
            let mut out = Vec::new();
            answer.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            said(Answer::Welcome { producer: "shop-1", last: 7 }),
            "{\"welcome\":{\"producer\":\"shop-1\",\"last\":7}}\n"
        );
        assert_eq!(said(Answer::Ack(9)), "{\"ack\":9}\n");
        assert_eq!(said(Answer::Reject { seq: 3, error: "x".into() }), "{\"reject\":{\"seq\":3,\"error\":\"x\"}}\n");
        assert_eq!(said(Answer::Error("bye")), "{\"error\":\"bye\"}\n");
        assert_eq!(said(Answer::Summary { accepted: 2, rejected: 1 }), "{\"accepted\":2,\"rejected\":1}\n");
    }
}
