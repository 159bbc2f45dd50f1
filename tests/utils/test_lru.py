"""The memory of recently used results, against a plain list."""

from hypothesis import given, strategies as st

from utils.lru import Lru

steps = st.lists(st.tuples(st.sampled_from(["get", "put", "drop"]), st.integers(0, 5), st.integers(0, 9)), max_size=40)


@given(steps, st.integers(0, 12))
def test_any_history(history, most):
    memory, slow = Lru(most, size=lambda value: value), []  # slow: (name, value), the least recently used first
    for call, name, value in history:
        held = [pair for pair in slow if pair[0] == name]
        if call == "get":
            assert memory.get(name) == (held[0][1] if held else None)
            slow = [pair for pair in slow if pair[0] != name] + held
        else:
            slow = [pair for pair in slow if pair[0] != name]
            if call == "put":
                memory.put(name, value)
                slow.append((name, value))
                while sum(value for _, value in slow) > most:
                    slow.pop(0)
            else:
                memory.drop(name)
        assert len(memory) == len(slow)


def test_without_sizes_each_counts_one():
    memory = Lru(2)
    for name in "abc":
        memory.put(name, name.upper())
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (None, "B", "C")
