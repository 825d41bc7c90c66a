"""The check itself: whatever is not as it must be is said."""

import copy
import unittest

from check import CASES, INFORMATIONAL, SOME, asked, check

OK = {"behavior": "OK", "behaviorClose": "OK"}


def report(*classes):
    """A good one. The numbers of the cases are made up, but for those that are informational."""
    cases = {}
    for number in classes:
        special = sorted(case for case in INFORMATIONAL if case.startswith(f"{number}."))
        names = special + [f"{number}.900.{n}" for n in range(CASES[number] - len(special))]
        cases.update({name: dict(OK) for name in names})
    for case in INFORMATIONAL & set(cases):
        cases[case] = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}
    return {"server": cases}


class Checks(unittest.TestCase):
    def holds(self, index, *classes):
        return check(index, "server", [str(name) for name in classes])[1]

    def test_a_good_report_passes(self):
        self.assertTrue(self.holds(report(1, 7), 1, 7))

    def test_everything_else_fails(self):
        good = report(1, 7)
        broken = []
        for case, result in [
            ("1.900.0", {"behavior": "NON-STRICT", "behaviorClose": "OK"}),
            ("1.900.0", {"behavior": "FAILED", "behaviorClose": "OK"}),
            ("1.900.0", {"behavior": "INFORMATIONAL", "behaviorClose": "OK"}),
            ("1.900.0", {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}),
            ("1.900.0", {"behavior": "OK", "behaviorClose": "UNCLEAN"}),
            ("1.900.0", {"behavior": "OK", "behaviorClose": "FAILED BY CLIENT"}),
            ("1.900.0", {"behavior": "OK"}),
            ("7.1.6", {"behavior": "FAILED", "behaviorClose": "INFORMATIONAL"}),
            ("1.900.900", OK),
            ("2.900.0", OK),
        ]:
            index = copy.deepcopy(good)
            index["server"][case] = result
            broken.append(index)
        missing = copy.deepcopy(good)
        del missing["server"]["7.900.3"]
        broken += [missing, {}, {"another": good["server"]}, {"server": {}}]
        for index in broken:
            self.assertFalse(self.holds(index, 1, 7), index)

    def test_some_cases_of_a_class_are_these_and_no_others(self):
        index = {"server": {case: dict(OK) for case in SOME["12+"]}}
        self.assertTrue(self.holds(index, "12+"))
        self.assertFalse(self.holds(index, 12))
        gone = copy.deepcopy(index)
        del gone["server"]["12.5.4"]
        self.assertFalse(self.holds(gone, "12+"))
        gone["server"]["12.5.5"] = OK
        self.assertFalse(self.holds(gone, "12+"))
        index["server"]["12.1.4"] = {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}
        self.assertFalse(self.holds(index, "12+"))

    def test_cases_are_told_as_the_client_reads_them(self):
        self.assertEqual(asked(["1", "9"]), ["1.*", "9.*"])
        self.assertEqual(asked(["1", "12+", "13+"]), ["1.*", *SOME["12+"], *SOME["13+"]])
        self.assertEqual(len(asked(["12+", "13+"])), 18)


if __name__ == "__main__":
    unittest.main()
