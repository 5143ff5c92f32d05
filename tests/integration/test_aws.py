"""The templates of platform/aws, deployed by the lines of docs/operations.md on emulators, and read back.

moto knows networks, ECS and load balancers; ministack knows alarms, functions and firewalls. What neither knows is left
out of the template that it gets, by name (`UNKNOWN`), and compared with the template itself.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import types
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import boto3
import httpx
import pytest
import yaml

from llama_platform.ports import free_port
from ray_nodes import kill_group, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "platform/aws"
OPS = ROOT / ".cache/ops/bin"
UNKNOWN = {
    "registry.yaml": {"Replication"},
    "monitoring.yaml": {"Errors"},  # an alarm on a quotient of metrics
    "edge.yaml": {"Association", "Logging"},
    "audit.yaml": {"Trail"},
}
"""Resources that ministack does not know."""


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as the long ones."""


def _long(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            return {"Fn::GetAtt": value.split(".", 1)}
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _long)


def template(name: str) -> dict:
    return yaml.load((TEMPLATES / name).read_text(), Loader)


def deploy_lines() -> list[str]:
    text = (ROOT / "docs/operations.md").read_text()
    return re.findall(r"^aws cloudformation deploy .+$", text, re.MULTILINE)


def line_of(file: str) -> str:
    return next(line for line in deploy_lines() if f"/{file} " in f"{line} ")


@contextmanager
def emulator(command: list[str], environment: dict[str, str], url: str, folder: Path):
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            with suppress(httpx.HTTPError):
                return httpx.get(url, timeout=5).status_code < 500
            return False

        wait_for(answers, 60)
        yield url
    finally:
        kill_group(process)


class Aws:
    """One emulator, its stacks, and clients of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-west-2", "PATH": f"{OPS}:{os.environ['PATH']}", "HOME": str(folder),
        }  # fmt: skip

    def client(self, service: str):
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-west-2", aws_access_key_id="x", aws_secret_access_key="x"
        )

    def deploy(self, file: str, **values: str) -> str:
        """Run the line of the handbook for a template, with values for its variables, and return the stack's name."""
        line = line_of(file)
        if file in UNKNOWN:
            found = template(file)
            found["Resources"] = {k: v for k, v in found["Resources"].items() if k not in UNKNOWN[file]}
            found["Outputs"] = {k: v for k, v in found["Outputs"].items() if "Trail" not in json.dumps(v)}
            (self._folder / file).write_text(json.dumps(found))
            line = line.replace(f"platform/aws/{file}", str(self._folder / file))
        done = subprocess.run(
            ["bash", "-euc", line], cwd=ROOT, env={**self._environment, **values}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return shlex.split(line)[shlex.split(line).index("--stack-name") + 1]

    def outputs(self, stack: str) -> dict[str, str]:
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}

    def create(self, file: str, **values: str) -> dict[str, str]:
        """Do what the line does through the API, and return the outputs: moto loses those of a change set."""
        words = shlex.split(line_of(file))
        given = (
            [word.partition("=") for word in words[words.index("--parameter-overrides") + 1 :]]
            if "--parameter-overrides" in words
            else []
        )
        name = words[words.index("--stack-name") + 1]
        self.client("cloudformation").create_stack(
            StackName=name,
            TemplateBody=(TEMPLATES / file).read_text(),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": values[value[1:]] if value.startswith("$") else value}
                for key, _, value in given
            ],
        )
        return self.outputs(name)


@pytest.fixture(scope="module", autouse=True)
def tools():
    assert OPS.exists(), "run `make .cache/ops/.done` first: it installs an emulator and the AWS command line"


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("moto"), free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with emulator(command, {}, f"http://127.0.0.1:{port}", folder) as url:
        yield Aws(url, folder)


@pytest.fixture(scope="module")
def ministack(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("ministack"), free_port()
    settings = {"GATEWAY_PORT": str(port), "S3_DATA_DIR": str(folder / "s3"), "MINISTACK_REGION": "us-west-2"}
    with emulator([str(OPS / "ministack")], settings, f"http://127.0.0.1:{port}", folder) as url:
        yield Aws(url, folder)


@pytest.fixture(scope="module")
def network(moto):
    return moto.create("network.yaml")


def test_a_network_over_two_zones(moto, network):
    ec2 = moto.client("ec2")
    ids = network["PublicSubnets"].split(",") + network["PrivateSubnets"].split(",")
    subnets = {s["SubnetId"]: s for s in ec2.describe_subnets(SubnetIds=ids)["Subnets"]}
    assert len({subnet["AvailabilityZone"] for subnet in subnets.values()}) == 2
    made = [found for found in template("network.yaml")["Resources"].values() if found["Type"] == "AWS::EC2::Subnet"]
    assert [subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in made] == [False] * 4
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceName"] == "com.amazonaws.us-west-2.s3"
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network["VpcId"]]}])["RouteTables"]
    out = [r for table in tables for r in table["Routes"] if r.get("DestinationCidrBlock") == "0.0.0.0/0"]
    assert sum("NatGatewayId" in route for route in out) == 2
    assert sum(route.get("GatewayId", "").startswith("igw-") for route in out) == 1
    (log,) = ec2.describe_flow_logs()["FlowLogs"]
    assert (log["ResourceId"], log["TrafficType"]) == (network["VpcId"], "ALL")


