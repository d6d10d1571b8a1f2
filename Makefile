# Each target does its own set-up first; see `make help`. VIDEO, PYTHON and ARGS are the variables to pass.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The interpreter that .venv was made with, as long as it exists.
PYTHON ?= $(or $(wildcard $(shell cat .venv/base_python 2>/dev/null)),python3)
VIDEO ?=
ARGS ?=

# ROS 2, the generated messages and this source tree, without the caller having sourced anything.
IN_ENV := . .venv/ros_env.sh &&
POMATO := .venv/bin/pomato
# Every message field checked, nothing beyond this machine; test/conftest.py picks a ROS domain of its own.
TEST_ENV := ROS_PYTHON_CHECK_FIELDS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

.PHONY: help
help:  ## this list
	@echo "Usage: make TARGET [VIDEO=path] [ARGS='more options'] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-12s%s\n", $$1, $$2 }'

.PHONY: setup
setup:  ## create or update .venv, ROS 2 and the messages (seconds when nothing changed)
	@$(PYTHON) -m tools.setup

.PHONY: setup-tests
setup-tests:  ## the same, and the extras that only tests need all of (Ray, GTSAM, Rerun)
	@$(PYTHON) -m tools.setup --extras

.PHONY: demo
demo: setup  ## perceive the bundled clip, or VIDEO=file-or-folder, and leave the results in out/demo
	@$(POMATO) demo --out out/demo $(if $(VIDEO),--video "$(VIDEO)") $(ARGS)

.PHONY: test
test: setup-tests  ## run all tests, then the checks
	@$(IN_ENV) $(TEST_ENV) .venv/bin/python -m pytest --require-ros $(ARGS)
	@$(MAKE) --no-print-directory check

.PHONY: check
check: lint types layers  ## style, types and layers

.PHONY: lint
lint: setup  ## style and spelling
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet . || { echo "not formatted; run: make format"; exit 1; }
	@.venv/bin/codespell

.PHONY: types
types: setup  ## static types
	@.venv/bin/mypy

.PHONY: layers
layers: setup  ## which module may import which
	@.venv/bin/lint-imports --no-logo

.PHONY: format
format: setup  ## rewrite the sources in the house style
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

.PHONY: doctor
doctor:  ## what is there, what is missing, and the command that mends it
	@if [ -f .venv/ros_env.sh ]; then $(IN_ENV) .venv/bin/python -m pomato_ros.cli.doctor; \
	else $(PYTHON) -m pomato_ros.cli.doctor; fi

.PHONY: bench
bench: setup  ## time and memory of a step on this machine
	@$(POMATO) bench $(ARGS)

.PHONY: evaluate
evaluate: setup  ## the bundled weights against truth and baselines
	@$(POMATO) evaluate $(ARGS)

.PHONY: train
train: setup  ## train the bundled network again
	@$(POMATO) train --preset nano $(ARGS)

.PHONY: docs
docs: setup  ## the documentation as a site in site/, from this repository alone
	@.venv/bin/mkdocs build --strict --quiet --site-dir site
	@echo "site/index.html"

.PHONY: clean
clean:  ## remove everything that set-up and builds made
	rm -rf .venv build install log site .setup.lock *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
