//! Both adapters offer the same: every public item of the one is there in the other, with the same signature.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Fields, FnArg, ImplItem, Item, TraitItem, UseTree, Visibility};

use super::source::{self, Source};

/// What one adapter has and the other does not: how its path starts, and why.
const ONLY: [(&str, &str); 3] = [
    ("axum", "a web stack of tokio alone"),
    ("hyper", "so is this one, as a server"),
    ("tasks", "smol has no set of tasks that ends them all with itself, as tokio has"),
];
/// What both call by names of their own.
const RUNTIMES: [&str; 2] = ["Tokio", "Smol"];

/// Every public item that can be reached from the root, and every module, one a line.
fn surface(sources: &[Source]) -> BTreeSet<String> {
    let mut found: BTreeSet<_> = sources.iter().flat_map(own_modules).collect();
    let root = sources.iter().find(|source| source.module.is_empty()).expect("the crate has a root");
    reach(sources, &[], &root.ast.items, "", &mut found);
    found
}

/// The modules of a source that are its own business. What one adapter has in one, the other has there, too.
fn own_modules(source: &Source) -> Vec<String> {
    let own = source.ast.items.iter().filter_map(|item| match item {
        Item::Mod(item) if !is_public(&item.vis) => {
            let path = [&source.module[..], &[item.ident.to_string()]].concat().join("::");
            Some(format!("own mod {path}{}", features(&item.attrs)))
        }
        _ => None,
    });
    own.collect()
}

fn reach(sources: &[Source], module: &[String], items: &[Item], before: &str, found: &mut BTreeSet<String>) {
    for item in items {
        let gate = features(source::attributes(item));
        match item {
            Item::Mod(item) if is_public(&item.vis) => {
                let inner = [module, &[item.ident.to_string()]].concat();
                let path = format!("{before}{}::", item.ident);
                found.insert(format!("pub mod {before}{}{gate}", item.ident));
                match (&item.content, sources.iter().find(|source| source.module == inner)) {
                    (Some((_, items)), _) => reach(sources, &inner, items, &path, found),
                    (None, Some(source)) => reach(sources, &inner, &source.ast.items, &path, found),
                    (None, None) => {}
                }
            }
            Item::Use(item) if is_public(&item.vis) => {
                for (path, name) in leaves(&item.tree) {
                    reexport(sources, module, &path, &name, &format!("{before}|{gate}"), found);
                }
            }
            item => {
                if name_of(item).is_some_and(|(_, vis)| is_public(vis)) {
                    describe(sources, item, before, &gate, found);
                }
            }
        }
    }
}

/// An item that another module defines; or another crate, and then its name is all there is to compare.
fn reexport(
    sources: &[Source],
    module: &[String],
    path: &[String],
    name: &str,
    context: &str,
    found: &mut BTreeSet<String>,
) {
    let (before, gate) = context.split_once('|').unwrap_or_default();
    let (last, folders) = path.split_last().expect("a use names something");
    let own: Vec<&String> = folders.iter().filter(|segment| !["crate", "self"].contains(&segment.as_str())).collect();
    let target: Vec<String> = module.iter().chain(own.iter().copied()).cloned().collect();
    let from_root: Vec<String> = own.into_iter().cloned().collect();
    let defined = sources.iter().filter(|source| source.module == target || source.module == from_root);
    let item = defined
        .flat_map(|source| &source.ast.items)
        .find(|item| !matches!(item, Item::Use(_)) && name_of(item).is_some_and(|(ident, _)| ident == last.as_str()));
    match item {
        Some(item) => describe(sources, item, before, gate, found),
        None => drop(found.insert(format!("pub use {before}{} as {name}{gate}", path.join("::")))),
    }
}

