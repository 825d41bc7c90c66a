"""Reads what the fuzzing client says of one server: check.py REPORT_FOLDER SERVER CLASS...

The client's exit status is 0 whatever it found, so that its report is what counts: every case of the classes must be in
it, and OK in what was answered and in how it was closed. Prints one line a class.

A class is all of its cases; `12+` and `13+` are some cases of each of its groups. With `--cases` in the place of folder and
server it prints which cases they are, as the client reads them.
"""

import json
import pathlib
import sys

# How many cases each class has in the version of the suite that `requirements.txt` names.
CASES = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
# What these come to is for the implementation to choose, and the suite only says it: a close right behind a message that is
# still being answered, and two codes that no standard defines.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# Of compression, what is asked at every commit: a thousand messages of 1 KiB for each kind of text and for each kind of offer,
# and of some of them messages of 8 KiB, in frames of 256 bytes.
SOME = {
    "12+": [*(f"12.{group}.4" for group in range(1, 6)), *(f"12.{group}.11" for group in (1, 3, 5))],
    "13+": [*(f"13.{group}.4" for group in range(1, 8)), *(f"13.{group}.11" for group in (1, 4, 7))],
}


def class_of(case):
    return int(case.split(".")[0])


def number_of(name):
    return int(name.removesuffix("+"))


def asked(names):
    """The cases of the classes, as the client is told them."""
    return [case for name in names for case in SOME.get(name, [f"{name}.*"])]


def expected(case):
    """What the case must come to: in what was answered, and in how it was closed."""
    if case in INFORMATIONAL:
        return "INFORMATIONAL", "INFORMATIONAL"
    return "OK", "OK"


def faults_of_class(name, results):
    """What is wrong with the results of one class."""
    faults = []
    count = len(SOME[name]) if name in SOME else CASES[number_of(name)]
    if len(results) != count:
        faults.append(f"{len(results)} cases have a result, and there are {count}")
    for case in SOME.get(name, []):
        if case not in results:
            faults.append(f"case {case}: has no result")
    for case, result in sorted(results.items()):
        answered, closed = expected(case)
        if result.get("behavior") != answered:
            faults.append(f"case {case}: {result.get('behavior')}, not {answered}")
        if result.get("behaviorClose") != closed:
            faults.append(f"case {case}: its close is {result.get('behaviorClose')}, not {closed}")
    return faults


def check(index, server, names):
    """The lines to print, and whether all is well."""
    if list(index) != [server]:
        return [f"{server}: the report is of {sorted(index)}"], False
    by_class = {number_of(name): {} for name in names}
    lines, good = [], True
    for case, result in index[server].items():
        if class_of(case) not in by_class:
            lines.append(f"{server}: case {case} was not asked for")
            good = False
        else:
            by_class[class_of(case)][case] = result
    for name in names:
        results = by_class[number_of(name)]
        faults = faults_of_class(name, results)
        informational = sum(case in INFORMATIONAL for case in results)
        said = f"OK but {informational}, which are informational" if informational else "OK"
        lines.append(f"{server}: class {name}: {len(results)} cases, {'FAILED' if faults else said}")
        lines += [f"    {fault}" for fault in faults]
        good = good and not faults
    return lines, good


def main(folder, server, *names):
    report = pathlib.Path(folder) / "index.json"
    try:
        index = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{server}: the client has left no report: {error}")
    lines, good = check(index, server, names)
    print("\n".join(lines))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cases"]:
        print(json.dumps(asked(sys.argv[2:])))
    else:
        main(*sys.argv[1:])
