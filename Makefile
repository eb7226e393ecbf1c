# What developers do most. `make` lists it.
.DEFAULT_GOAL := help
.PHONY: help format check test coverage slow bench build

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

format: ## format the code, and fix what the linter can fix
	uv run ruff format
	uv run ruff check --fix

check: ## formatting, lint, import contracts, types (tests too): all that CI asks besides the tests
	uv run ruff format --check
	uv run ruff check
	uv run lint-imports
	uv run mypy

test: ## all tests but the slow ones, in several processes; name files for a part: make test ARGS=tests/cli/test_cli.py
	uv run pytest $(ARGS)

coverage: ## all tests but the slow ones, and which lines and branches they miss; it takes twice as long
	uv run pytest --cov --cov-report=term $(ARGS)

slow: ## endurance and full size: a quarter of an hour, on a machine that does nothing else
	uv run pytest -m slow

bench: ## how fast it is on this machine
	uv run crm bench --entities 20k

build: ## wheel and source distribution, into dist/
	uv build