fn describe(sources: &[Source], item: &Item, before: &str, gate: &str, found: &mut BTreeSet<String>) {
    let Some((name, _)) = name_of(item) else { return };
    let mut add = |kind: &str, what: &str| found.insert(format!("pub {kind} {before}{what}{gate}"));
    match item {
        Item::Fn(item) => drop(add("fn", &signature(&item.sig))),
        Item::Const(item) => drop(add("const", &plain(&[&item.ident, &item.ty]))),
        Item::Type(item) => drop(add("type", &plain(&[&item.ident, &item.generics, &item.ty]))),
        Item::Trait(item) => {
            let supertraits = &item.supertraits;
            add("trait", &plain(&[&item.ident, &item.generics, supertraits]));
            for inner in &item.items {
                let text = match inner {
                    TraitItem::Fn(inner) => signature(&inner.sig),
                    TraitItem::Type(inner) => plain(&[&inner.ident, &inner.bounds]),
                    TraitItem::Const(inner) => plain(&[&inner.ident, &inner.ty]),
                    other => plain(&[other]),
                };
                add("trait", &format!("{}: {text}", plain(&[&item.ident])));
            }
        }
        Item::Struct(item) => {
            add("struct", &plain(&[&item.ident, &item.generics, &item.generics.where_clause]));
            fields(&plain(&[&item.ident]), &item.fields, &mut add);
            derived(&item.attrs, &plain(&[&item.ident]), &mut add);
        }
        Item::Enum(item) => {
            let name = plain(&[&item.ident]);
            add("enum", &plain(&[&item.ident, &item.generics]));
            for variant in &item.variants {
                add("enum", &format!("{name}: {} {}", plain(&[&variant.ident]), plain(&[&variant.fields])));
            }
            derived(&item.attrs, &name, &mut add);
        }
        // Neither adapter has others; an item of another kind is compared by its name.
        _ => drop(add("item", &name)),
    }
    for item in sources.iter().flat_map(|source| &source.ast.items) {
        if let Item::Impl(block) = item
            && self_name(&block.self_ty).is_some_and(|own| own == name)
        {
            described_impl(block, &mut add);
        }
    }
}

fn described_impl(block: &syn::ItemImpl, add: &mut impl FnMut(&str, &str) -> bool) {
    let own = plain(&[&block.self_ty]);
    let bounds = plain(&[&block.generics, &block.generics.where_clause]);
    if let Some((of, _)) = &block.trait_ {
        add("impl", &format!("{} for {own} {bounds}", plain(&[of])));
        return;
    }
    for item in &block.items {
        if let ImplItem::Fn(item) = item
            && is_public(&item.vis)
        {
            add("fn", &format!("{own}: {} {bounds}", signature(&item.sig)));
        }
    }
}

fn fields(name: &str, fields: &Fields, add: &mut impl FnMut(&str, &str) -> bool) {
    for (at, field) in fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis)) {
        let label = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
        add("struct", &format!("{name}: {label}: {}", plain(&[&field.ty])));
    }
}

fn derived(attributes: &[Attribute], name: &str, add: &mut impl FnMut(&str, &str) -> bool) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let list = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        for of in list.split(',').map(str::trim).filter(|of| !of.is_empty()) {
            add("impl", &format!("{of} for {name}"));
        }
    }
}

/// Without the patterns of arguments, which are for whoever reads the documentation.
fn signature(signature: &syn::Signature) -> String {
    let arguments: Vec<String> = signature
        .inputs
        .iter()
        .map(|argument| match argument {
            FnArg::Receiver(receiver) => plain(&[receiver]),
            FnArg::Typed(typed) => plain(&[&typed.ty]),
        })
        .collect();
    let asyncness = if signature.asyncness.is_some() { "async " } else { "" };
    let generics = plain(&[&signature.generics, &signature.generics.where_clause]);
    format!("{asyncness}{} {generics}({}) {}", signature.ident, arguments.join(", "), plain(&[&signature.output]))
}

/// The tokens as text, without attributes, the paths that lead to a name, and the runtime's own name.
fn plain(parts: &[&dyn ToTokens]) -> String {
    let mut words = Vec::new();
    for part in parts {
        flatten(part.to_token_stream(), &mut words);
    }
    RUNTIMES.iter().fold(words.join(" "), |text, runtime| text.replace(runtime, "Runtime"))
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    let mut trees = tokens.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' && matches!(trees.peek(), Some(TokenTree::Group(_))) => {
                trees.next();
            }
            TokenTree::Punct(punct)
                if punct.as_char() == ':'
                    && matches!(trees.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':') =>
            {
                trees.next();
                if words.last().is_some_and(|word| word.chars().all(|c| c.is_alphanumeric() || c == '_')) {
                    words.pop();
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
            }
            other => words.push(other.to_string()),
        }
    }
}

fn self_name(ty: &syn::Type) -> Option<String> {
    let syn::Type::Path(path) = ty else { return None };
    path.path.segments.last().map(|segment| segment.ident.to_string())
}

