//! The client for browsers and Node: an ES module without dependencies, with types, that any server can serve. It speaks the protocol
//! as this version of the crate does.
//!
//! ```
//! use trunkline_core::client::js::{File, find};
//!
//! /// What a web stack answers to `GET /client/<name>`.
//! fn respond(name: &str) -> Option<(&'static str, &'static str)> {
//!     let File { media_type, text, .. } = find(name)?;
//!     Some((media_type, text))
//! }
//! let (media_type, text) = respond("trunkline.js").unwrap();
//! assert_eq!(media_type, "text/javascript; charset=utf-8");
//! assert!(text.contains("export function connect"));
//! ```

/// One file of the client. They find each other by their names: all of them are served from one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in that folder.
    pub name: &'static str,
    /// For the header `Content-Type`.
    pub media_type: &'static str,
    /// What it says.
    pub text: &'static str,
}

macro_rules! files {
    ($($name:literal is $media_type:expr),+ $(,)?) => {
        [$(File { name: $name, media_type: $media_type, text: include_str!(concat!("../../js/", $name)) }),+]
    };
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them. Pages import the first.
pub const FILES: [File; 5] = files! {
    "trunkline.js" is JAVASCRIPT,
    "trunkline-events.js" is JAVASCRIPT,
    "trunkline-run.js" is JAVASCRIPT,
    "trunkline-stream.js" is JAVASCRIPT,
    "trunkline.d.ts" is "text/plain; charset=utf-8",
};

/// The file of this name.
pub fn find(name: &str) -> Option<File> {
    FILES.into_iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a module imports or exports from, as it says it.
    fn sources(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.rsplit_once(" from \"")?.1.strip_suffix("\";"))
    }

    #[test]
    fn the_files_need_nothing_but_each_other() {
        for file in FILES {
            for source in sources(file.text) {
                let name = source.strip_prefix("./").unwrap_or_else(|| panic!("{} imports {source}", file.name));
                assert!(find(name).is_some(), "{} imports {source}", file.name);
            }
            assert!(!file.text.contains("import("), "{}", file.name);
        }
        assert!(sources(FILES[0].text).count() >= 3);
    }
}
