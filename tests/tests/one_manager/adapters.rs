//! An adapter decides nothing: it moves bytes, counts time and starts tasks.

use std::collections::BTreeSet;

use syn::parse::Parser;
use syn::visit::{self, Visit};
use syn::{Expr, Item, Pat, UseTree, Visibility};

use super::source::{self, Source};

/// The modules of the core whose enums are the protocol and its state. What an application gets, such as `hub::Request`, is not.
const STATE_MODULES: [&str; 6] = ["codec", "connection", "error", "manager", "protocol", "stream"];
/// What of the core an adapter has no business with.
const NOT_FOR_ADAPTERS: [&[&str]; 5] = [&["protocol"], &["codec", "frame"], &["connection"], &["manager"], &["stream"]];
/// What an adapter names all the same: where, what, and why that decides nothing.
const NAMED: [(&str, &[&str], &str); 3] = [
    ("runtime-tokio/examples/echo_tokio.rs", &["connection", "Echo"], "a machine to drive, in the place of a session"),
    ("runtime-smol/examples/echo_smol.rs", &["connection", "Echo"], "a machine to drive, in the place of a session"),
    (
        "runtime-smol/examples/server.rs",
        &["stream", "RunError"],
        "what an agent's run answers: the example has an agent",
    ),
];
/// Where examples are: whole servers, and the adapter that others begin from.
pub(crate) const EXAMPLES: [&str; 4] =
    ["core/examples", "runtime-tokio/examples", "runtime-smol/examples", "tests/examples/compio"];
/// Under these names an adapter sees the core.
const CORE: [&[&str]; 7] = [
    &["trunkline_core"],
    &["crate", "core"],
    &["self", "core"],
    &["super", "core"],
    &["core"],
    &["trunkline_tokio", "core"],
    &["trunkline_smol", "core"],
];

/// One of each kind, which every rule about adapters sees.
pub(crate) const SOME: [&str; 3] =
    ["runtime-tokio/src/serve.rs", "runtime-smol/src/serve.rs", "tests/examples/compio/adapter.rs"];

/// The adapters: both runtime crates without the program, and every example.
pub(crate) fn adapters() -> Vec<Source> {
    let mut all = source::of_crate("runtime-tokio/src/lib.rs");
    all.extend(source::of_crate("runtime-smol/src/lib.rs"));
    all.extend(EXAMPLES.into_iter().flat_map(source::all_files));
    all
}

/// The public enums of the modules that are state.
fn state_enums(core: &[Source]) -> BTreeSet<String> {
    let of_state =
        core.iter().filter(|source| source.module.first().is_some_and(|m| STATE_MODULES.contains(&m.as_str())));
    let mut names: BTreeSet<String> = BTreeSet::new();
    for item in of_state.flat_map(|source| &source.ast.items) {
        match item {
            Item::Enum(item) if matches!(item.vis, Visibility::Public(_)) => drop(names.insert(item.ident.to_string())),
            // Made by a macro, as the tables of codes and of frames are.
            Item::Macro(item) => names.extend(enums_in(&item.mac.tokens.to_string())),
            _ => {}
        }
    }
    names
}

/// The names behind `pub enum` in the tokens of a macro.
fn enums_in(text: &str) -> Vec<String> {
    let after = text.split("pub enum ").skip(1);
    after
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

struct Look<'a> {
    source: &'a Source,
    state: &'a BTreeSet<String>,
    faults: Vec<String>,
}

impl Look<'_> {
    /// A variant of one of the enums in a place where something is decided by it.
    fn decides(&mut self, path: &syn::Path) {
        let mut named = path.segments.iter().rev();
        let _variant = named.next();
        if let Some(of) = named.next().filter(|of| self.state.contains(&of.ident.to_string())) {
            self.faults.push(format!("{}: decides by `{}`: the core does", self.source.at(of.ident.span()), of.ident));
        }
    }
}