fn name_of(item: &Item) -> Option<(String, &Visibility)> {
    let (ident, vis) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((ident.to_string(), vis))
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// The features that an item stands behind.
fn features(attributes: &[Attribute]) -> String {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.map(|attribute| format!(" [{}]", attribute.meta.to_token_stream())).collect()
}

/// What a `use` names: the whole path, and the name that it has here.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    let below = |ident: &syn::Ident, tree: &UseTree| {
        let with = |(path, name): (Vec<String>, String)| ([vec![ident.to_string()], path].concat(), name);
        leaves(tree).into_iter().map(with).collect()
    };
    match tree {
        UseTree::Path(path) => below(&path.ident, &path.tree),
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(rename) => vec![(vec![rename.ident.to_string()], rename.rename.to_string())],
        UseTree::Glob(_) => vec![(vec!["*".to_owned()], "*".to_owned())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// What only one of them has, but for the exceptions; and which of these were needed.
fn differences(names: [&str; 2], surfaces: [&BTreeSet<String>; 2]) -> (Vec<String>, BTreeSet<usize>) {
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for (name, (own, other)) in names.iter().zip([(surfaces[0], surfaces[1]), (surfaces[1], surfaces[0])]) {
        for line in own.difference(other) {
            let path = line.splitn(3, ' ').last().unwrap_or_default();
            match ONLY.iter().position(|(start, _)| path.starts_with(start)) {
                Some(at) => drop(used.insert(at)),
                None => faults.push(format!("only {name} has `{line}`")),
            }
        }
    }
    (faults, used)
}

#[test]
fn both_adapters_offer_the_same() {
    let tokio = surface(&source::of_crate("runtime-tokio/src/lib.rs"));
    let smol = surface(&source::of_crate("runtime-smol/src/lib.rs"));
    for surface in [&tokio, &smol] {
        for known in ["pub fn async serve ", "pub struct SystemClock", "pub trait Web", "pub fn SystemClock: new "] {
            assert!(surface.iter().any(|line| line.starts_with(known)), "{known} is not among\n{}", text(surface));
        }
    }
    let (faults, used) = differences(["trunkline-tokio", "trunkline-smol"], [&tokio, &smol]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (at, (start, _)) in ONLY.iter().enumerate() {
        assert!(used.contains(&at), "`{start}` is no difference any more: take it off the list");
    }
}

fn text(surface: &BTreeSet<String>) -> String {
    surface.iter().cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_difference_is_seen_whatever_it_is() {
    let made = |root: &str, serve: &str| {
        surface(&[Source::of("a/src/lib.rs", &[], root), Source::of("a/src/serve.rs", &["serve"], serve)])
    };
    let root = "mod serve; pub use serve::{serve, TokioTimer, Web}; pub use trunkline_core as core;";
    let serve = "pub async fn serve<S: tokio::io::AsyncRead>(stream: S) -> std::io::Result<()> { Ok(()) }
        #[derive(Debug)] pub struct TokioTimer<C> { clock: C }
        impl<C> TokioTimer<C> { pub const fn new(clock: C) -> Self { Self { clock } } fn hidden(&self) {} }
        impl<C: Clock> Timer for TokioTimer<C> { fn reset(&mut self) {} }
        pub trait Web { fn serve(&self) -> u8; }";
    let one = made(root, serve);
    let differ = |root: &str, serve: &str| differences(["one", "two"], [&one, &made(root, serve)]).0.len();
    let twin = [("tokio::", "smol::"), ("Tokio", "Smol"), ("stream: S", "socket: S"), ("fn hidden", "fn concealed")];
    let as_twin = |text: &str| twin.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    assert_eq!(differ(&as_twin(root), &as_twin(serve)), 0, "{}", text(&one));
    assert!(one.len() >= 8, "{}", text(&one));
    for (from, to) in [
        ("pub async fn", "pub fn"),
        ("AsyncRead", "AsyncWrite"),
        ("Result<()>", "Result<u8>"),
        ("stream: S", "stream: S, more: u8"),
        ("pub const fn new", "const fn new"),
        ("clock: C) -> Self", "clock: &C) -> Self"),
        ("derive(Debug)", "derive(Clone)"),
        ("Timer for", "Clock for"),
        ("impl<C: Clock> Timer", "impl<C: Clock + Unpin> Timer"),
        ("impl<C> TokioTimer", "impl<C: Unpin> TokioTimer"),
        ("{ clock: C }", "{ pub clock: C }"),
        ("-> u8;", "-> u16;"),
    ] {
        assert!(serve.contains(from), "{from}");
        assert!(differ(root, &serve.replacen(from, to, 1)) > 0, "{from} as {to}");
    }
    assert_eq!(differ(&root.replace(" TokioTimer,", ""), serve), 4);
    assert_eq!(differ(&format!("{root} mod more;"), serve), 1);
    assert_eq!(differ(root, &format!("{serve} mod inner {{}}")), 1);
    assert!(differ(&format!("{root} pub mod serve {{ pub fn more() {{}} }}"), serve) > 0);
    assert!(differ(&root.replace("pub use serve", "#[cfg(feature = \"x\")] pub use serve"), serve) > 0);
}
