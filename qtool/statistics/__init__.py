"""Statistics of paired comparisons: intervals, tests, verdicts. Arrays and numbers in and out."""
