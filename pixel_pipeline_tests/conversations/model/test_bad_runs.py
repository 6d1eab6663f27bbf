from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from pixel_pipeline.conversations.model.bad_runs import BadRuns

FLAGS = st.lists(st.booleans(), max_size=30)


def of(flags: list[bool]) -> BadRuns:
    return BadRuns.of(np.array(flags, np.bool_))


@given(FLAGS)
def test_runs_match_a_simple_count(flags: list[bool]) -> None:
    runs = [(bad, len(list(group))) for bad, group in groupby(flags)]
    assert of(flags) == BadRuns(
        records=len(flags),
        longest=max((n for bad, n in runs if bad), default=0),
        first=runs[0][1] if flags and flags[0] else 0,
        last=runs[-1][1] if flags and flags[-1] else 0,
    )


@given(st.lists(FLAGS, max_size=5))
def test_runs_of_parts_add_up_to_the_whole(parts: list[list[bool]]) -> None:
    total = BadRuns()
    for part in parts:
        total += of(part) if any(part) else BadRuns.none(len(part))
    assert total == of([bad for part in parts for bad in part])


def test_an_old_ledger_row_without_counts_has_no_runs() -> None:
    row = {"records_in": 3, "longest_bad_run": None, "first_bad_run": None, "last_bad_run": None}
    assert BadRuns.of_row(row) == BadRuns.none(3)
