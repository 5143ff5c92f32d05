from serve_apps.app import FAR_ABOVE, app


def deployments(bound):
    """Return the deployments below an application, by name."""
    found, waiting = {}, [bound]
    while waiting:
        node = waiting.pop()
        deployment = node._bound_deployment
        found[deployment.name] = deployment
        waiting += [value for value in deployment.init_args if hasattr(value, "_bound_deployment")]
    return found


def test_the_parts_are_wired_and_serves_own_limits_lie_far_above_ours():
    found = deployments(app({"config": "app_local.yaml"}))
    assert set(found) == {"ingress", "llama", "retriever", "aliases"}
    assert found["ingress"].max_ongoing_requests == found["ingress"]._deployment_config.max_queued_requests == FAR_ABOVE
    assert found["llama"].max_ongoing_requests == FAR_ABOVE  # its engine lets wait and refuses
    values = found["ingress"].init_args[0]
    assert (values["ingress"]["max_ongoing_requests"], values["ingress"]["max_queued_requests"]) == (256, 256)


def test_without_an_index_there_is_no_retriever():
    assert "retriever" not in deployments(app({"config": "app_gpu.yaml"}))
