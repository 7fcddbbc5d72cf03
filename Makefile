# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer; each sets up .venv
# at its first use. Nothing is written outside this folder but caches that can be deleted.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# One process uses one core; experiments run several processes instead.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= agg

.PHONY: demo test quick test-slow leaderboard docs notebooks lint format clean

demo: $(READY)
	@echo "demo: 12 agents recommend to the same 2 x 200 users whose interests drift; 2 of them learn by"
	@echo "reinforcement. About 3 minutes on two cores, 2 GB of memory, a page of 2 MB in runs/demo."
	$(BIN)/python -m experiments benchmark --preset quick --jobs 2 --output runs/demo --overwrite
	$(BIN)/python -m experiments report runs/demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" -rs

# A minute, for every edit: pure functions, and users, responses and observations of a small world.
quick: $(READY)
	$(BIN)/python -m pytest -m "not slow" tests/test_config.py tests/test_metrics.py tests/simulation/test_noise.py \
		tests/simulation/test_users.py tests/simulation/test_response.py tests/interface/test_history.py \
		tests/interface/test_observation.py tests/interface/test_rewards.py tests/experiments/statistics

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -rs

# The leaderboard of the repository; killed, it goes on where it was.
leaderboard: $(READY)
	$(BIN)/python -m experiments benchmark --preset standard --jobs 2 --output results/standard --resume
	$(BIN)/python -m experiments report results/standard

# The pages of docs/ as a site that is read from the disk; a warning, as of a broken link, is an error.
docs: $(READY) .venv/.teaching
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html in a browser"

notebooks: $(READY) .venv/.teaching
	$(BIN)/jupytext --to ipynb docs/notebooks/*.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	@echo "installing into .venv, once: 0.7 GB to download, 2.6 GB on disk, 2 to 5 minutes ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $(READY)

.venv/.teaching: $(READY)
	@echo "installing what makes the site and notebooks, once ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,notebooks]"
	touch .venv/.teaching

clean:
	rm -rf .venv runs site .pytest_cache .ruff_cache .import_linter_cache
