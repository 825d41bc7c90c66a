#!/usr/bin/env python3
"""Counts the instructions of the core's machines under callgrind. Fails where one costs more than it did, or a parser too much.

    core/instructions.py [--write] [--self-test]

An operation of a machine may cost at most 5 % more than core/instructions.json says; where it costs 5 % less, the file is to be
written anew, which `--write` does. For each parser the worst inputs known are read at two sizes: twice the bytes may cost at
most 2.5 times the instructions. What is done for many, such as an event for all subscribers of its topic, may cost at most 12 times
as much for 10 times as many; `--write` draws core/curves.svg of it. `--self-test` tries the judgements on made-up figures, as every
run does first.

Counts are the same in every run, and on every processor as far as that can be had: valgrind shows programs a processor of its
own, and below what differs all the same is turned off. They do change with the compiler. Under another release of it, or on
another architecture, than the file was made with, operations are counted and told, but not judged; parsers always are.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "core" / "instructions.json"
# More or less than this, in percent, is a change.
TOLERANCE = 5
# Twice the bytes may cost so many times the instructions. A sort or a tree needs a little more than twice as many.
MOST_GROWTH = 2.5
# What is done for many is counted for so many, and may cost so many times as much from one count to the next.
MANY = [100, 1_000, 10_000]
MOST_FOR_TEN_TIMES = 12
CURVES = ROOT / "core" / "curves.svg"
# What costs hardly more was refused before it was read, and shows nothing.
LEAST_GROWTH = 1.5

# Nothing of the caller's environment counts: not even its size, which moves the stack.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    # glibc chooses among its own ways to copy, compare and search by what the processor has: the plainest.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-BMI1,-BMI2,-ERMS,-FSRM,-LZCNT,-MOVBE,-POPCNT,"
    "-RTM,-SSE4_2,-SSE4_1,-SSSE3,-AVX_Fast_Unaligned_Load,-Fast_Unaligned_Copy,-Prefer_No_AVX512_Probing",
    # So does aws-lc, in words as `cpuid` has them: neither SSSE3 nor AVX, and nothing that came later.
    "OPENSSL_ia32cap": "~0x1000020000000000:~0xffffffffffffffff",
}


def judge_costs(counted, baseline):
    """What is to be said of each operation: whether it is a fault, and the words."""
    said = []
    for name in sorted(counted.keys() | baseline.keys()):
        if name not in baseline:
            said.append((True, f"{name}: there is no count to compare with: --write"))
        elif name not in counted:
            said.append((True, f"{name}: is not counted any more: --write"))
        else:
            now, then = counted[name], baseline[name]
            change = 100 * (now - then) / then
            words = f"{name}: {now} instructions, {then} before ({change:+.1f} %)"
            if change > TOLERANCE:
                said.append((True, f"{words}: that is too many. Where they are worth it: --write"))
            elif change < -TOLERANCE:
                said.append((False, f"{words}: that is a gain, to be kept with --write"))
            else:
                said.append((False, words))
    return said


def judge_growth(name, size, once, twice):
    """The same of one input."""
    growth = twice / once
    words = f"{name}: {once / size:.1f} instructions a byte at {size} bytes, and {growth:.2f} times as many for twice the bytes"
    if growth > MOST_GROWTH:
        return True, f"{words}: that is more than {MOST_GROWTH}"
    if growth < LEAST_GROWTH:
        return True, f"{words}: it is not read to its end, and shows nothing"
    return False, words


def judge_scale(name, totals):
    """The same of what is done for many, by how many they are."""
    each = ", ".join(f"{totals[count] / count:.0f} for {count:,}" for count in MANY)
    growths = [totals[more] / totals[fewer] for fewer, more in zip(MANY, MANY[1:])]
    words = f"{name}: instructions for each {each}; for ten times as many {' and '.join(f'{g:.2f}' for g in growths)} times as many"
    if max(growths) > MOST_FOR_TEN_TIMES:
        return True, f"{words}: that is more than {MOST_FOR_TEN_TIMES}"
    return False, words


def draw(scales):
    """What each of many costs, by how many they are: a line that does not rise is linear."""
    width, height, left, right, top, bottom = 720, 360, 70, 190, 40, 50
    highest = max(totals[count] / count for totals in scales.values() for count in MANY)
    step = next(s for s in (500, 1_000, 2_000, 5_000, 10_000, 20_000) if highest / s <= 8)
    ceiling = step * (int(highest / step) + 1)

    def x(at):
        return left + (width - left - right) * at / (len(MANY) - 1)

    def y(value):
        return top + (height - top - bottom) * (1 - value / ceiling)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        "<title>Instructions for each of many, by how many they are</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{left}" y="22" fill="#222222">Instructions for each, by how many there are</text>',
    ]
    for value in range(0, ceiling + 1, step):
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#555555">{value:,}</text>')
    for at, count in enumerate(MANY):
        parts.append(f'<text x="{x(at):.1f}" y="{height - 20}" text-anchor="middle" fill="#555555">{count:,}</text>')
    # Names stand beside the ends of their lines, and not on one another.
    lowest = None
    colours = iter(["#0b6e99", "#b3471d", "#3c7d22", "#7a3e9d", "#555555", "#a8761b"])
    for name, totals in sorted(scales.items(), key=lambda item: item[1][MANY[-1]]):
        values, colour = [totals[count] / count for count in MANY], next(colours)
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="4" fill="{colour}"/>' for at, value in enumerate(values)]
        beside = y(values[-1]) + 4 if lowest is None else min(y(values[-1]) + 4, lowest - 16)
        lowest = beside
        parts.append(f'<text x="{width - right + 12}" y="{beside:.1f}" fill="{colour}">{name}</text>')
    CURVES.write_text("\n".join([*parts, "</svg>"]) + "\n")


def self_test():
    """The judgements, on made-up figures."""

    def costs(now, then=1_000):
        [(fault, words)] = judge_costs({"a": now}, {"a": then})
        return fault, "too many" in words, "gain" in words

    assert costs(1_000) == costs(1_050) == costs(950) == (False, False, False)
    assert costs(1_051) == (True, True, False)
    assert costs(949) == (False, False, True)
    # One that is slower is not made up for by another that is faster.
    both = judge_costs({"a": 2_000, "b": 10}, {"a": 1_000, "b": 1_000})
    assert [fault for fault, _ in both] == [True, False]
    assert [fault for fault, _ in judge_costs({"new": 1}, {"gone": 1})] == [True, True]
    growths = [judge_growth("a", 10, 1_000, twice)[0] for twice in (1_000, 1_499, 1_500, 2_500, 2_501, 4_000)]
    assert growths == [True, True, False, False, True, True]
    scales = [judge_scale("a", {100: 100, 1_000: 1_000, 10_000: last})[0] for last in (10_000, 12_000, 12_001, 100_000)]
    assert scales == [False, False, True, True]
    print("instructions: more is too many, twice as much for twice the bytes is not, and four times as much is")


def build():
    # With the features that the core has in the program, so that it is the same build.
    packages = ["-p", "trunkline-core", "-p", "trunkline-tokio", "-p", "trunkline-benches"]
    command = ["cargo", "build", "--quiet", "--release", *packages, "--bin", "instructions"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return ROOT / target / "release" / "instructions"


def counts(program, *arguments):
    """What the program prints, and the instructions up to each of its marks from the one before."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=counts", "--dump-before=*instructions*mark*"]
        # The same length on every machine.
        Path(folder, "instructions").symlink_to(program)
        run = [*command, "./instructions", *arguments]
        done = subprocess.run(run, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(run)}:\n{done.stdout}{done.stderr}")
        parts = {}
        for path in Path(folder).glob("counts*"):
            text = path.read_text()
            # Not what comes after the last mark.
            if "\ndesc: Trigger: --dump-before" in text:
                parts[int(re.search(r"^part: (\d+)$", text, re.M)[1])] = int(re.search(r"^totals: (\d+)$", text, re.M)[1])
        return done.stdout.splitlines(), [parts[part] for part in sorted(parts)]


