"""The only package that knows the Kubernetes client library and urllib3."""
