"""Progress lines of a log."""

from hypothesis import given
from hypothesis import strategies as st

from pixel_pipeline.sync.progress import ProgressLines, progress_line

STATS = {
    "transfers": 1200,
    "totalTransfers": 20000,
    "bytes": 3_200_000_000,
    "totalBytes": 50_000_000_000,
    "speed": 85_200_000.0,
    "eta": 3 * 3600 + 62,
    "checks": 7,
}


def test_a_line_shows_progress_and_remaining_time() -> None:
    assert (
        progress_line(STATS)
        == "1,200 of 20,000 objects, 3.2 of 50.0 GB (6%), 85.2 MB/s, 3:01:02 left, 7 compared"
    )


def test_a_line_before_the_first_transfer_counts_comparisons() -> None:
    assert progress_line({"totalTransfers": 0, "checks": 12_345}) == "12,345 compared"


@given(
    st.dictionaries(st.sampled_from(sorted(STATS)), st.none() | st.integers(0, 10**15) | st.floats(0, 1e15))
)
def test_any_statistics_make_a_line(stats: dict[str, float | None]) -> None:
    assert progress_line(stats).isprintable()


def test_the_interval_between_lines_grows() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = ProgressLines(lines.append, clock=lambda: now[0])
    for second in range(10 * 3600):
        now[0] = float(second)
        progress(STATS)
        if second == 9:
            assert lines == []
        if second == 60:
            assert len(lines) == 6
    assert len(lines) < 80