def test_network_acls_let_in_https_and_replies_only():
    resources = template("network.yaml")["Resources"]
    entries = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::EC2::NetworkAclEntry"]
    incoming = [e for e in entries if not e.get("Egress") and e["CidrBlock"] == "0.0.0.0/0"]
    ports = {(e["NetworkAclId"]["Ref"], e["PortRange"]["From"]) for e in incoming}
    assert ports == {("PublicNacl", 443), ("PublicNacl", 80), ("PublicNacl", 1024), ("PrivateNacl", 1024)}
    associated = [r for r in resources.values() if r["Type"] == "AWS::EC2::SubnetNetworkAclAssociation"]
    assert len(associated) == 4


def test_a_bucket_that_is_encrypted_versioned_and_private(ministack):
    bucket = ministack.outputs(ministack.deploy("bucket.yaml"))["Bucket"]
    s3 = ministack.client("s3")
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    denied = next(statement for statement in policy["Statement"] if statement["Effect"] == "Deny")
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_tiers_copies_in_two_regions_acceleration_and_object_lock_stand_in_the_template():
    found = template("bucket.yaml")
    copies = found["Resources"]["Bucket"]["Properties"]["ReplicationConfiguration"]["Fn::If"][1]["Rules"]
    assert [rule.get("Id") or rule["Fn::If"][1]["Id"] for rule in copies] == ["first", "second"]
    assert found["Parameters"]["Acceleration"]["AllowedValues"] == ["Enabled", "Suspended"]
    assert found["Resources"]["Bucket"]["Properties"]["ObjectLockEnabled"]["Fn::If"][0] == "Locked"
    tier, clean = found["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert tier["Transitions"][0]["StorageClass"] == "INTELLIGENT_TIERING"
    assert clean["NoncurrentVersionExpiration"]["NoncurrentDays"] == {"Ref": "OldVersionDays"}


def test_a_registry_that_scans_and_whose_tags_never_move(ministack):
    ministack.deploy("registry.yaml")
    (repository,) = ministack.client("ecr").describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    copies = template("registry.yaml")["Resources"]["Replication"]["Properties"]["ReplicationConfiguration"]["Rules"]
    assert len(copies[0]["Destinations"]) == 2


@pytest.fixture(scope="module")
def service(moto, network):
    certificate = moto.client("acm").request_certificate(DomainName="llama.example.com")["CertificateArn"]
    moto.client("s3").create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return moto.create(
        "service_ecs.yaml", VPC=network["VpcId"], PUBLIC=network["PublicSubnets"], PRIVATE=network["PrivateSubnets"],
        CERTIFICATE=certificate, LOGS="logs", IMAGE="registry.example.com/llama-platform:1",
    )  # fmt: skip


def test_a_service_whose_task_is_not_root(moto, service):
    ecs = moto.client("ecs")
    (found,) = ecs.describe_services(cluster="llama", services=["llama"])["services"]
    task = ecs.describe_task_definition(taskDefinition=found["taskDefinition"])["taskDefinition"]
    platform = next(c for c in task["containerDefinitions"] if c["name"] == "platform")
    assert platform["user"] == "10001:10001"
    assert platform["readonlyRootFilesystem"] is True
    assert platform["portMappings"][0]["containerPort"] == 8000
    assert {mount["containerPath"] for mount in platform["mountPoints"]} == {"/var/lib/llama-platform", "/tmp"}
    assert platform["logConfiguration"]["options"]["awslogs-group"] == "/llama-platform/llama"


def test_a_load_balancer_with_tls_health_checks_and_stickiness(moto, service):
    elb = moto.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    found = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    listeners = {listener["Port"]: listener for listener in found}
    assert listeners[443]["Protocol"] == "HTTPS"
    assert listeners[443]["SslPolicy"].startswith("ELBSecurityPolicy-TLS13")
    assert listeners[80]["DefaultActions"][0]["RedirectConfig"]["StatusCode"] == "HTTP_301"
    (target,) = elb.describe_target_groups()["TargetGroups"]
    assert (target["HealthCheckPath"], target["Port"], target["TargetType"]) == ("/health/ready", 8000, "ip")


def test_what_the_emulator_does_not_tell_of_the_service_stands_in_its_template():
    resources = template("service_ecs.yaml")["Resources"]
    containers = {c["Name"]: c for c in resources["Task"]["Properties"]["ContainerDefinitions"]}
    command = containers["platform"]["Command"][0]["Fn::Sub"]
    assert "--host 0.0.0.0 --metrics-port 8080 " in command  # what the load balancer and the agent ask
    assert "127.0.0.1:8080" in json.dumps(containers["cloudwatch-agent"])
    parameters = template("service_ecs.yaml")["Parameters"]
    assert (parameters["TaskCpu"]["Default"], parameters["TaskMemory"]["Default"]) == ("1024", 4096)
    assert (parameters["MinTasks"]["Default"], parameters["MaxTasks"]["Default"]) == (1, 10)
    service = resources["Service"]["Properties"]
    assert service["LaunchType"]["Fn::If"][:2] == ["Fargate", "FARGATE"]
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    target = {a["Key"]: a["Value"] for a in resources["Target"]["Properties"]["TargetGroupAttributes"]}
    assert target["stickiness.enabled"] == "true"
    balancer = {a["Key"]: a["Value"] for a in resources["Balancer"]["Properties"]["LoadBalancerAttributes"]}
    assert float(balancer["idle_timeout.timeout_seconds"]) > 120  # longer than limits.request_timeout_s
    assert resources["Scaling"]["Properties"]["MaxCapacity"] == {"Ref": "MaxTasks"}
    policies = {
        name: found["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        for name, found in resources.items()
        if found["Type"] == "AWS::ApplicationAutoScaling::ScalingPolicy"
    }
    targets = {name: found["TargetValue"] for name, found in policies.items()}
    assert targets == {"ByProcessor": 70, "ByMemory": 80, "ByQueue": 10, "ByResponseTime": 10}
    assert policies["ByQueue"]["CustomizedMetricSpecification"]["MetricName"] == "ray_llama_waiting_requests"


def test_metrics_that_aws_is_told_of_are_in_the_catalogue():
    from llama_platform.metrics import METRICS

    spoken = set()
    for name in ("service_ecs.yaml", "monitoring.yaml"):
        spoken |= set(re.findall(r"ray_llama_\w+", (TEMPLATES / name).read_text()))
    assert spoken <= {series for metric in METRICS.values() for series in metric.series}


@pytest.fixture(scope="module")
def monitoring(ministack):
    ministack.client("logs").create_log_group(logGroupName="/llama-platform/llama")
    return ministack.outputs(
        ministack.deploy(
            "monitoring.yaml", BALANCER="app/llama/1", TARGET="targetgroup/llama/1", EMAIL="ops@example.com"
        )
    )


def test_alarms_for_what_was_asked(ministack, monitoring):
    alarms = {
        a["AlarmName"].removeprefix("llama-monitoring-"): a
        for a in ministack.client("cloudwatch").describe_alarms()["MetricAlarms"]
    }
    thresholds = {"processor": 80, "memory": 85, "response-time": 10, "health": 1}
    assert {name: float(alarms[name]["Threshold"]) for name in thresholds} == thresholds
    assert {"queue", "store", "error-lines"} <= set(alarms)
    assert all(monitoring["TopicArn"] in alarm["AlarmActions"] for alarm in alarms.values())


def test_an_alarm_on_five_percent_of_errors(moto):
    alarm = template("monitoring.yaml")["Resources"]["Errors"]["Properties"]
    given = json.loads(re.sub(r'{"Ref": "(\w+)"}', r'"\1"', json.dumps(alarm)))
    given |= {"AlarmName": "errors", "AlarmActions": [], "OKActions": []}
    cloudwatch = moto.client("cloudwatch")
    cloudwatch.put_metric_alarm(**given)
    (found,) = cloudwatch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"]
    assert (found["Threshold"], found["EvaluationPeriods"]) == (5, 5)
    assert "FILL(failed, 0) + FILL(refused, 0)" in found["Metrics"][0]["Expression"]


def test_whom_alarms_tell_and_a_dashboard(ministack, monitoring):
    subscribed = ministack.client("sns").list_subscriptions_by_topic(TopicArn=monitoring["TopicArn"])["Subscriptions"]
    assert {s["Protocol"] for s in subscribed} == {"email", "lambda"}
    (board,) = ministack.client("cloudwatch").list_dashboards()["DashboardEntries"]
    body = json.loads(
        ministack.client("cloudwatch").get_dashboard(DashboardName=board["DashboardName"])["DashboardBody"]
    )
    assert len(body["widgets"]) == 5


def remedy(monkeypatch, deployments, found=True, alarm="ALARM"):
    """Run the function of the template with an ECS that has these deployments; return (its answer, what it asked)."""
    code = template("monitoring.yaml")["Resources"]["Remedy"]["Properties"]["Code"]["ZipFile"]
    asked = []
    ecs = types.SimpleNamespace(
        describe_services=lambda **kw: {"services": [{"deployments": deployments}] if found else []},
        update_service=lambda **kw: asked.append(kw),
    )
    module = types.ModuleType("index")
    alarms = types.SimpleNamespace(describe_alarms=lambda **kw: {"MetricAlarms": [{"StateValue": alarm}]})
    monkeypatch.setattr(boto3, "client", lambda name: {"ecs": ecs, "cloudwatch": alarms}[name])
    names = {"CLUSTER": "llama", "SERVICE": "llama", "ALARM": "llama-monitoring-health", "PAUSE_S": "900"}
    for key, value in names.items():
        monkeypatch.setenv(key, value)
    exec(compile(code, "index.py", "exec"), module.__dict__)
    return module.handle, asked


def message(state="ALARM", name="llama-monitoring-health"):
    return {"Records": [{"Sns": {"Message": json.dumps({"NewStateValue": state, "AlarmName": name})}}]}


def test_the_function_restarts_a_service_without_a_healthy_task(monkeypatch):
    old = [{"createdAt": datetime.fromtimestamp(time.time() - 3600, UTC)}]
    handle, asked = remedy(monkeypatch, old)
    assert handle(message(), None) == "restarted"
    assert asked == [{"cluster": "llama", "service": "llama", "forceNewDeployment": True}]
    assert handle(message(state="OK"), None) == "nothing to do"
    assert handle(message(name="llama-monitoring-processor"), None) == "nothing to do"
    assert len(asked) == 1


def test_the_function_looks_again_while_the_alarm_stands(monkeypatch):
    old = [{"createdAt": datetime.fromtimestamp(time.time() - 3600, UTC)}]
    handle, asked = remedy(monkeypatch, old)
    assert handle({"source": "aws.events"}, None) == "restarted"
    assert len(asked) == 1
    handle, asked = remedy(monkeypatch, old, alarm="OK")
    assert handle({"source": "aws.events"}, None) == "nothing to do"
    assert asked == []


def test_the_function_leaves_a_young_deployment_alone_and_names_what_is_missing(monkeypatch):
    handle, asked = remedy(monkeypatch, [{"createdAt": datetime.now(UTC)}])
    assert handle(message(), None) == "young"
    assert asked == []
    handle, _ = remedy(monkeypatch, [], found=False)
    with pytest.raises(RuntimeError, match="no service llama"):
        handle(message(), None)


def test_a_firewall_by_address_and_by_known_attacks(ministack):
    ministack.deploy("edge.yaml", BALANCER_ARN="arn:aws:elasticloadbalancing:us-west-2:1:loadbalancer/app/llama/1")
    (found,) = ministack.client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"]
    acl = ministack.client("wafv2").get_web_acl(Name=found["Name"], Scope="REGIONAL", Id=found["Id"])["WebACL"]
    assert [rule["Name"] for rule in acl["Rules"]] == ["by-address", "bad-addresses", "known-bad-inputs", "common"]
    resources = template("edge.yaml")["Resources"]
    assert resources["Association"]["Properties"]["ResourceArn"] == {"Ref": "BalancerArn"}
    assert resources["Logging"]["Properties"]["RedactedFields"] == [{"SingleHeader": {"Name": "authorization"}}]


def test_a_trail_of_the_account_and_of_the_store(ministack):
    ministack.deploy("audit.yaml")
    assert ministack.client("s3").get_bucket_versioning(Bucket="my-llama-trail")["Status"] == "Enabled"
    trail = template("audit.yaml")["Resources"]["Trail"]["Properties"]
    assert trail["IsMultiRegionTrail"]
    assert trail["EnableLogFileValidation"]
    assert trail["EventSelectors"][0]["DataResources"][0]["Type"] == "AWS::S3::Object"


def test_redis_of_a_cluster_is_encrypted_and_only_nodes_reach_it():
    found = template("ray_cluster.yaml")["Resources"]
    redis = found["Redis"]["Properties"]
    assert redis["TransitEncryptionEnabled"]
    assert redis["AtRestEncryptionEnabled"]
    assert redis["AutomaticFailoverEnabled"]
    assert found["FromNodes"]["Properties"]["SourceSecurityGroupId"] == {"Ref": "NodeGroup"}
    assert not any(
        "0.0.0.0/0" in json.dumps(rule) and rule["FromPort"] != 443
        for rule in found["NodeGroup"]["Properties"]["SecurityGroupEgress"]
    )
