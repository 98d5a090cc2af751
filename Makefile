# Each target sets up what it needs; a second call finds it there.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo/$(shell date +%Y-%m-%d-%H%M%S)

TODAY := $(shell date +%Y-%m-%d)

.PHONY: demo test test-gpu bench-gpu test-pogema test-long check clean

# Train an agent that remembers and one that cannot, and see how far each walks; train a reader, and let it read a book.
demo: .venv/ready
	$(BIN)/recurra train tmaze --root $(DEMO)
	$(BIN)/recurra train tmaze --memory none --steps 100000 --root $(DEMO)/none
	$(BIN)/recurra eval $(DEMO)/tmaze/0 $(DEMO)/none/tmaze/0 --grid.corridor 10,32,100,1000,10000 --report $(DEMO)/report
	$(BIN)/recurra train byte-lm --steps 600000 --root $(DEMO)
	$(BIN)/recurra read text:shakespeare/macbeth --reader $(DEMO)/byte-lm/0 --continue 300
	@echo "next: open $(DEMO)/report/index.html, or $(BIN)/recurra eval $(DEMO)/tmaze/0 --env.corridor 100000 --episodes 20"

# Two test processes, tests of one file together; then the Triton kernels, interpreted, and compiled for GPUs.
test: .venv/ready
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow"
	TRITON_INTERPRET=1 $(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" tests/gpu
	$(BIN)/pytest -q -n 2 -m "not slow" tests/compiled

# The Triton kernels on a GPU, in bfloat16 and at large sizes, too.
test-gpu: .venv/ready
	$(BIN)/python -c 'import torch; torch.cuda.is_available() or exit("make test-gpu needs an NVIDIA GPU and a CUDA build of torch")'
	$(BIN)/pytest -q tests/gpu

# What they are worth there: operation by operation, and in whole trainings beside the chunked forms (steps per second).
bench-gpu: .venv/ready
	$(BIN)/recurra bench kernels --device cuda --out benchmarks/results/$(TODAY)-kernels-gpu.json
	$(BIN)/recurra bench mlp_memory --device cuda --heads 4 --out benchmarks/results/$(TODAY)-mlp-memory-gpu.json
	for backend in chunked triton; do for memory in gated_delta_net titans; do \
	  $(BIN)/recurra train byte-lm --device cuda --memory $$memory --memory_options.backend $$backend --steps 2000000 \
	    --held_out '[]' --best null --evaluation.every 0 --root runs/bench-gpu/$$backend-$$memory || exit; \
	  $(BIN)/recurra train tmaze --device cuda --memory $$memory --memory_options.backend $$backend --steps 100000 \
	    --root runs/bench-gpu/$$backend-$$memory || exit; done; done

# What has to do with gymnasium, beside pogema, which holds it at 0.28.1, the oldest that is supported, and numpy below 2;
# and the Triton kernels again, with the oldest triton that they are held to.
test-pogema: .venv-pogema/ready
	.venv-pogema/bin/pytest -q -n 2 --dist loadfile -m "not slow" $$(grep -lE 'gymnasium|recurra.(envs|agents|recipes)' tests/test_*.py)
	TRITON_INTERPRET=1 .venv-pogema/bin/pytest -q -n 2 --dist loadfile -m "not slow" tests/gpu
	.venv-pogema/bin/pytest -q -n 2 -m "not slow" tests/compiled

test-long: .venv/ready
	$(BIN)/pytest -q -n 2 --dist loadfile --hypothesis-profile exploring
	TRITON_INTERPRET=1 $(BIN)/pytest -q -n 2 tests/gpu
	$(BIN)/pytest -q -n 2 tests/compiled

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.types $(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .venv-pogema build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# torch first, at the version of constraints.txt: what is installed after it must not choose another.
.venv/ready: EXTRAS := dev
.venv-pogema/ready: EXTRAS := dev,pogema
.venv-pogema/ready: TRITON := triton==3.6.0
.venv/ready .venv-pogema/ready: INSTALL = $(@D)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt
.venv/ready .venv-pogema/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recurra needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(@D)
	$(INSTALL) torch
	$(INSTALL) -e '.[$(EXTRAS)]' $(TRITON)
	touch $@
