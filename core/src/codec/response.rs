//! The answer to the one request of a connection, as a pure machine: RFC 9112. It is 200 with a document of bounded length, or an
//! error.
//!
//! Every length is held to a bound before anything of that length is kept. What has no one reading is refused, and so is a document
//! of which the end is missing.

use std::mem;

/// Lines of a head's or a trailer's fields.
const MAX_FIELDS: usize = 100;
/// A line with a chunk's size and its extensions, in bytes, with its end.
const MAX_CHUNK_LINE_BYTES: usize = 256;

/// Why an answer holds no document. Nothing that was received is in it, but for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseError {
    /// Another status than 200. A redirect would let whoever answers choose where the document comes from.
    #[error("answers {0}")]
    Status(u16),
    /// The document is longer than it may be.
    #[error("answers more than {0} bytes")]
    TooLong(usize),
    /// The head, or the trailer, is.
    #[error("answers with a head of more than {0} bytes or too many fields")]
    HeadTooLong(usize),
    /// A coding that nobody asked for.
    #[error("answers in a coding that was not asked for")]
    Coding,
    /// The connection ended before the document did.
    #[error("ends the connection before its answer is whole")]
    CutOff,
    /// It breaks the grammar, or says two things about one length.
    #[error("answers with {0}")]
    Malformed(&'static str),
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of the document, and then it is whole.
    Sized(usize),
    /// The document, up to the end of the connection.
    UntilEnd,
    ChunkLine,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The end of its line.
    ChunkEnd,
    Trailer,
    Whole,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    max_head: usize,
    max_body: usize,
    state: State,
    /// What came and is not read yet: less than a head or a line.
    pending: Vec<u8>,
    /// Of `pending`: searched for its end and without it.
    searched: usize,
    /// Of all heads and trailers together, in bytes.
    heads: usize,
    body: Vec<u8>,
}

impl ResponseReader {
    /// For a document of `max_body` bytes at most, with heads and trailers of `max_head` bytes at most.
    pub(crate) fn new(max_head: usize, max_body: usize) -> Self {
        let (pending, body) = (Vec::new(), Vec::new());
        Self { max_head, max_body, state: State::Head, pending, searched: 0, heads: 0, body }
    }

