#!/usr/bin/env python3
"""Runs a fixed random sample of the core's mutants, and fails where too few of them are killed. See core/MUTANTS.md.

    core/mutants.py [--from 0] [--below 0.012] [--timeout 120] [--least 85]

Each mutant has a place between 0 and 1: the hash of its name, which is its file and what is changed in which function. So
the sample is the same in every run, and as the code changes only what is about changed code comes or goes.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("MUTANTS_DIR", ROOT / "target" / "mutants"))
TREE = WORK / "tree"
MUTANTS = ["cargo", "mutants", "--package", "trunkline-core"]


def place(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def copy_tree():
    """What git knows of, changed or not: mutants are made in the copy."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)


def mutants():
    """Each as it is listed, which is with its line and column."""
    listed = subprocess.run([*MUTANTS, "--list"], cwd=TREE, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


def name(mutant):
    return re.sub(r"(:[0-9]+)+: ", ": ", mutant, count=1)


def run(others, timeout, out):
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "CARGO_INCREMENTAL": "1",
        # Enough to kill, and a mutant has no time for more.
        "PROPTEST_CASES": "16",
    }
    shutil.rmtree(out, ignore_errors=True)
    # `--re` does not choose among all kinds of mutants; what was caught before is passed over, whatever it is.
    (out / "mutants.out").mkdir(parents=True)
    (out / "mutants.out" / "caught.txt").write_text("".join(f"{other}\n" for other in others))
    command = [*MUTANTS, "--in-place", "--baseline=skip", "--iterate", "--timeout", str(timeout), "--output", str(out)]
    code = subprocess.run([*command, "--no-times", "--colors=never"], cwd=TREE, env=environment).returncode
    # 2: some were missed; 3: some took too long. Anything else is no result.
    if code not in (0, 2, 3):
        sys.exit(code)
    return json.loads((out / "mutants.out" / "outcomes.json").read_text())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--from", type=float, default=0, dest="first")
    options.add_argument("--below", type=float, default=0.012)
    options.add_argument("--timeout", type=int, default=120)
    options.add_argument("--least", type=float, default=85)
    options = options.parse_args()
    if not shutil.which("cargo-mutants"):
        subprocess.run(["cargo", "install", "cargo-mutants", "--locked"], check=True)
    copy_tree()
    everything = mutants()
    others = [mutant for mutant in everything if not options.first <= place(name(mutant)) < options.below]
    chosen = len(everything) - len(others)
    print(f"{chosen} of {len(everything)} mutants, those from {options.first} to {options.below}", flush=True)
    found = run(others, options.timeout, WORK / f"out-{options.first}-{options.below}")
    killed, missed = found["caught"] + found["timeout"], found["missed"]
    explained = (ROOT / "core" / "MUTANTS.md").read_text()
    for outcome in found["outcomes"]:
        if outcome["summary"] == "MissedMutant":
            missed_name = name(outcome["scenario"]["Mutant"]["name"])
            print(f"missed ({'known' if missed_name in explained else 'new'}): {missed_name}")
    print(f"timeouts among the killed: {found['timeout']}; unviable: {found['unviable']}")
    print(f"evidence mutants sample {killed} killed")
    print(f"evidence mutants sample {missed} missed")
    share = 100 * killed / max(1, killed + missed)
    print(f"{share:.1f} % killed")
    if share < options.least:
        sys.exit(f"fewer than {options.least} % were killed")


main()
