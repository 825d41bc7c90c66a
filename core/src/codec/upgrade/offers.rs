//! Which extension is agreed on: RFC 6455 section 9.1 and RFC 7692 section 7.1.

use super::Refusal;
use crate::codec::deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS};

/// Messages may be compressed, in both directions each by itself: the extension `permessage-deflate` without context takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The client's wish, where it had one: it keeps no larger window than this many bits say, for what the server sends.
    window_bits: Option<u8>,
}

impl Agreed {
    /// The window for what the server sends, as the binary logarithm of its bytes: 9 to 15.
    pub fn window_bits(self) -> u8 {
        self.window_bits.unwrap_or(MAX_WINDOW_BITS)
    }

    /// As the answer says it. The client need not have spoken of its own context: RFC 7692 section 7.1.1.2.
    pub(super) fn header(self) -> String {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        self.window_bits.map_or_else(|| plain.to_owned(), |bits| format!("{plain}; server_max_window_bits={bits}"))
    }
}

/// The first offer in the lines that can be accepted. One that names another extension, or says of this one what is unknown, wrong
/// or said already, is passed over.
///
/// # Errors
/// When a line breaks the grammar: RFC 6455 section 9.1 lets nobody go on from there.
pub(super) fn agree<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Option<Agreed>, Refusal> {
    let mut agreed = None;
    for line in lines {
        let mut rest = Rest(line);
        // Empty members of a list mean nothing.
        while rest.skip_to_member() {
            let offer = rest.offer().ok_or(MALFORMED)?;
            agreed = agreed.or(offer);
        }
    }
    Ok(agreed)
}

const MALFORMED: Refusal =
    Refusal::BadRequest("the Sec-WebSocket-Extensions header is malformed: send `name; parameter=value, …` or none");

/// What of a line is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// One member of the list, up to its comma or the line's end; `None` where it breaks the grammar.
    fn offer(&mut self) -> Option<Option<Agreed>> {
        let mut offer = (self.token()? == b"permessage-deflate").then(Offer::default);
        loop {
            self.skip_space();
            match self.0.split_first() {
                None | Some((b',', _)) => return Some(offer.map(|offer| offer.agreed)),
                Some((b';', rest)) => self.0 = rest,
                Some(_) => return None,
            }
            self.skip_space();
            let name = self.token()?;
            let value = self.value()?;
            offer = offer.and_then(|offer| offer.with(name, value.as_deref()));
        }
    }

    /// The value of a parameter, where it has one: a token, quoted or not.
    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        self.skip_space();
        let Some(rest) = self.0.strip_prefix(b"=") else { return Some(None) };
        self.0 = rest;
        self.skip_space();
        match self.0.strip_prefix(b"\"") {
            Some(quoted) => self.unquoted(quoted).map(Some),
            None => self.token().map(|token| Some(token.to_vec())),
        }
    }

    /// Unescaped, it must still be a token.
    fn unquoted(&mut self, quoted: &[u8]) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut bytes = quoted.iter();
        loop {
            match *bytes.next()? {
                b'"' => break,
                b'\\' => value.push(*bytes.next()?),
                byte => value.push(byte),
            }
        }
        let read = quoted.len() - bytes.len();
        // One more for the opening quote.
        self.0 = self.0.get(read + 1..)?;
        (!value.is_empty() && value.iter().all(is_token_byte)).then_some(value)
    }
}

impl<'a> Rest<'a> {
    fn token(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().take_while(|byte| is_token_byte(byte)).count();
        let (token, rest) = self.0.split_at_checked(len).filter(|(token, _)| !token.is_empty())?;
        self.0 = rest;
        Some(token)
    }

    fn skip_space(&mut self) {
        while let Some((b' ' | b'\t', rest)) = self.0.split_first() {
            self.0 = rest;
        }
    }

    /// Whether there is one more.
    fn skip_to_member(&mut self) -> bool {
        while let Some((b' ' | b'\t' | b',', rest)) = self.0.split_first() {
            self.0 = rest;
        }
        !self.0.is_empty()
    }
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// An offer of this extension, as far as it is read and can be accepted.
#[derive(Clone, Copy)]
struct Offer {
    agreed: Agreed,
    /// Which parameters were there: one bit for each.
    seen: u8,
}

impl Default for Offer {
    fn default() -> Self {
        Self { agreed: Agreed { window_bits: None }, seen: 0 }
    }
}

impl Offer {
    /// With one more parameter; `None` where it cannot be accepted any more.
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let bit = match (name, value) {
            (b"server_no_context_takeover", None) => 1,
            (b"client_no_context_takeover", None) => 2,
            (b"server_max_window_bits", Some(value)) => {
                // 8 is a good value, and no stream can be made for it.
                self.agreed.window_bits = Some(window_bits(value).filter(|bits| *bits >= MIN_WINDOW_BITS)?);
                4
            }
            // It may use a window of any size, and is asked for nothing else.
            (b"client_max_window_bits", None) => 8,
            (b"client_max_window_bits", Some(value)) => window_bits(value).map(|_| 8)?,
            _ => return None,
        };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new.then_some(self)
    }
}