    /// Takes what was received, and gives the document once it is whole. What comes after it is ignored.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ResponseError> {
        let mut input = mem::take(&mut self.pending);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(taken) = self.step(input.get(at..).unwrap_or_default())? {
            at += taken;
        }
        input.drain(..at.min(input.len()));
        self.pending = input;
        Ok((self.state == State::Whole).then(|| mem::take(&mut self.body)))
    }

    /// The peer sends no more.
    pub(crate) fn handle_eof(&mut self) -> Result<Vec<u8>, ResponseError> {
        match self.state {
            State::UntilEnd => Ok(mem::take(&mut self.body)),
            State::Head
            | State::Sized(_)
            | State::ChunkLine
            | State::Chunk(_)
            | State::ChunkEnd
            | State::Trailer
            | State::Whole => Err(ResponseError::CutOff),
        }
    }

    /// Reads one thing and answers how long it was; `None` where more must come first, or nothing more is read.
    fn step(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        match self.state {
            State::Head => self.head(input),
            State::Sized(left) => self.content(input, left, State::Sized, State::Whole),
            State::UntilEnd => self.content(input, usize::MAX, |_| State::UntilEnd, State::Whole),
            State::ChunkLine => self.chunk_line(input),
            State::Chunk(left) => self.content(input, left, State::Chunk, State::ChunkEnd),
            State::ChunkEnd => self.chunk_end(input),
            State::Trailer => self.trailer(input),
            State::Whole => Ok(None),
        }
    }

    fn head(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let Some(end) = self.find(input, b"\r\n\r\n", self.max_head.saturating_sub(self.heads))? else {
            return Ok(None);
        };
        self.heads += end;
        let mut table = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut table);
        match response.parse(input.get(..end).unwrap_or_default()) {
            Ok(httparse::Status::Complete(length)) if length == end => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLong(self.max_head)),
            Ok(httparse::Status::Complete(_) | httparse::Status::Partial) | Err(_) => {
                return Err(ResponseError::Malformed("no HTTP/1.1"));
            }
        }
        self.state = match response.code {
            Some(200) => self.framing(response.headers)?,
            // Interim answers, of which 101 is none that was asked for: RFC 9110 section 15.2.
            Some(100 | 102..=199) => State::Head,
            code => return Err(ResponseError::Status(code.unwrap_or_default())),
        };
        Ok(Some(end))
    }

    /// How long the document is: RFC 9112 section 6.3.
    fn framing(&self, fields: &[httparse::Header<'_>]) -> Result<State, ResponseError> {
        let identity = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
        if values(fields, "content-encoding").any(|value| !identity(value)) {
            return Err(ResponseError::Coding);
        }
        let mut codings = values(fields, "transfer-encoding");
        let mut lengths = values(fields, "content-length");
        match (codings.next(), lengths.next()) {
            (Some(_), Some(_)) => Err(ResponseError::Malformed("two lengths")),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Ok(State::ChunkLine)
            }
            (Some(_), None) => Err(ResponseError::Coding),
            (None, Some(length)) if lengths.all(|other| other == length) => self.sized(length),
            (None, Some(_)) => Err(ResponseError::Malformed("two lengths")),
            (None, None) => Ok(State::UntilEnd),
        }
    }

    fn sized(&self, length: &[u8]) -> Result<State, ResponseError> {
        let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let digits = digits.filter(|text| !text.is_empty()).ok_or(ResponseError::Malformed("a length that is none"))?;
        // What is too long for a number is too long for a document.
        match digits.parse().unwrap_or(usize::MAX) {
            0 => Ok(State::Whole),
            length if length > self.max_body => Err(ResponseError::TooLong(self.max_body)),
            length => Ok(State::Sized(length)),
        }
    }

    /// Some of the document: of `left` bytes, after which comes `next`.
    fn content(
        &mut self,
        input: &[u8],
        left: usize,
        rest: impl FnOnce(usize) -> State,
        next: State,
    ) -> Result<Option<usize>, ResponseError> {
        let piece = input.get(..left).unwrap_or(input);
        if piece.is_empty() {
            return Ok(None);
        }
        if piece.len() > self.max_body.saturating_sub(self.body.len()) {
            return Err(ResponseError::TooLong(self.max_body));
        }
        self.body.extend_from_slice(piece);
        self.state = if piece.len() == left { next } else { rest(left - piece.len()) };
        Ok(Some(piece.len()))
    }

    /// RFC 9112 section 7.1. Extensions mean nothing here.
    fn chunk_line(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let malformed = ResponseError::Malformed("a chunk without a size");
        // The parser takes no digits for 0.
        if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(malformed);
        }
        let Some(end) = self.find(input, b"\r\n", MAX_CHUNK_LINE_BYTES).map_err(|_| malformed)? else {
            return Ok(None);
        };
        let size = match httparse::parse_chunk_size(input.get(..end).unwrap_or_default()) {
            Ok(httparse::Status::Complete((length, size))) if length == end => size,
            Ok(httparse::Status::Complete(_) | httparse::Status::Partial) | Err(_) => return Err(malformed),
        };
        self.state = match usize::try_from(size) {
            Ok(0) => State::Trailer,
            Ok(size) if size <= self.max_body.saturating_sub(self.body.len()) => State::Chunk(size),
            Ok(_) | Err(_) => return Err(ResponseError::TooLong(self.max_body)),
        };
        Ok(Some(end))
    }

    fn chunk_end(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        match input.get(..2) {
            Some(b"\r\n") => self.state = State::ChunkLine,
            Some(_) => return Err(ResponseError::Malformed("a chunk that is longer than its size")),
            None => return Ok(None),
        }
        Ok(Some(2))
    }

    /// Its fields mean nothing here; it ends with an empty line. RFC 9112 section 7.1.2.
    fn trailer(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let Some(end) = self.find(input, b"\r\n", self.max_head.saturating_sub(self.heads))? else { return Ok(None) };
        self.heads += end;
        if end == 2 {
            self.state = State::Whole;
        }
        Ok(Some(end))
    }

    /// Where what ends with `end` ends, after `max` bytes at most. Bytes are searched once, however few come at a time.
    fn find(&mut self, input: &[u8], end: &[u8], max: usize) -> Result<Option<usize>, ResponseError> {
        let from = self.searched.saturating_sub(end.len() - 1);
        let window = input.get(..max).unwrap_or(input);
        let found = window.get(from..).unwrap_or_default().windows(end.len()).position(|bytes| bytes == end);
        match found {
            Some(at) => {
                self.searched = 0;
                Ok(Some(from + at + end.len()))
            }
            None if input.len() >= max => Err(ResponseError::HeadTooLong(self.max_head)),
            None => {
                self.searched = input.len();
                Ok(None)
            }
        }
    }
}

