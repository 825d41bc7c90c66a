//! One type holds connections, and there is one composition of the machines.

use quote::ToTokens;
use syn::Item;
use syn::visit::{self, Visit};

use super::adapters::SOME;
use super::source::{self, Source};

/// Where connections are held: a shard has its users' devices, and the hub the shards and who produces.
const HOLDERS: [&str; 2] = ["core/src/manager/", "core/src/hub/"];
const COLLECTIONS: [&str; 14] = [
    "BTreeMap",
    "BTreeSet",
    "BinaryHeap",
    "DashMap",
    "HashMap",
    "HashSet",
    "IndexMap",
    "JoinMap",
    "JoinSet",
    "LinkedList",
    "Slab",
    "SlotMap",
    "Vec",
    "VecDeque",
];
/// What stands for a connection, wherever it is held.
const CONNECTIONS: [&str; 16] = [
    "Connection",
    "ConnectionId",
    "Connected",
    "Device",
    "Driver",
    "Echo",
    "Link",
    "Mail",
    "Mailbox",
    "Outcome",
    "Session",
    "SessionId",
    "Socket",
    "TcpStream",
    "UnixStream",
    "WebSocketStream",
];
/// Types that say in their name that they hold what others make, and the two that may.
const NAMES: [&str; 7] = ["Broker", "Dispatcher", "Factory", "Manager", "Pool", "Registry", "Router"];
const NAMED: [(&str, &str, &str); 2] = [
    ("core/src/manager/mod.rs", "Manager", "the one"),
    ("core/src/hub/registry.rs", "Registry", "which producers are asked in turn; theirs is no connection's state"),
];
/// What moves the bytes of all sockets in one thread has them in a table, as a runtime has its tasks.
const LOOPS: [(&str, &str); 1] = [("core/examples/poll_loop.rs", "Server")];
/// Statics hold what outlives every hub: nothing but constants may.
const STATICS: [(&str, &str, &str); 0] = [];
const SHARED: [&str; 12] = [
    "Cell", "DashMap", "Lazy", "LazyCell", "LazyLock", "Lock", "Mutex", "Once", "OnceCell", "OnceLock", "RefCell",
    "RwLock",
];

/// What is wrong, and which types are composed of a connection and a hub.
fn look(sources: &[Source]) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut compositions) = (Vec::new(), Vec::new());
    for source in sources {
        let mut look = Look { source, faults: Vec::new(), compositions: Vec::new() };
        look.visit_file(&source.ast);
        faults.append(&mut look.faults);
        compositions.append(&mut look.compositions);
    }
    (faults, compositions)
}

/// The words of a piece of source: its identifiers.
fn words(tokens: &impl ToTokens) -> Vec<String> {
    let text = tokens.to_token_stream().to_string();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
}

struct Look<'a> {
    source: &'a Source,
    faults: Vec<String>,
    compositions: Vec<String>,
}

impl Look<'_> {
    fn holds(&self) -> bool {
        HOLDERS.iter().any(|folder| self.source.path.starts_with(folder))
    }

    fn fault(&mut self, ident: &syn::Ident, what: &str) {
        self.faults.push(format!("{}: `{ident}` {what}", self.source.at(ident.span())));
    }

    fn name(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        let allowed = NAMED.iter().any(|(path, known, _)| self.source.path == *path && name == *known);
        if !allowed && NAMES.iter().any(|suffix| name.ends_with(suffix)) {
            self.fault(ident, "is named as one who holds what others make: there is one manager");
        }
    }

    /// A struct, or the variants of an enum.
    fn fields(&mut self, ident: &syn::Ident, fields: &[&syn::Field]) {
        let of = |field: &&syn::Field| words(&field.ty);
        let has = |field: &&&syn::Field, names: &[&str]| of(field).iter().any(|word| names.contains(&word.as_str()));
        let is_loop = LOOPS.iter().any(|(path, name)| self.source.path == *path && ident == name);
        if !self.holds()
            && !is_loop
            && fields.iter().any(|field| has(&field, &COLLECTIONS) && has(&field, &CONNECTIONS))
        {
            self.fault(ident, "holds connections: only a shard of the manager does");
        }
        let exactly = |names: &[&str]| fields.iter().any(|field| has(&field, names));
        if exactly(&["Connection"]) && exactly(&["Manager", "Hub"]) {
            self.compositions.push(self.source.at(ident.span()));
        }
    }

    /// A type that is named without a field: an alias, a variable's, one that is made.
    fn collection(&mut self, ident: &syn::Ident, ty: &impl ToTokens) {
        let words = words(ty);
        let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
        if !self.holds() && has(&COLLECTIONS) && has(&CONNECTIONS) {
            self.fault(ident, "holds connections: only a shard of the manager does");
        }
    }

    fn shared_static(&mut self, ident: &syn::Ident, ty: &syn::Type) {
        let shared = words(ty).iter().any(|word| SHARED.contains(&word.as_str()) || word.starts_with("Atomic"));
        let allowed = STATICS.iter().any(|(path, name, _)| self.source.path == *path && ident == name);
        if shared && !allowed {
            self.fault(ident, "is state outside of any hub: whoever runs two of them has one of these");
        }
    }
}

