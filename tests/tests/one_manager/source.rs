//! The sources of a crate as its module tree names them, without what is only there for tests.

use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, Macro, UseTree};

/// One file of a crate, with everything taken out that only tests see.
pub(crate) struct Source {
    /// As in `core/src/hub/mod.rs`.
    pub(crate) path: String,
    /// As in `["hub", "session"]`; empty for the root and for whole files that are no crate's.
    pub(crate) module: Vec<String>,
    pub(crate) text: String,
    pub(crate) ast: File,
}

impl Source {
    /// A source that stands alone, such as a planted one.
    pub(crate) fn of(path: &str, module: &[&str], text: &str) -> Self {
        let mut ast = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        drop_tests(&mut ast.items);
        let module = module.iter().map(|&name| name.to_owned()).collect();
        Self { path: path.to_owned(), module, text: text.to_owned(), ast }
    }

    pub(crate) fn at(&self, span: Span) -> String {
        format!("{}:{}", self.path, span.start().line)
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace's root").to_owned()
}

/// The files that the module tree under this crate root names.
pub(crate) fn of_crate(root: &str) -> Vec<Source> {
    let mut found = Vec::new();
    read_module(Path::new(root), Vec::new(), true, &mut found);
    found
}

/// Every Rust file in a folder and below, tests and all, each as a whole of its own.
pub(crate) fn all_files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&workspace().join(folder), &mut |path| {
        let text = std::fs::read_to_string(path).expect("a source can be read");
        let ast = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        found.push(Source { path: relative(path), module: Vec::new(), text, ast });
    });
    found
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).to_string_lossy().into_owned()
}

fn read_module(file: &Path, module: Vec<String>, is_root: bool, found: &mut Vec<Source>) {
    let text =
        std::fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let path = file.to_string_lossy().into_owned();
    let names: Vec<&str> = module.iter().map(String::as_str).collect();
    let source = Source::of(&path, &names, &text);
    let folder = file.parent().expect("a file lies in a folder");
    let is_folder = is_root || file.file_stem().is_some_and(|stem| stem == "mod");
    let below = if is_folder { folder.to_owned() } else { folder.join(file.file_stem().expect("a file has a name")) };
    let mut children = Vec::new();
    for item in &source.ast.items {
        if let Item::Mod(child) = item
            && child.content.is_none()
        {
            let name = child.ident.to_string();
            let flat = below.join(format!("{name}.rs"));
            let nested = below.join(&name).join("mod.rs");
            let file = if workspace().join(&flat).exists() { flat } else { nested };
            children.push((file, [module.clone(), vec![name]].concat()));
        }
    }
    found.push(source);
    for (file, module) in children {
        read_module(&file, module, false, found);
    }
}

fn drop_tests(items: &mut Vec<Item>) {
    items.retain(|item| !attributes(item).iter().any(is_for_tests));
    for item in items {
        if let Item::Mod(module) = item
            && let Some((_, items)) = &mut module.content
        {
            drop_tests(items);
        }
    }
}

/// Whether the attribute is `#[cfg(test)]`, `#[test]` and the like, or a build for models.
fn is_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let condition = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
    let words: Vec<&str> = condition.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let named = |name: &str| words.contains(&name);
    !named("not") && (named("test") || named("doctest") || named("loom"))
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// A path that a source names, with `use` trees spelled out: its segments and where it stands.
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) span: Span,
    /// It stands in a `use`.
    pub(crate) imported: bool,
}

impl Named {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(segment, name)| segment == name)
    }
}

/// The path from the root of the crate, where it is one of this crate: `super` and `self` are resolved.
pub(crate) fn in_crate(source: &Source, named: &Named) -> Option<Vec<String>> {
    let mut rest = named.segments.as_slice();
    let mut module = source.module.clone();
    match rest.first()?.as_str() {
        "crate" => module.clear(),
        "self" | "super" => {}
        _ => return None,
    }
    while let Some((first, more)) = rest.split_first()
        && ["crate", "self", "super"].contains(&first.as_str())
    {
        if first == "super" {
            module.pop();
        }
        rest = more;
    }
    Some([&module, rest].concat())
}

/// Every path that the source names, in `use` and elsewhere, inside of macros too.
pub(crate) fn names(source: &Source) -> Vec<Named> {
    let mut visitor = Names { found: Vec::new() };
    visitor.visit_file(&source.ast);
    visitor.found
}

struct Names {
    found: Vec<Named>,
}

impl Names {
    fn spell(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.spell(&path.tree, before);
            }
            UseTree::Name(name) => self.add(before, name.ident.clone()),
            UseTree::Rename(rename) => self.add(before, rename.ident.clone()),
            UseTree::Glob(glob) => {
                self.add(before, syn::Ident::new("GLOB", glob.star_token.spans[0]));
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.spell(tree, before.clone())),
        }
    }

    fn add(&mut self, mut segments: Vec<String>, last: syn::Ident) {
        segments.push(last.to_string());
        self.found.push(Named { segments, span: last.span(), imported: true });
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.spell(&item.tree, Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.add(Vec::new(), item.ident.clone());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let span = path.segments.first().map_or_else(Span::call_site, |segment| segment.ident.span());
        self.found.push(Named { segments, span, imported: false });
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        visit::visit_macro(self, invoked);
        paths_in(invoked.tokens.clone(), &mut self.found);
    }
}

/// The same of the tokens of a macro.
pub(crate) fn names_in(tokens: proc_macro2::TokenStream) -> Vec<Named> {
    let mut found = Vec::new();
    paths_in(tokens, &mut found);
    found
}

/// The paths among the tokens of a macro: identifiers that `::` joins.
fn paths_in(tokens: proc_macro2::TokenStream, found: &mut Vec<Named>) {
    use proc_macro2::TokenTree;
    let mut path: Option<Named> = None;
    let mut colons = 0;
    for tree in tokens {
        match tree {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                match &mut path {
                    Some(path) if colons == 2 => path.segments.push(name),
                    _ => {
                        found.extend(path.take());
                        path = Some(Named { segments: vec![name], span: ident.span(), imported: false });
                    }
                }
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                found.extend(path.take());
                paths_in(group.stream(), found);
                colons = 0;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                found.extend(path.take());
                colons = 0;
            }
        }
    }
    found.extend(path);
}