/// The values of each line of a field.
fn values<'a>(fields: &'a [httparse::Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_HEAD: usize = 200;
    const MAX_BODY: usize = 64;

    /// What comes of an answer in pieces of `size` bytes, after which the connection ends.
    fn read(answer: &[u8], size: usize) -> Result<Vec<u8>, ResponseError> {
        let mut reader = ResponseReader::new(MAX_HEAD, MAX_BODY);
        for piece in answer.chunks(size) {
            if let Some(document) = reader.handle_bytes(piece)? {
                return Ok(document);
            }
            assert!(reader.pending.len() < MAX_HEAD.max(MAX_CHUNK_LINE_BYTES) && reader.body.len() <= MAX_BODY);
        }
        reader.handle_eof()
    }

    /// The same, whatever the pieces.
    fn each(answer: &str) -> Result<Vec<u8>, ResponseError> {
        let whole = read(answer.as_bytes(), usize::MAX);
        for size in [1, 2, 3, 7] {
            assert_eq!(read(answer.as_bytes(), size), whole, "{answer:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_document_is_read_however_its_length_is_told() {
        let chunked = "Transfer-Encoding: Chunked\r\n\r\n";
        for (name, rest) in [
            ("a length", "Content-Length: 5\r\n\r\nhello and more".to_owned()),
            ("the same length twice", "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello".to_owned()),
            ("the end", "Server: x\r\n\r\nhello".to_owned()),
            ("no coding", "Content-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
            ("a chunk", format!("{chunked}5\r\nhello\r\n0\r\n\r\n")),
            ("chunks", format!("{chunked}1\r\nh\r\n04;a=\"b\"\r\nello\r\n0\r\n\r\nmore")),
            ("a trailer", format!("{chunked}5\r\nhello\r\n0\r\nDigest: x\r\nOther: y\r\n\r\n")),
        ] {
            for interim in
                ["", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 \r\n\r\n"]
            {
                let answer = format!("{interim}HTTP/1.1 200 OK\r\n{rest}");
                assert_eq!(each(&answer).as_deref(), Ok(&b"hello"[..]), "{name}");
            }
        }
        assert_eq!(each("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(Vec::new()));
        assert_eq!(each("HTTP/1.0 200 OK\r\n\r\n{}"), Ok(b"{}".to_vec()));
    }

    #[test]
    fn what_has_no_one_reading_is_refused() {
        let malformed = ResponseError::Malformed;
        let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (rest, error) in [
            ("404 Not Found\r\n\r\n{}", ResponseError::Status(404)),
            ("302 Found\r\nLocation: https://other.example/\r\n\r\n", ResponseError::Status(302)),
            ("101 Switching Protocols\r\n\r\n", ResponseError::Status(101)),
            ("204 No Content\r\n\r\n", ResponseError::Status(204)),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ResponseError::Coding),
            ("200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseError::Coding),
            ("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", ResponseError::Coding),
            ("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", malformed("two lengths")),
            ("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", malformed("two lengths")),
            ("200 OK\r\nContent-Length: +5\r\n\r\nhello", malformed("a length that is none")),
            ("200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", malformed("a length that is none")),
            ("200 OK\r\nContent-Length:\r\n\r\nhello", malformed("a length that is none")),
            ("200 OK\r\nNo colon\r\n\r\n", malformed("no HTTP/1.1")),
            (&format!("{chunked}x\r\n"), malformed("a chunk without a size")),
            (&format!("{chunked}\r\n"), malformed("a chunk without a size")),
            (&format!("{chunked}11111111111111111\r\n"), malformed("a chunk without a size")),
            (&format!("{chunked}2\r\nhello\r\n"), malformed("a chunk that is longer than its size")),
        ] {
            assert_eq!(each(&format!("HTTP/1.1 {rest}")), Err(error), "{rest:?}");
        }
        assert_eq!(each("SSH-2.0-OpenSSH_9.6\r\n\r\n"), Err(malformed("no HTTP/1.1")));
    }

    #[test]
    fn a_document_of_which_the_end_is_missing_is_none() {
        for whole in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        ] {
            for end in 0..whole.len() {
                assert_eq!(each(&whole[..end]), Err(ResponseError::CutOff), "{end} bytes of {whole:?}");
            }
            assert_eq!(each(whole), Ok(b"hello".to_vec()));
        }
    }

    #[test]
    fn every_length_has_a_bound() {
        let body = |n: usize| "b".repeat(n);
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        let ones = |n: usize| "1\r\nb\r\n".repeat(n);
        for (allowed, refused) in [
            (format!("Content-Length: 64\r\n\r\n{}", body(64)), "Content-Length: 65\r\n\r\n".to_owned()),
            (format!("\r\n{}", body(64)), format!("\r\n{}", body(65))),
            (format!("{chunked}40\r\n{}\r\n0\r\n\r\n", body(64)), format!("{chunked}41\r\n")),
            (format!("{chunked}{}0\r\n\r\n", ones(64)), format!("{chunked}{}1\r\n", ones(64))),
        ] {
            assert_eq!(each(&format!("HTTP/1.1 200 OK\r\n{allowed}")).map(|document| document.len()), Ok(64));
            let refused = format!("HTTP/1.1 200 OK\r\n{refused}");
            assert_eq!(each(&refused), Err(ResponseError::TooLong(MAX_BODY)), "{refused:?}");
        }
        for huge in ["18446744073709551616", "99999999999999999999999999"] {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {huge}\r\n\r\n");
            assert_eq!(each(&answer), Err(ResponseError::TooLong(MAX_BODY)));
        }
        assert_eq!(
            each(&format!("HTTP/1.1 200 OK\r\n{chunked}ffffffffffffffff\r\n")),
            Err(ResponseError::TooLong(MAX_BODY))
        );
        // "HTTP/1.1 200 OK\r\nA: " and the end of the head are 24 bytes.
        let head = |n: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", body(n - 24));
        assert_eq!(each(&head(MAX_HEAD)), Ok(Vec::new()));
        let too_long = Err(ResponseError::HeadTooLong(MAX_HEAD));
        assert_eq!(each(&head(MAX_HEAD + 1)), too_long);
        assert_eq!(each(&"HTTP/1.1 100 \r\n\r\n".repeat(100)), too_long, "however many they are");
        assert_eq!(each(&format!("HTTP/1.1 200 OK\r\n{chunked}0\r\n{}", "A: b\r\n".repeat(100))), too_long);
        let line = |n: usize| format!("HTTP/1.1 200 OK\r\n{chunked}1;{}\r\nb\r\n0\r\n\r\n", body(n - 4));
        assert_eq!(each(&line(MAX_CHUNK_LINE_BYTES)), Ok(b"b".to_vec()));
        assert_eq!(each(&line(MAX_CHUNK_LINE_BYTES + 1)), Err(ResponseError::Malformed("a chunk without a size")));
        let fields = |n: usize| {
            let mut reader = ResponseReader::new(32 << 10, MAX_BODY);
            reader.handle_bytes(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(n)).as_bytes())
        };
        assert_eq!(fields(MAX_FIELDS), Ok(None));
        assert_eq!(fields(MAX_FIELDS + 1), Err(ResponseError::HeadTooLong(32 << 10)));
    }

    const KNOWN: [&str; 7] = [
        "HTTP/1.1 ",
        "200 OK\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "Content-Length: 9\r\n",
        "5\r\n",
        "0\r\n",
    ];

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            3 => prop::sample::select(&KNOWN[..]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..9),
        ]
    }

    properties! {
        /// And nothing of it makes the reader keep more than it may, which `read` looks at.
        #[test]
        fn an_answer_is_the_same_in_whatever_pieces(
            pieces in prop::collection::vec(piece(), 0..20), valid in any::<bool>(), size in 1_usize..40,
        ) {
            let mut answer = if valid { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
            answer.extend(pieces.concat());
            prop_assert_eq!(read(&answer, size), read(&answer, usize::MAX));
        }
    }
}
