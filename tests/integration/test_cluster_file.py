"""`ray up cluster.yaml`, as far as it goes without AWS: Ray's own checks and node provider, against an API server."""

import copy
from pathlib import Path

import boto3
import pytest
import yaml

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
NODE_TYPES = ("head", "cpu_worker", "training_worker", "serving_worker")


@pytest.fixture
def cluster_config(monkeypatch):
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    monkeypatch.setenv("AWS_DEFAULT_REGION", config["provider"]["region"])
    return config


@pytest.fixture
def profiles(aws_environment, cluster_config):
    """The instance profiles, made from the template."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName="llama-platform",
        TemplateBody=(ROOT / "platform/aws/node_profiles.yaml").read_text(),
        Parameters=[{"ParameterKey": "ModelBucket", "ParameterValue": "my-llama-bucket"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    yield {
        profile["InstanceProfileName"] for profile in boto3.client("iam").list_instance_profiles()["InstanceProfiles"]
    }
    cloudformation.delete_stack(StackName="llama-platform")


def test_ray_accepts_the_file(cluster_config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster_config))
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == set(NODE_TYPES)
    for node_type in prepared["available_node_types"].values():
        assert node_type["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/x86_64/")
    commands = " ".join(prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"])
    assert commands.count("RAY_AUTH_MODE=token") == 2
    assert "--dashboard-host=127.0.0.1" in commands


def test_nodes_that_serve_install_vllm_and_otherwise_the_same(cluster_config):
    usual = cluster_config["setup_commands"]
    with_vllm = cluster_config["available_node_types"]["serving_worker"]["worker_setup_commands"]
    as_usual = [line.replace("constraints-vllm", "constraints").replace("[all,vllm]", "[all]") for line in with_vllm]
    assert as_usual == usual
    assert with_vllm[-1].endswith('[all,vllm]"')
    others = {name: kind for name, kind in cluster_config["available_node_types"].items() if name != "serving_worker"}
    assert not any("worker_setup_commands" in kind for kind in others.values())


def test_nodes_start_encrypted_with_their_own_profile(cluster_config, profiles, tmp_path):
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    region = cluster_config["provider"]["region"]
    assert profiles == {"llama-platform-head", "llama-platform-worker"}
    key = boto3.client("ec2", region_name=region).create_key_pair(KeyName="test")
    (tmp_path / "key.pem").write_text(key["KeyMaterial"])
    cluster_config["auth"]["ssh_private_key"] = str(tmp_path / "key.pem")
    for node_type in cluster_config["available_node_types"].values():
        node_type["node_config"]["KeyName"] = "test"
    config = prepare_config(cluster_config)
    validate_config(config)
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name in NODE_TYPES:
        kind = "head" if name == "head" else "worker"
        tags = {
            "ray-node-kind": kind,
            "ray-user-node-type": name,
            "ray-node-name": name,
            "ray-node-status": "setting-up",
        }
        provider.create_node(config["available_node_types"][name]["node_config"], tags, 1)
    ec2 = boto3.client("ec2", region_name=region)
    found = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert len(found) == len(NODE_TYPES)
    for instance in found:
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        expected = "head" if tags["ray-user-node-type"] == "head" else "worker"
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/llama-platform-{expected}")
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        volumes = [m["Ebs"]["VolumeId"] for m in instance["BlockDeviceMappings"]]
        assert all(volume["Encrypted"] for volume in ec2.describe_volumes(VolumeIds=volumes)["Volumes"])
    groups = ec2.describe_security_groups(GroupIds=[g["GroupId"] for g in found[0]["SecurityGroups"]])["SecurityGroups"]
    open_ports = {p.get("FromPort") for g in groups for p in g["IpPermissions"] if p.get("IpRanges")}
    assert open_ports <= {22}