def count_machine(program, name):
    [line], [_, repeated] = counts(program, "machine", name)
    return round(repeated / int(line.split()[-1]))


def count_parsers(program):
    lines, marks = counts(program, "parsers")
    if len(marks) != 3 * len(lines):
        sys.exit(f"callgrind saw {len(marks)} marks and should have seen {3 * len(lines)}")
    for line, once, twice in zip(lines, marks[1::3], marks[2::3]):
        name, _, size = line.rpartition(" ")
        yield name, int(size), once, twice


def count_scale(program, number, count):
    _, [_, total] = counts(program, "scale", str(number), str(count))
    return total


def made_with():
    rustc = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[1]
    # Patches of a release compile alike.
    return {"architecture": platform.machine(), "rustc": rustc.rpartition(".")[0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="write what is counted to core/instructions.json")
    parser.add_argument("--self-test", action="store_true", help="try the judgements on made-up figures, and nothing else")
    options = parser.parse_args()
    self_test()
    if options.self_test:
        return
    if not shutil.which("valgrind", path=ENVIRONMENT["PATH"]):
        sys.exit("instructions: there is no valgrind: apt-get install valgrind")
    program, here = build(), made_with()
    names = subprocess.run([program, "list"], check=True, capture_output=True, text=True).stdout.split()
    many = subprocess.run([program, "scales"], check=True, capture_output=True, text=True).stdout.splitlines()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parsers = pool.submit(lambda: list(count_parsers(program)))
        counted = dict(zip(names, pool.map(lambda name: count_machine(program, name), names)))
        tasks = {name: {count: pool.submit(count_scale, program, at, count) for count in reversed(MANY)} for at, name in enumerate(many)}
        scales = {name: {count: task.result() for count, task in of.items()} for name, of in tasks.items()}
        growths = [judge_growth(*input) for input in parsers.result()]
    if options.write:
        BASELINE.write_text(json.dumps({"made_with": here, "instructions": counted}, indent=2) + "\n")
        draw(scales)
    baseline = json.loads(BASELINE.read_text())
    costs = judge_costs(counted, baseline["instructions"])
    judged = here == baseline["made_with"]
    growths += [judge_scale(name, totals) for name, totals in scales.items()]
    for _, words in costs + growths:
        print(words)
    if judged:
        print(f"evidence instructions machines {len(costs)} operations")
    else:
        print(f"the operations are not judged: the counts are of {baseline['made_with']}, and this is {here}")
    print(f"evidence instructions parsers {len(growths) - len(scales)} inputs")
    print(f"evidence instructions scales {len(scales)} curves")
    faults = [words for fault, words in growths + costs * judged if fault]
    if faults:
        sys.exit("\n".join(["", *faults]))


if __name__ == "__main__":
    main()
