import pytest

from llama_platform.config import Config, load_config
from llama_platform.errors import ConfigError


class Inner(Config):
    learning_rate: float = 2e-4


class Outer(Config):
    seed: int = 0
    training: Inner = Inner()
    optional: Inner | None = None


def test_later_sources_win(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("seed: 1\ntraining: {learning_rate: 1.0}\n")
    environ = {"LLAMA_PLATFORM_TRAINING__LEARNING_RATE": "2.0", "LLAMA_PLATFORM_SEED": "2", "OTHER": "x"}
    config = load_config(Outer, file, ["seed=3"], environ)
    assert (config.seed, config.training.learning_rate) == (3, 2.0)


def test_scientific_notation_without_a_dot_is_a_number():
    assert load_config(Outer, None, ["training.learning_rate=1e-4"]).training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lerning_rate=1", ["training.lerning_rate", "did you mean 'learning_rate'"]),
        ("optional.learning=1", ["did you mean 'learning_rate'"]),
        ("sed=1", ["unknown key 'sed'", "did you mean 'seed'"]),
        ("seed=many", ["seed", "integer", "many"]),
        ("seed", ["KEY=VALUE"]),
        ("seed.x=1", ["seed"]),
        ("seed=[", ["not valid YAML"]),
        ("seed=2024-02-30", ["not valid YAML"]),
    ],
)
def test_wrong_overrides_are_named(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, None, [override])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("content", ["a: [", "- 1\n", b"\xff\xfe\xff"])
def test_broken_files_are_named(tmp_path, content):
    file = tmp_path / "broken.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(Outer, file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(Outer, tmp_path / "none.yaml")


def test_unknown_environment_key_is_an_error():
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        load_config(Outer, None, [], {"LLAMA_PLATFORM_SEEED": "1"})


def test_sections_of_other_commands_in_the_environment_are_theirs():
    config = load_config(
        Outer, None, [], {"LLAMA_PLATFORM_CHUNKING__SIZE": "1", "LLAMA_PLATFORM_TRAINING__LEARNING_RATE": "3"}
    )
    assert config.training.learning_rate == 3
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        load_config(Outer, None, [], {"LLAMA_PLATFORM_TRAINING__RATE": "1"})


def test_a_mistyped_section_in_the_environment_is_an_error():
    with pytest.raises(ConfigError, match=r"unknown key 'trainig'; did you mean 'training'"):
        load_config(Outer, None, [], {"LLAMA_PLATFORM_TRAINIG__LEARNING_RATE": "3"})


def test_a_group_of_keys_keeps_the_rest_of_its_own_default():
    class Replicas(Config):
        cpus: float = 1.0
        queue: int = 64

    class App(Config):
        ingress: Replicas = Replicas(cpus=0.1, queue=256)
        llama: Replicas = Replicas()

    config = load_config(App, None, ["ingress.cpus=0.5", "llama.cpus=2"])
    assert (config.ingress.cpus, config.ingress.queue) == (0.5, 256)
    assert (config.llama.cpus, config.llama.queue) == (2, 64)
