//! The checker is itself checked: a table that lies must fail.

use super::*;

const CHECKED: &str = "status = 'checked'\nkind = 'unit'\nby = ['a.rs::holds']";

/// A whole table whose entries are pending, but for `number`, which is written as `body`, or left out.
fn table_with(number: &str, body: Option<&str>) -> String {
    let mut table = String::new();
    for entry in Number::all().map(|number| number.to_string()) {
        let pending = "status = 'pending'\nreason = 'needs time'";
        let Some(body) = (if entry == number { body } else { Some(pending) }) else { continue };
        table += &format!("[{entry}]\nwhat = 'a failure'\nproperty = 'its absence'\n{body}\n");
    }
    table
}

fn faults(text: &str) -> Vec<String> {
    Table::parse(text).map(|table| table.summary()).unwrap_err().iter().map(Fault::to_string).collect()
}

fn missing(by: &str, kind: &str, file: Option<&str>) -> Vec<String> {
    let body = format!("status = 'checked'\nkind = '{kind}'\nreason = 'so'\nby = ['{by}']");
    let table = Table::parse(&table_with("R7", Some(&body))).unwrap();
    let missing = table.missing_checks(|_| file.map(str::to_owned));
    missing.iter().map(|(number, missing)| format!("{number}: {missing}")).collect()
}

#[track_caller]
fn exists(by: &str, kind: &str, file: &str) {
    assert_eq!(missing(by, kind, Some(file)), [""; 0], "{file}");
}

#[track_caller]
fn does_not_exist(by: &str, kind: &str, file: &str) {
    let expected = format!("R7: check {by}: the file has no such check that runs");
    assert_eq!(missing(by, kind, Some(file)), [expected], "{file}");
}

#[test]
fn counts_a_whole_table() {
    let table = Table::parse(&table_with("R7", Some(CHECKED))).unwrap();
    assert_eq!(table.summary().to_string(), "1 checked, 0 impossible, 116 pending");
    assert_eq!(table.entries().count(), usize::from(LAST_CAUSE + LAST_INVARIANT));
}

#[test]
fn refuses_a_missing_number() {
    assert_eq!(faults(&table_with("R102", None)), ["R102: there is no entry"]);
    assert_eq!(faults(&table_with("I15", None)), ["I15: there is no entry"]);
    assert_eq!(faults("").len(), 117);
}

#[test]
fn refuses_a_doubled_number() {
    let again = table_with("", None) + "[R7]\nwhat = 'x'\nproperty = 'y'\nstatus = 'pending'\nreason = 'z'\n";
    let faults = faults(&again);
    assert!(faults.len() == 1 && faults[0].contains("duplicate key"), "{faults:?}");
}

#[test]
fn refuses_a_number_that_does_not_exist() {
    for name in ["R0", "R103", "I16", "R01", "r1", "X1", "R"] {
        let body = "what = 'x'\nproperty = 'y'\nstatus = 'pending'\nreason = 'z'";
        let text = format!("{}[{name}]\n{body}\n", table_with("", None));
        assert_eq!(faults(&text), [format!("{name}: the table has no such number")]);
    }
}

#[test]
fn refuses_an_entry_that_is_not_whole() {
    let cases = [
        ("status = 'pending'", "there is no `reason`"),
        ("status = 'impossible'", "there is no `reason`"),
        ("status = 'pending'\nreason = ' '", "`reason` is empty"),
        ("status = 'pending'\nreason = 'x'\nby = ['a.rs::b']", "`by` and `kind` belong to a checked entry only"),
        ("status = 'impossible'\nreason = 'x'\nkind = 'unit'", "`by` and `kind` belong to a checked entry only"),
        ("status = 'checked'\nby = ['a.rs::b']", "a checked entry needs a `kind`"),
        ("status = 'checked'\nkind = 'unit'", "a checked entry needs a check in `by`"),
        ("status = 'checked'\nkind = 'unit'\nby = ['a.rs::b', 'a.rs::b']", "`by` names a check twice"),
        (
            "status = 'checked'\nkind = 'type'\nby = ['a.rs::B']",
            "kind `type` needs a `reason` that says how the type rules it out",
        ),
        ("seen_in = ['x']\nstatus = 'pending'\nreason = 'y'", "`seen_in` has \"x\", which is not repository#thread"),
    ];
    for (body, problem) in cases {
        assert_eq!(faults(&table_with("R7", Some(body))), [format!("R7: {problem}")], "{body}");
    }
}

