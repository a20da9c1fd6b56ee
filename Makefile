# The README explains each command. TORCH_INDEX=... takes torch from another index, PYTHON=... names the interpreter.
.PHONY: rehearse test lab check notebooks clean setup
PY := .venv/bin/python

setup:      ; @.ci/setup
rehearse:   setup ; @$(PY) -m opml rehearse
test:       setup ; @$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
lab:        setup ; @$(PY) -m opml local run -- $(PY) -m jupyterlab --notebook-dir=notebooks
notebooks:  setup ; @$(PY) -m opml rehearse --commit
check:      setup ; @.venv/bin/ruff check . && .venv/bin/lint-imports
clean:      ; rm -rf .venv .venv.lock runs *.egg-info
