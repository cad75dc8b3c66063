"""The gates as JUnit XML: one test case per gate, for the test view of a CI system."""

from __future__ import annotations

from xml.etree import ElementTree

from qtool.evaluation.results import Evaluation
from qtool.report.tables import rows_needed
from qtool.report.text import printable

TYPES = {"fail": "gate", "undecided": "undecided"}


def to_junit(evaluation: Evaluation) -> str:
    """Returns one test suite; a gate that does not hold is a failure with its text.

    The type of the failure is ``gate``, or ``undecided`` with the rows that would decide.
    """
    failures = sum(gate.verdict != "pass" for gate in evaluation.gates)
    counts = {"tests": str(len(evaluation.gates)), "failures": str(failures), "errors": "0"}
    suites = ElementTree.Element("testsuites", {"name": "qtool evaluate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": evaluation.name, **counts})
    for gate in evaluation.gates:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"{evaluation.name}.gates", "name": gate.name}
        )
        if gate.verdict != "pass":
            message = printable(f"{gate.text}{rows_needed(gate)}")
            failure = ElementTree.SubElement(
                case, "failure", {"type": TYPES[gate.verdict], "message": message}
            )
            failure.text = f"{gate.name}: {message}"
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
