import pytest

from llama_platform.errors import ConfigError
from llama_platform.safety.chat import SafetyConfig
from serve_apps.generation.safety import Safety


def test_each_tenant_has_its_screens(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n- {name: a, terms: [aa], places: [input], action: block}\n"
        "- {name: b, terms: [bb], places: [output], action: flag, tenants: [acme]}\n"
        "- {name: c, terms: [cc], places: [output], action: redact, tenants: [other]}"
    )
    safety = Safety(SafetyConfig(rules=file))
    acme, other = safety.screens("acme"), safety.screens("other")
    assert [rule.name for rule in acme.input] == ["a"]
    assert [rule.name for rule in acme.output] == ["b"]
    assert (acme.changes_output, other.changes_output) == (False, True)
    assert acme.turns == "neutralize"
    assert safety.screens("acme") is acme


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such"):
        Safety(SafetyConfig(rules=tmp_path / "nothing.yaml"))
