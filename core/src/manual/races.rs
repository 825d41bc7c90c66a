#![doc = include_str!("races.md")]