impl Look<'_> {
    /// What is decided by has its own name, or nobody could see that it is.
    fn import(&mut self, tree: &UseTree, before: Option<&syn::Ident>) {
        let is_state = |ident: &syn::Ident| self.state.contains(&ident.to_string());
        let hides = match tree {
            UseTree::Path(path) => return self.import(&path.tree, Some(&path.ident)),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Name(_) => before.filter(|of| is_state(of)),
            // A trait's methods alone: there is no name to hide behind.
            UseTree::Rename(rename) if rename.rename == "_" => None,
            UseTree::Rename(rename) if is_state(&rename.ident) => Some(&rename.ident),
            UseTree::Rename(rename) if before.is_none() && rename.ident == "trunkline_core" => {
                Some(&rename.ident).filter(|_| rename.rename != "core")
            }
            UseTree::Rename(_) => before.filter(|of| is_state(of)),
            UseTree::Glob(_) => before.filter(|of| is_state(of) || *of == "core" || *of == "trunkline_core"),
        };
        if let Some(hidden) = hides {
            self.faults.push(format!("{}: hides `{hidden}` behind other names", self.source.at(hidden.span())));
        }
    }

    /// The innermost of what is compared: `== Some(&State::A)` decides as `== State::A` does.
    fn compared(&mut self, side: &Expr) {
        match side {
            Expr::Call(call) => call.args.iter().for_each(|side| self.compared(side)),
            Expr::Reference(inner) => self.compared(&inner.expr),
            Expr::Paren(inner) => self.compared(&inner.expr),
            Expr::Array(array) => array.elems.iter().for_each(|side| self.compared(side)),
            Expr::Tuple(tuple) => tuple.elems.iter().for_each(|side| self.compared(side)),
            Expr::Path(path) => self.decides(&path.path),
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Look<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, None);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if item.ident == "trunkline_core" && item.rename.is_some() {
            self.faults.push(format!("{}: hides the core behind another name", self.source.at(item.ident.span())));
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if ["contains", "eq", "ne"].iter().any(|name| call.method == name) {
            self.compared(&call.receiver);
            call.args.iter().for_each(|side| self.compared(side));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_pat(&mut self, pat: &'ast Pat) {
        match pat {
            Pat::TupleStruct(pat) => self.decides(&pat.path),
            Pat::Struct(pat) => self.decides(&pat.path),
            Pat::Path(pat) => self.decides(&pat.path),
            _ => {}
        }
        visit::visit_pat(self, pat);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            self.compared(&binary.left);
            self.compared(&binary.right);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        visit::visit_macro(self, invoked);
        let tokens = &invoked.tokens;
        if invoked.path.is_ident("matches") {
            let both = |input: syn::parse::ParseStream<'_>| {
                input.parse::<Expr>()?;
                input.parse::<syn::Token![,]>()?;
                let pat = Pat::parse_multi_with_leading_vert(input)?;
                input.parse::<proc_macro2::TokenStream>()?;
                Ok(pat)
            };
            if let Ok(pat) = both.parse2(tokens.clone()) {
                self.visit_pat(&pat);
            }
        } else {
            // `select!` and the like: patterns that cannot be told from other tokens. Any state in them counts.
            for named in source::names_in(tokens.clone()) {
                if named.segments.len() > 1 && self.state.contains(&named.segments[named.segments.len() - 2]) {
                    self.faults.push(format!("{}: names a state inside of a macro", self.source.at(named.span)));
                }
            }
        }
    }
}

fn faults(sources: &[Source], state: &BTreeSet<String>) -> (Vec<String>, BTreeSet<usize>) {
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources {
        for named in source::names(source) {
            let Some(core) = CORE.iter().find(|core| named.starts_with(core)) else { continue };
            let path: Vec<&str> = named.segments.iter().skip(core.len()).map(String::as_str).collect();
            if !NOT_FOR_ADAPTERS.iter().any(|module| path.starts_with(module)) {
                continue;
            }
            match NAMED.iter().position(|(file, known, _)| source.path == *file && path.starts_with(known)) {
                Some(at) => drop(used.insert(at)),
                None => faults.push(format!("{}: names `core::{}`", source.at(named.span), path.join("::"))),
            }
        }
        let mut look = Look { source, state, faults: Vec::new() };
        look.visit_file(&source.ast);
        faults.append(&mut look.faults);
    }
    (faults, used)
}

#[test]
fn no_adapter_decides_by_the_state_of_the_protocol() {
    let state = state_enums(&source::of_crate("core/src/lib.rs"));
    for name in
        ["ClientFrame", "ServerFrame", "CloseReason", "ErrorCode", "PhaseName", "ConnectionEvent", "Opcode", "Message"]
    {
        assert!(state.contains(name), "{name} is not among {state:?}");
    }
    let adapters = adapters();
    for path in SOME {
        assert!(adapters.iter().any(|source| source.path == path), "this rule does not see {path}");
    }
    let (faults, used) = faults(&adapters, &state);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (at, (file, path, _)) in NAMED.iter().enumerate() {
        assert!(used.contains(&at), "{file} does not name {path:?} any more: take it off the list");
    }
}

#[test]
fn an_adapter_that_decides_is_seen() {
    let core = "pub enum PhaseName { Head } macro_rules! m { () => { pub enum ClientFrame { } } }";
    let state = state_enums(&[Source::of("core/src/connection/mod.rs", &["connection"], core)]);
    assert_eq!(state.len(), 2);
    let planted = |text: &str| SOME.map(|path| faults(&[Source::of(path, &["serve"], text)], &state).0.len());
    for bad in [
        "fn f() { match x { PhaseName::Head => {} } }",
        "fn f() { if let Some(a::PhaseName::Head) = x {} }",
        "fn f() { let Ok(ClientFrame::Ping { id }) = x else { return }; }",
        "fn f() -> bool { matches!(x, Some(PhaseName::Head) if y) }",
        "fn f() -> bool { x == PhaseName::Head }",
        "fn f() -> bool { x.phase() != Some(PhaseName::Head) }",
        "fn f() { select! { PhaseName::Head = x => {} } }",
        "fn f() -> bool { x == &PhaseName::Head }",
        "fn f() -> bool { [PhaseName::Head].contains(&x) }",
        "fn f() -> bool { x.eq(&PhaseName::Head) }",
        "use trunkline_core::error::PhaseName as P;",
        "use trunkline_core::error::PhaseName::*;",
        "use trunkline_core::error::PhaseName::{Head};",
        "use trunkline_core as other;",
        "extern crate trunkline_core as other;",
        "use trunkline_core::*;",
        "use super::core::protocol::ClientFrame;",
        "use trunkline_core::protocol::ClientFrame;",
        "use trunkline_core::{hub::Hub, codec::frame};",
        "fn f() { crate::core::manager::g() }",
    ] {
        assert_eq!(planted(bad), [1; SOME.len()], "{bad}");
    }
    for good in [
        "use trunkline_core::{hub::{Hub, Session}, codec::upgrade::Refusal, error::CloseReason};",
        "fn f(reason: Option<CloseReason>) -> Outcome { Outcome::Closed(reason) }",
        "fn f() { match request { Request::UserMessage(m) => {}, Request::Command(c) => {} } }",
        "pub use trunkline_core as core;",
        "fn f() { session.close(now, PhaseName::Head); }",
        "#[cfg(test)] mod tests { use trunkline_core::protocol::ClientFrame; }",
    ] {
        assert_eq!(planted(good), [0; SOME.len()], "{good}");
    }
}
