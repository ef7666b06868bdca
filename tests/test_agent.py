"""The agent's arithmetic."""

from __future__ import annotations

from criu_lazy_ext.agent import COUNTED, add_stats


def counters(count: int, longest: int) -> dict[str, object]:
    return dict.fromkeys(COUNTED, count) | {
        "remaining_pages": count,
        "fault_wait_us": [count, 0, 1],
        "fault_wait_max_us": longest,
    }


def test_a_successors_counters_go_on_where_the_killed_daemons_ended() -> None:
    summed = add_stats(counters(5, 900), counters(2, 300))
    assert {summed[name] for name in COUNTED} == {7}
    assert summed["fault_wait_us"] == [7, 0, 2]
    assert summed["fault_wait_max_us"] == 900
    assert summed["remaining_pages"] == 2, "that is a level"
    assert add_stats({}, counters(2, 300)) == counters(2, 300)
