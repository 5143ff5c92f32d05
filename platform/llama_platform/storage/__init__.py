"""Bytes under a URI: `file://` or `s3://`, with conditional writes."""
