//! Enums whose variants are words of the language: one list serves reader, messages and schema.

/// A type with a closed set of words.
pub trait Word: Sized + Copy {
    /// Every word that is read.
    const WORDS: &'static [&'static str];

    /// Reads a word, exactly as spelled.
    fn from_word(text: &str) -> Option<Self>;
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`.")] $variant),+
        }

        impl $name {
            /// Returns the word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl $crate::network::word::Word for $name {
            const WORDS: &'static [&'static str] = &[$($text),+];

            fn from_word(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use words;
