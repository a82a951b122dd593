"""Pure builders of manifests: plain dicts out, nothing read, nothing written."""
