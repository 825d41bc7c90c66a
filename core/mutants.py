#!/usr/bin/env python3
"""Runs a fixed random sample of the core's mutants, and fails where too few of them are killed. See core/MUTANTS.md.

    core/mutants.py [--from 0] [--below 0.012] [--only NAME]... [--timeout 60] [--seed 1] [--least 85]

Each mutant has a place between 0 and 1: the hash of its name, which is its file and what is changed in which function. So
the sample is the same in every run, and as the code changes only what is about changed code comes or goes. `--only` takes
those of a name, whatever their place. The tests must pass on the unchanged sources first, or nothing is said of mutants.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("MUTANTS_DIR", ROOT / "target" / "mutants"))
TREE = WORK / "tree"
# Another version may make other mutants, and so another sample.
VERSION = "27.1.0"
# A mutant that never stops to collect must not take the machine with it. The compiler and the tests need a quarter.
MAX_BYTES = 12 << 30


def place(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def name(mutant):
    """Without line and column."""
    return re.sub(r"(:[0-9]+)+: ", ": ", mutant, count=1)


def tool():
    """The program of this version: the one that is there, or one of our own."""
    for found in filter(None, [shutil.which("cargo-mutants"), shutil.which(WORK / "tool" / "bin" / "cargo-mutants")]):
        said = subprocess.run([found, "mutants", "--version"], check=True, capture_output=True, text=True).stdout
        if said.split()[-1] == VERSION:
            return found
    install = ["cargo", "install", f"cargo-mutants@{VERSION}", "--locked", "--debug", "--root", str(WORK / "tool")]
    subprocess.run(install, check=True)
    return str(WORK / "tool" / "bin" / "cargo-mutants")


def copy_tree():
    """What git knows of, changed or not: mutants are made in the copy."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for path in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / path).is_file():
            (TREE / path).parent.mkdir(parents=True, exist_ok=True)
            # Newer than whatever was built before: the last build was of a mutant.
            shutil.copy(ROOT / path, TREE / path)


def run(command, others, options, out):
    host = subprocess.run(["rustc", "--print", "host-tuple"], check=True, capture_output=True, text=True).stdout.strip()
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "CARGO_INCREMENTAL": "1",
        # For `--fail-fast`, and so for the tests alone: what is compiled is for the stable compiler.
        f"CARGO_TARGET_{host.upper().replace('-', '_')}_RUNNER": "env RUSTC_BOOTSTRAP=1",
        # A quarter of the usual is enough to kill, and a mutant has no time for more. The same cases in every run, and failures as they are found.
        "PROPTEST_CASES": "64",
        "PROPTEST_RNG_SEED": str(options.seed),
        "PROPTEST_MAX_SHRINK_ITERS": "0",
    }
    shutil.rmtree(out, ignore_errors=True)
    # `--re` does not choose among all kinds of mutants; what was caught before is passed over, whatever it is.
    (out / "mutants.out").mkdir(parents=True)
    (out / "mutants.out" / "caught.txt").write_text("".join(f"{other}\n" for other in others))
    command = [*command, "--in-place", "--iterate", "--no-shuffle", "--timeout", str(options.timeout), "--output", str(out)]
    code = subprocess.run([*command, "--colors=never"], cwd=TREE, env=environment).returncode
    if code == 4:
        sys.exit("the tests fail on the unchanged sources")
    # 2: some were missed; 3: some took too long. Anything else is no result.
    if code not in (0, 2, 3):
        sys.exit(code)
    return json.loads((out / "mutants.out" / "outcomes.json").read_text())


def interval(killed, of):
    """Where the share of all mutants lies, with 95 % confidence (Wilson), in percent."""
    z, share = 1.96, killed / of
    middle, width = share + z * z / (2 * of), z * ((share * (1 - share) + z * z / (4 * of)) / of) ** 0.5
    return [100 * edge / (1 + z * z / of) for edge in (middle - width, middle + width)]


def report(found, least):
    killed, missed = found["caught"] + found["timeout"], found["missed"]
    # In its table a bar is escaped.
    explained = (ROOT / "core" / "MUTANTS.md").read_text().partition("## Survivors")[2].replace("\\|", "|")
    unknown = []
    for outcome in found["outcomes"]:
        if outcome["summary"] in ("MissedMutant", "Timeout"):
            mutant = name(outcome["scenario"]["Mutant"]["name"])
            if outcome["summary"] == "Timeout":
                print(f"killed by the clock: {mutant}")
                continue
            known = f"`{mutant}`" in explained
            print(f"missed ({'known' if known else 'new'}): {mutant}")
            if not known:
                unknown.append(mutant)
    if not killed + missed:
        sys.exit("no mutant could be built")
    share, edges = 100 * killed / (killed + missed), interval(killed, killed + missed)
    print(f"{killed} of {killed + missed} killed, {share:.1f} % (95 % confidence: {edges[0]:.1f} to {edges[1]:.1f} %);", end=" ")
    print(f"{found['timeout']} of them by the clock; {found['unviable']} more do not compile")
    print(f"evidence mutants sample {killed} killed")
    print(f"evidence mutants sample {missed} missed")
    if share < least:
        sys.exit(f"fewer than {least} % were killed")
    if unknown:
        sys.exit("what is new among the missed needs a test, or a reason in core/MUTANTS.md")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--from", type=float, default=0, dest="first")
    options.add_argument("--below", type=float, default=0.012)
    options.add_argument("--only", action="append", default=[], help="a mutant's name, without line and column")
    options.add_argument("--timeout", type=int, default=60, help="seconds that the tests of a mutant may take")
    options.add_argument("--seed", type=int, default=1, help="of the properties' cases")
    options.add_argument("--least", type=float, default=85)
    options = options.parse_args()
    command = [tool(), "mutants", "--package", "trunkline-core"]
    copy_tree()
    everything = subprocess.run([*command, "--list"], cwd=TREE, check=True, capture_output=True, text=True).stdout.splitlines()
    chosen = [mutant for mutant in everything if options.first <= place(name(mutant)) < options.below]
    if options.only:
        chosen = [mutant for mutant in everything if name(mutant) in options.only]
    which = "as named" if options.only else f"from {options.first} to {options.below}"
    print(f"{len(chosen)} of {len(everything)} mutants, those {which}; PROPTEST_RNG_SEED={options.seed}", flush=True)
    out = WORK / ("only" if options.only else f"out-{options.first}-{options.below}")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MAX_BYTES if most == resource.RLIM_INFINITY else min(MAX_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    report(run(command, sorted(set(everything) - set(chosen)), options, out), options.least)


main()
