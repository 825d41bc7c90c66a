"""Reads what the fuzzing client says of one server: check.py REPORT_FOLDER SERVER CLASS...

The client's exit status is 0 whatever it found, so that its report is what counts: every case of the classes must be in
it, and OK in what was answered and in how it was closed. Prints one line a class.
"""

import json
import pathlib
import sys

# How many cases each class has in the version of the suite that `requirements.txt` names.
CASES = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
# What these come to is for the implementation to choose, and the suite only says it: a close right behind a message that is
# still being answered, and two codes that no standard defines.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# Compression, which the server does not negotiate.
NOT_NEGOTIATED = {12, 13}


def class_of(case):
    return int(case.split(".")[0])


def expected(case):
    """What the case must come to: in what was answered, and in how it was closed (`None`: in whatever way)."""
    if class_of(case) in NOT_NEGOTIATED:
        return "UNIMPLEMENTED", None
    if case in INFORMATIONAL:
        return "INFORMATIONAL", "INFORMATIONAL"
    return "OK", "OK"


def faults_of_class(number, results):
    """What is wrong with the results of one class."""
    faults = []
    if len(results) != CASES[number]:
        faults.append(f"{len(results)} cases have a result, and there are {CASES[number]}")
    for case, result in sorted(results.items()):
        answered, closed = expected(case)
        if result.get("behavior") != answered:
            faults.append(f"case {case}: {result.get('behavior')}, not {answered}")
        if closed is not None and result.get("behaviorClose") != closed:
            faults.append(f"case {case}: its close is {result.get('behaviorClose')}, not {closed}")
    return faults


def check(index, server, classes):
    """The lines to print, and whether all is well."""
    if list(index) != [server]:
        return [f"{server}: the report is of {sorted(index)}"], False
    by_class = {number: {} for number in classes}
    lines, good = [], True
    for case, result in index[server].items():
        if class_of(case) not in by_class:
            lines.append(f"{server}: case {case} was not asked for")
            good = False
        else:
            by_class[class_of(case)][case] = result
    for number in classes:
        faults = faults_of_class(number, by_class[number])
        said = "unimplemented, as expected" if number in NOT_NEGOTIATED else "OK"
        lines.append(f"{server}: class {number}: {len(by_class[number])} cases, {'FAILED' if faults else said}")
        lines += [f"    {fault}" for fault in faults]
        good = good and not faults
    return lines, good


def main(folder, server, *classes):
    report = pathlib.Path(folder) / "index.json"
    try:
        index = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{server}: the client has left no report: {error}")
    lines, good = check(index, server, [int(number) for number in classes])
    print("\n".join(lines))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
