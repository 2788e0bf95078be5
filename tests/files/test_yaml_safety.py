"""Whatever bytes a YAML file holds: a mapping or one DatasetError, never another exception."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from guardianflow.exceptions import DatasetError
from guardianflow.files.yaml_safety import MAX_ALIASES, load_yaml_mapping

_PIECES = st.sampled_from(
    [
        "[", "]", "{", "}", "a: ", "- ", "&x ", "*x", "!!int ", "!!set ", "!!binary ", "!!omap ", "!!timestamp ",
        "!!bool ", "? ", "\n", "  ", "\t", "1", "'", '"', ",", "<<: ", "2024-01-01", "|\n", "---\n", "%TAG ", "0x", "é",
    ]
)  # fmt: skip
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc 한 :#'\"-", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.one_of(st.binary(max_size=60), st.lists(_PIECES, max_size=40).map("".join).map(str.encode)))
@example(b"a: !!int 'x'")
@example(b"a: !!timestamp '2024-13-45'")
@example(b"{!!set {a}: b}")
@example(b"a: &a {b: *a}")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_mapping_or_a_dataset_error(tmp_path, content):
    file = tmp_path / "data.yaml"
    file.write_bytes(content)
    try:
        answer = load_yaml_mapping(file)
    except DatasetError as error:
        answer = error
    assert isinstance(answer, dict) or "\n" not in str(answer)


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=4), _PLAIN, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ordinary_files_are_read_as_pyyaml_reads_them(tmp_path, data):
    import yaml

    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    assert load_yaml_mapping(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_a_few_aliases_are_fine_and_one_more_is_not(tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text("a: &a x\nb: [" + "*a," * MAX_ALIASES + "]\n")
    assert load_yaml_mapping(file)["b"] == ["x"] * MAX_ALIASES
    file.write_text("a: &a x\nb: [" + "*a," * (MAX_ALIASES + 1) + "]\n")
    with pytest.raises(DatasetError, match="uses more than 8 aliases"):
        load_yaml_mapping(file)
