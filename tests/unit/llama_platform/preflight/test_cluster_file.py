from pathlib import Path

import pytest
import yaml

from llama_platform.preflight.cluster_file import check_cluster_file

SHIPPED = yaml.safe_load((Path(__file__).parents[4] / "cluster.yaml").read_text())


def check(tmp_path, found):
    (tmp_path / "cluster.yaml").write_text(found if isinstance(found, str) else yaml.safe_dump(found))
    return list(check_cluster_file(tmp_path / "cluster.yaml"))


def filled():
    return yaml.safe_load(yaml.safe_dump(SHIPPED).replace("my-llama-bucket", "ours"))


def test_the_shipped_file_with_a_bucket_would_start_with_ssh_open(tmp_path):
    assert {finding.level for finding in check(tmp_path, filled())} == {"warning"}


def test_the_examples_bucket_is_named(tmp_path):
    problems = [finding for finding in check(tmp_path, SHIPPED) if finding.level == "error"]
    assert {finding.check for finding in problems} == {"bucket"}


@pytest.mark.parametrize(
    ("change", "check_name"),
    [
        (lambda f: f["provider"].update(region="us-wets-2"), "region"),
        (lambda f: f["provider"].update(security_group={"IpPermissions": [{"CidrIp": "0.0.0.0/0"}]}), "security group"),
        (lambda f: f.update(head_start_ray_commands=["ray start --head"]), "token"),
        (
            lambda f: f.update(
                head_start_ray_commands=[c.replace("127.0.0.1", "0.0.0.0") for c in f["head_start_ray_commands"]]
            ),
            "dashboard",
        ),
        (lambda f: f.update(head_node_type="none"), "node types"),
        (lambda f: f["available_node_types"]["cpu_worker"].update(min_workers=9), "node types"),
    ],
)
def test_each_mistake_is_found(tmp_path, change, check_name):
    found = filled()
    change(found)
    assert [finding.check for finding in check(tmp_path, found) if finding.level == "error"] == [check_name]


@pytest.mark.parametrize("text", ["]", "[1]", "a: 1"])
def test_what_is_no_cluster_file_is_said_to_be_none(tmp_path, text):
    (finding,) = check(tmp_path, text)
    assert (finding.level, finding.check) == ("error", "cluster file")


@pytest.mark.parametrize("region", ["us-west-2", "eu-central-1", "ap-northeast-3", "us-gov-east-1", "af-south-1"])
def test_regions_of_aws_are_known(tmp_path, region):
    found = filled()
    found["provider"]["region"] = region
    assert [finding for finding in check(tmp_path, found) if finding.level == "error"] == []