/// 8 to 15, in decimal without leading zeros: RFC 7692 section 7.1.2.1.
fn window_bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(lines: &[&str]) -> Result<Option<String>, Refusal> {
        agree(lines.iter().map(|line| line.as_bytes())).map(|agreed| agreed.map(Agreed::header))
    }

    const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn what_can_be_accepted_is_accepted() {
        for line in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate;client_max_window_bits=\"15\"",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            " \t, ,permessage-deflate ; client_max_window_bits\t=\t10 , ,",
            "x-webkit-deflate-frame, permessage-deflate",
            "other; a=b; c=\"d\"; e, permessage-deflate",
            "permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=9",
        ] {
            assert_eq!(answer(&[line]), Ok(Some(PLAIN.to_owned())), "{line}");
        }
    }

    #[test]
    fn a_window_of_the_servers_is_kept_to() {
        for bits in 9..=15 {
            for line in [
                format!("permessage-deflate; server_max_window_bits={bits}"),
                format!("permessage-deflate; server_max_window_bits=\"{bits}\"; client_max_window_bits"),
                format!("permessage-deflate; server_max_window_bits=\"\\{bits}\""),
            ] {
                let agreed = agree([line.as_bytes()].into_iter()).unwrap().unwrap();
                assert_eq!(agreed.window_bits(), bits, "{line}");
                assert_eq!(agreed.header(), format!("{PLAIN}; server_max_window_bits={bits}"));
            }
        }
    }

    #[test]
    fn an_offer_that_cannot_be_accepted_is_passed_over() {
        for parameters in [
            "unknown",
            "unknown=1",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "client_no_context_takeover; client_no_context_takeover",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits; client_max_window_bits=10",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits=+9",
            "client_max_window_bits=0x9",
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=150",
            "server_max_window_bits=10; server_max_window_bits=10",
            "Server_No_Context_Takeover",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(&[&offer]), Ok(None), "{offer}");
            let next = format!("{offer}, permessage-deflate; server_max_window_bits=11");
            let expected = Ok(Some(format!("{PLAIN}; server_max_window_bits=11")));
            assert_eq!(answer(&[&next]), expected, "{next}");
            assert_eq!(answer(&[&offer, "permessage-deflate; server_max_window_bits=11"]), expected, "{offer}");
        }
        assert_eq!(answer(&[]), Ok(None));
        for line in ["", " , ", "x-webkit-deflate-frame", "permessage-deflate2", "Permessage-Deflate"] {
            assert_eq!(answer(&[line]), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for line in [
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"b",
            "permessage-deflate; a=\"b\\",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=\"b\"c",
            "permessage-deflate a",
            "permessage-deflate=1",
            ";a",
            "=",
            "\"permessage-deflate\"",
            "permessage-deflate; a=b=c",
            "permessage-deflate\u{1}",
            "permessage-deflate; a=ä",
        ] {
            assert_eq!(answer(&[line]), Err(MALFORMED), "{line:?}");
            assert_eq!(answer(&["permessage-deflate", line]), Err(MALFORMED), "{line:?}, after what is accepted");
        }
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "permessage-deflate",
            "server_max_window_bits",
            "client_max_window_bits",
            "server_no_context_takeover",
            ";",
            ",",
            "=",
            "\"",
            "\\",
            " ",
            "9",
            "15",
            "x",
        ])
    }

    properties! {
        /// And what is agreed on is itself an offer that is accepted.
        #[test]
        fn arbitrary_offers_never_panic(parts in prop::collection::vec(part(), 0..24), bytes in any::<Vec<u8>>()) {
            let _ = agree([&bytes[..]].into_iter());
            let line = parts.concat();
            if let Ok(Some(agreed)) = agree([line.as_bytes()].into_iter()) {
                prop_assert!((9..=15).contains(&agreed.window_bits()));
                prop_assert_eq!(agree([agreed.header().as_bytes()].into_iter()), Ok(Some(agreed)));
            }
        }
    }
}
