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
    "/chat-runs.css": "chat-runs.css" is CSS,
    "/chat.js": "chat.js" is JAVASCRIPT,
    "/chat-blocks.js": "chat-blocks.js" is JAVASCRIPT,
    "/chat-connection.js": "chat-connection.js" is JAVASCRIPT,
    "/chat-dom.js": "chat-dom.js" is JAVASCRIPT,
    "/chat-frames.js": "chat-frames.js" is JAVASCRIPT,
    "/chat-log.js": "chat-log.js" is JAVASCRIPT,
    "/chat-markdown.js": "chat-markdown.js" is JAVASCRIPT,
    "/chat-markdown-dom.js": "chat-markdown-dom.js" is JAVASCRIPT,
    "/chat-narrow.js": "chat-narrow.js" is JAVASCRIPT,
    "/chat-run.js": "chat-run.js" is JAVASCRIPT,
    "/chat-send.js": "chat-send.js" is JAVASCRIPT,
    "/chat-session.js": "chat-session.js" is JAVASCRIPT,
    "/chat-steps.js": "chat-steps.js" is JAVASCRIPT,
    "/chat-threads.js": "chat-threads.js" is JAVASCRIPT,
    "/vendor/marked.esm.js": "vendor/marked.esm.js" is JAVASCRIPT,
    "/page-dom.js": "page-dom.js" is JAVASCRIPT,
    "/operators": "operators.html" is HTML,
    "/operators.css": "operators.css" is CSS,
    "/operators-panels.css": "operators-panels.css" is CSS,
    "/operators.js": "operators.js" is JAVASCRIPT,
    "/operators-data.js": "operators-data.js" is JAVASCRIPT,
    "/operators-dom.js": "operators-dom.js" is JAVASCRIPT,
    "/operators-plots.js": "operators-plots.js" is JAVASCRIPT,
    "/operators-figures.js": "operators-figures.js" is JAVASCRIPT,
    "/operators-login.js": "operators-login.js" is JAVASCRIPT,
    "/operators-user.js": "operators-user.js" is JAVASCRIPT,
    "/operators-confirm.js": "operators-confirm.js" is JAVASCRIPT,
};
