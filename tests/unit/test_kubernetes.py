"""The manifests of platform/kubernetes: Kubernetes' own schemas, and what a restricted namespace asks for."""

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "platform/kubernetes"
RELEASE = "1.34"
RAY_KINDS = ("RayService", "RayJob")
# Fields of ray.io/v1, as KubeRay 1.6 describes them: another name would be dropped in silence.
SPEC = {
    "RayService": {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold", "serveConfigV2",
                   "rayClusterConfig"},
    "RayJob": {"entrypoint", "submissionMode", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
               "rayClusterSpec"},
}  # fmt: skip
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def manifests() -> list[dict]:
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


RAY = [found for found in manifests() if found["kind"] in RAY_KINDS]


def cluster_of(manifest: dict) -> dict:
    spec = manifest["spec"]
    return spec.get("rayClusterConfig") or spec["rayClusterSpec"]


def templates(manifest: dict) -> list[dict]:
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def check(manifest: dict) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(manifest, RELEASE, strict=True)


@pytest.mark.parametrize("manifest", [m for m in manifests() if m["kind"] not in RAY_KINDS], ids=lambda m: m["kind"])
def test_plain_kinds_follow_their_schema(manifest):
    check(manifest)


def test_the_schema_would_tell_a_wrong_field():
    with pytest.raises(Exception, match="maxUnavailabel"):
        check({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {}, "spec": {"maxUnavailabel": 1}})


@pytest.mark.parametrize("manifest", RAY, ids=lambda m: m["kind"])
def test_pods_of_ray_follow_the_schema_of_pods(manifest):
    for number, template in enumerate(templates(manifest)):
        metadata = {**template["metadata"], "name": f"pod-{number}"}
        check({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})


@pytest.mark.parametrize("manifest", RAY, ids=lambda m: m["kind"])
def test_rays_kinds_have_fields_that_there_are(manifest):
    assert set(manifest["spec"]) == SPEC[manifest["kind"]]
    cluster = cluster_of(manifest)
    assert set(cluster) == CLUSTER
    assert all(set(group) == GROUP for group in cluster["workerGroupSpecs"])
    assert cluster["authOptions"] == {"mode": "token"}
    assert isinstance(cluster["rayVersion"], str)


@pytest.mark.parametrize("manifest", RAY, ids=lambda m: m["kind"])
def test_every_pod_may_run_in_a_restricted_namespace(manifest):
    for template in templates(manifest):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"]
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in template["spec"]["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp", "/var/lib/llama-platform"}


def test_rays_version_is_the_one_that_is_installed():
    import ray

    assert {cluster_of(manifest)["rayVersion"] for manifest in RAY} == {ray.__version__}


def test_what_is_applied_is_there_and_names_that_are_used_are_made():
    found = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert all((FOLDER / name).is_file() for name in found["resources"])
    made = {generated["name"] for generated in found["configMapGenerator"]}
    used = {
        source["configMapRef"]["name"]
        for manifest in RAY
        for template in templates(manifest)
        for container in template["spec"]["containers"]
        for source in container["envFrom"]
    }
    assert used == made
    assert found["generatorOptions"]["disableNameSuffixHash"]  # custom resources are not rewritten


def test_the_application_that_is_deployed_is_the_one_of_the_files():
    service = next(manifest for manifest in RAY if manifest["kind"] == "RayService")
    deployed = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]
    shipped = yaml.safe_load((FOLDER.parents[1] / "serve_apps/configs/gpu.yaml").read_text())["applications"][0]
    assert deployed == shipped