#[test]
fn refuses_a_name_that_is_no_file_and_function() {
    for name in ["holds", "::holds", "a.rs::", "/a.rs::holds", "../a.rs::holds", "a.rs::tests::holds", "a.rs::it holds"]
    {
        let body = format!("status = 'checked'\nkind = 'unit'\nby = ['{name}']");
        let faults = faults(&table_with("R7", Some(&body)));
        assert!(faults.len() == 1 && faults[0].starts_with("R7: check "), "{name}: {faults:?}");
    }
}

#[test]
fn refuses_unknown_fields_and_values() {
    for body in
        ["status = 'done'", "status = 'pending'\nreasons = 'x'", "status = 'checked'\nkind = 'luck'", "reason = 'x'"]
    {
        assert!(matches!(Table::parse(&table_with("R7", Some(body))).unwrap_err()[..], [Fault::Syntax(_)]), "{body}");
    }
}

#[test]
fn misses_a_file_that_does_not_exist() {
    assert_eq!(missing("a.rs::holds", "unit", None), ["R7: check a.rs::holds: there is no such file"]);
}

#[test]
fn finds_tests_of_every_sort() {
    for marker in ["#[test]", "#[tokio::test]", "#[tokio::test(flavor = \"multi_thread\")]", "#[kani::proof]"] {
        exists("a.rs::holds", "unit", &format!("{marker}\nfn holds() {{}}"));
        exists(
            "a.rs::holds",
            "unit",
            &format!("    {marker}\n    #[should_panic]\n    // Why.\n    async fn holds() {{}}"),
        );
    }
    exists("a.rs::holds", "exploration", "#[test]\n#[ignore = \"takes minutes\"]\nfn holds() {}");
    exists("a.rs::holds", "property", "proptest! {\n    /// Why.\n    fn holds(x in 0..9) {\n    }\n}");
    exists(
        "a.rs::holds",
        "property",
        "proptest! {\n    fn other(x in 0..9) {\n    }\n\n    fn holds(x in 0..9) {\n    }\n}",
    );
    exists("a.rs::fuzz_target", "fuzz", "fuzz_target!(|data: &[u8]| {});");
    exists("a.mjs::two devices agree", "e2e", "check('two devices agree', () => {})");
    exists("a.toml::two_agree", "conformance", "[[scenario]]\nname = \"two_agree\"\n");
}

#[test]
fn finds_types_for_the_kind_type_only() {
    let file = "pub struct Position {";
    exists("a.rs::Position", "type", file);
    exists("a.rs::Position", "type", "pub(crate) enum Position<T> {");
    does_not_exist("a.rs::Position", "unit", file);
    does_not_exist("a.rs::Position", "type", "struct PositionLike;");
    does_not_exist("a.rs::Position", "type", "// struct Position;");
}

#[test]
fn misses_what_is_no_test_that_runs() {
    for file in [
        "",
        "fn holds() {}",
        "#[test]\nfn holds_not() {}",
        "#[test]\nfn it_holds() {}",
        "// #[test]\nfn holds() {}",
        "#[test]\n// fn holds() {}",
        "#[cfg(test)]\nfn holds() {}",
        "#[test]\n#[ignore]\nfn holds() {}",
        "#[ignore = \"slow\"]\n#[test]\nfn holds() {}",
        "#[test]\nfn other() {}\nfn holds() {}",
        "#[test]\nfn other() {\n    holds();\n}\nfn holds() {}",
        "#[test]\nfn other() {\n    fn holds() {}\n}",
        "proptest! {\n    fn other(x in 0..9) {\n    }\n}\n\nfn holds() {}",
    ] {
        does_not_exist("a.rs::holds", "unit", file);
    }
    does_not_exist("a.mjs::two devices agree", "e2e", "check('two devices', () => {})");
    does_not_exist("a.toml::two", "conformance", "[[scenario]]\nname = \"two_agree\"\n");
    does_not_exist("a.rs::fuzz_target", "fuzz", "// fuzz_target!(|data: &[u8]| {});");
}
