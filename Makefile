# The verbs of the project; `make` lists them.

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# PROVIDER=auto|kind|native, IMAGE=<name:tag>, BASE=<base image> are read from the environment.
.PHONY: image lock
image: ## Build the image when its inputs changed, and import it into the cluster if one runs (IMAGE=name:tag)
	@python3 hack/image build --load-if-up

lock: ## Write hack/requirements*.txt anew from pyproject.toml (needs uv; LOCK_FLAGS=--upgrade takes newer versions)
	uv pip compile --quiet $(UV_FLAGS) --output-file hack/requirements.txt pyproject.toml
	echo pip | uv pip compile --quiet $(UV_FLAGS) --output-file hack/requirements-build.txt -

UV_FLAGS = --python-version 3.11 --universal --generate-hashes --no-annotate --no-emit-index-url \
  --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS)
