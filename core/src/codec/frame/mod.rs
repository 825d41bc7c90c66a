//! Frames and messages: RFC 6455 section 5, and where both ends have agreed on it, RFC 7692 section 6.
//!
//! ```
//! use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role, encode};
//! let mut wire = Vec::new();
//! encode(&mut wire, Opcode::Text, b"hello", Some([1, 2, 3, 4]));
//!
//! let mut assembler = Assembler::new(Role::Server, 1024);
//! let mut input = &wire[..];
//! assert_eq!(assembler.push(&mut input), Ok(Some(Message::Text("hello".into()))));
//! assert!(input.is_empty() && assembler.is_idle());
//! ```

mod assembler;
mod encode;
mod mask;
mod message;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_deflate;
#[cfg(test)]
mod tests_random;

pub use assembler::Assembler;
pub use encode::{encode, encode_close, encode_compressed, encode_header, encode_text_parts};
pub use mask::apply_mask;
pub use message::{ControlPayload, Fault, MAX_CONTROL_PAYLOAD, Message, Opcode, Role, is_close_code};
