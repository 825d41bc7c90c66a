//! The files of the pages, as they are built in.

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct File {
    /// Where it is served.
    pub(crate) path: &'static str,
    /// For the header `Content-Type`.
    pub(crate) media_type: &'static str,
    pub(crate) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal: $file:literal is $media_type:expr),+ $(,)?) => {
        &[$(File { path: $path, media_type: $media_type, text: include_str!(concat!("../../../page/", $file)) }),+]
    };
}

/// All of them, beside those of the client, which the pages import from the root.
pub(crate) const FILES: &[File] = files! {
    "/": "index.html" is HTML,
    "/base.css": "base.css" is CSS,
    "/chat.css": "chat.css" is CSS,
    "/chat.js": "chat.js" is JAVASCRIPT,
    "/operators": "operators.html" is HTML,
    "/operators.css": "operators.css" is CSS,
    "/operators.js": "operators.js" is JAVASCRIPT,
    "/operators-data.js": "operators-data.js" is JAVASCRIPT,
    "/operators-dom.js": "operators-dom.js" is JAVASCRIPT,
    "/operators-plots.js": "operators-plots.js" is JAVASCRIPT,
    "/operators-figures.js": "operators-figures.js" is JAVASCRIPT,
    "/operators-login.js": "operators-login.js" is JAVASCRIPT,
    "/operators-user.js": "operators-user.js" is JAVASCRIPT,
    "/operators-confirm.js": "operators-confirm.js" is JAVASCRIPT,
};
