"""The one package that touches the Kubernetes client library."""
