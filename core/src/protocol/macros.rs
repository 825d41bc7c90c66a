//! How the frames are declared: one list of fields is the type, its reader and its writer.

/// An enum of frames: reads, writes and names them; `Debug` shows the type alone, for frames carry payloads.
macro_rules! frames {
    (
        $(#[$meta:meta])* pub enum $name:ident {
            boxed { $($(#[$bdoc:meta])* $boxed:ident($inner:ty) = $btext:literal,)* }
            inline { $($(#[$vdoc:meta])* $variant:ident = $text:literal {
                $($(#[$fdoc:meta])* $field:ident: $ty:ty,)*
            })* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub enum $name {
            $($(#[$bdoc])* $boxed(Box<$inner>),)*
            $($(#[$vdoc])* $variant { $($(#[$fdoc])* $field: $ty,)* },)*
        }

        impl $name {
            /// Every `type` of this enum.
            pub const TYPES: &'static [&'static str] = &[$($btext,)* $($text,)*];

            /// The `type` as it stands on the wire.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$boxed(inner) => $crate::protocol::wire::Record::kind_or(&**inner, $btext),)*
                    $(Self::$variant { .. } => $text,)*
                }
            }

            /// Reads the fields of a frame of this type; `None` for a type that is not here.
            pub(super) fn read_kind(
                kind: &str,
                object: &$crate::protocol::wire::Object<'_>,
            ) -> Result<Option<Self>, $crate::protocol::wire::Fault> {
                Ok(Some(match kind {
                    $($btext => Self::$boxed(Box::new($crate::protocol::wire::Record::read_fields(object)?)),)*
                    $($text => Self::$variant {
                        $($field: $crate::protocol::wire::Field::take(object, stringify!($field))?,)*
                    },)*
                    _ => return Ok(None),
                }))
            }

            pub(super) fn write_body(&self, writer: &mut $crate::protocol::wire::Writer) {
                match self {
                    $(Self::$boxed(inner) => $crate::protocol::wire::Record::write_fields(&**inner, writer),)*
                    $(Self::$variant { $($field,)* } => {
                        $($crate::protocol::wire::Field::put($field, writer, stringify!($field));)*
                    })*
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}(..)", self.type_name())
            }
        }

        /// Equal where the wire shows no difference.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                let body = |frame: &Self| {
                    let mut writer = $crate::protocol::wire::Writer::frame(frame.type_name(), 256);
                    frame.write_body(&mut writer);
                    writer.finish()
                };
                body(self) == body(other)
            }
        }
    };
}

/// A record whose fields stand in JSON by their own names.
macro_rules! record {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        $visibility struct $name { $($(#[$fdoc])* pub $field: $ty,)* }

        impl $crate::protocol::wire::Record for $name {
            fn read_fields(
                object: &$crate::protocol::wire::Object<'_>,
            ) -> Result<Self, $crate::protocol::wire::Fault> {
                Ok(Self { $($field: $crate::protocol::wire::Field::take(object, stringify!($field))?,)* })
            }
            fn write_fields(&self, writer: &mut $crate::protocol::wire::Writer) {
                $($crate::protocol::wire::Field::put(&self.$field, writer, stringify!($field));)*
            }
        }
    };
}

/// An enum of fixed texts.
macro_rules! texts {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* } else $other:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in frames.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value with this text.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => $other }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::protocol::wire::Field for $name {
            fn read(raw: $crate::protocol::wire::Raw<'_>) -> Result<Self, $crate::protocol::wire::Fault> {
                let text = $crate::protocol::wire::read_text(raw)?;
                Self::from_text(&text).ok_or_else(|| {
                    let mut known = String::from("must be one of");
                    $(known.push_str(concat!(" `", $text, "`"));)*
                    $crate::protocol::wire::Fault::invalid("", known)
                })
            }
            fn write(&self, out: &mut String) {
                $crate::protocol::writer::push_text(out, self.as_str());
            }
        }
    };
}

pub(super) use {frames, record, texts};
