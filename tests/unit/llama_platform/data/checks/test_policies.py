import pytest

from llama_platform.config import load_config
from llama_platform.data.config import DataConfig
from llama_platform.errors import ConfigError


def test_a_pattern_that_is_none_is_refused_with_the_configuration():
    with pytest.raises(ConfigError, match="is no regular expression"):
        load_config(DataConfig, None, ["quality.refused_patterns=['(']"])
    with pytest.raises(ConfigError, match=r"policies\.malformed"):
        load_config(DataConfig, None, ["policies.malformed=warn"])
