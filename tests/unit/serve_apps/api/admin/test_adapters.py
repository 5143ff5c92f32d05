def test_import_and_export_through_buckets(admin, s3_uri):
    target = f"{s3_uri}/out"
    exported = admin("POST", "/adapters/export", {"ref": "support@2", "destination": target})
    assert exported.json()["destination"] == target
    again = admin("POST", "/adapters/export", {"ref": "support@2", "destination": target})
    assert (again.status_code, again.json()["code"]) == (400, "invalid_input")
    imported = admin("POST", "/adapters/other/import", {"source": target})
    assert (imported.status_code, imported.json()["version"]) == (201, 1)