impl<'ast> Visit<'ast> for Look<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.ident);
        self.fields(&item.ident, &item.fields.iter().collect::<Vec<_>>());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.ident);
        self.fields(&item.ident, &item.variants.iter().flat_map(|variant| &variant.fields).collect::<Vec<_>>());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.name(&item.ident);
        self.collection(&item.ident, &item.ty);
        visit::visit_item_type(self, item);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let syn::Pat::Type(typed) = &local.pat
            && let syn::Pat::Ident(name) = &*typed.pat
        {
            self.collection(&name.ident, &typed.ty);
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_path(&mut self, expr: &'ast syn::ExprPath) {
        if let Some(first) = expr.path.segments.first() {
            self.collection(&first.ident, &expr.path);
        }
        visit::visit_expr_path(self, expr);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.shared_static(&item.ident, &item.ty);
        visit::visit_item_static(self, item);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        let name = invoked.path.segments.last().map(|segment| segment.ident.clone());
        if let Some(name) = name.filter(|name| name == "thread_local" || name == "lazy_static") {
            self.fault(&name, "makes state outside of any hub");
        }
        visit::visit_macro(self, invoked);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let made = |name: &str| names.ends_with(&[name.to_owned(), "new".to_owned()]);
        if (made("Connection") || made("Manager")) && !self.source.path.starts_with("core/src/hub/") {
            let ident = &path.segments[0].ident;
            self.fault(ident, "is made outside of the hub: drive its `Session`");
        }
        visit::visit_path(self, path);
    }
}

/// Everything that is built, without what only tests see.
fn workspace() -> Vec<Source> {
    let mut all = super::adapters::adapters();
    all.extend(source::of_crate("core/src/lib.rs"));
    all.extend(source::of_crate("runtime-tokio/src/bin/trunkline/main.rs"));
    all
}

#[test]
fn one_type_holds_connections_and_nothing_outside_of_a_hub_does() {
    let sources = workspace();
    for path in SOME {
        assert!(sources.iter().any(|source| source.path == path), "this rule does not see {path}");
    }
    let (faults, compositions) = look(&sources);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let is_session = |at: &String| at.starts_with("core/src/hub/session.rs:");
    assert!(
        compositions.len() == 1 && is_session(&compositions[0]),
        "one type puts the machines together: {compositions:?}"
    );
    for (path, name, _) in NAMED {
        let source = sources.iter().find(|source| source.path == path).expect("the file is there");
        let is_there = |item: &Item| matches!(item, Item::Struct(item) if item.ident == name);
        assert!(source.ast.items.iter().any(is_there), "`{name}` of {path} is there no more: take it off the list");
    }
}

#[test]
fn a_second_holder_is_seen() {
    let planted = |path: &str, text: &str| look(&[Source::of(path, &[], text)]).0.len();
    let in_adapters = |text: &str| SOME.map(|path| planted(path, text));
    for bad in [
        "struct Sockets { open: BTreeMap<u64, Session> }",
        "pub struct S(Vec<Arc<Mailbox<Control>>>);",
        "enum E { A { all: std::collections::HashMap<UserId, Vec<ConnectionId>> }, B }",
        "type Sockets = BTreeMap<u64, Session>;",
        "fn f() { let mut open: Vec<Session> = make(); }",
        "fn f() { let mut open = HashMap::<u64, Session>::new(); }",
        "struct ConnectionManager;",
        "trait SocketFactory {}",
        "type UserRegistry = ();",
        "static ALL: OnceLock<Hub> = OnceLock::new();",
        "fn f() { static SEEN: AtomicU64 = AtomicU64::new(0); }",
        "thread_local! { static X: u8 = 0; }",
        "fn f() { let c = Connection::new(now, settings); }",
        "fn f() { trunkline_core::manager::Manager::new(limits, 1); }",
        "mod inner { struct Sockets { open: Vec<Session> } }",
    ] {
        assert_eq!(in_adapters(bad), [1; SOME.len()], "{bad}");
    }
    for good in [
        "struct Tasks { running: BTreeMap<u64, Task<()>> }",
        "struct Sockets { session: Session, bytes: Vec<u8> }",
        "static NAME: &str = \"a\";",
        "#[cfg(test)] mod tests { struct Sockets { open: Vec<Session> } }",
    ] {
        assert_eq!(in_adapters(good), [0; SOME.len()], "{good}");
    }
    assert_eq!(planted("core/src/manager/user.rs", "struct User { devices: BTreeMap<ConnectionId, Device> }"), 0);
    let composition = "struct Session { hub: Hub, connection: Connection }";
    let two = [Source::of("core/src/hub/session.rs", &[], composition), Source::of(SOME[0], &[], composition)];
    assert_eq!(look(&two).1.len(), 2);
}
