# criu-lazy: set-up, tests, demo, benchmark. Everything installs what it needs on a Debian 12 or 13 machine, as root.
#
#   make demo    two hosts on this machine, a container with Redis under load, one live migration, every key checked
#   make test    all tests: lint, types, unit, C programs with sanitizers, real migrations between two hosts (WORKERS=4)
#   make test-unit   those that need neither root nor a testbed; like `make lint`, it installs no Debian package
#   make test-criu CRIU=4.1   of all tests those that run once with each version of CRIU, with this one
#   make aarch64 the C programs of tests/c for aarch64, emulated (qemu-user): those that need no userfaultfd
#   make deb     the Debian package, for the Debian that this is, into dist/
#   make wheels  wheels for other systems, and the source archive, into dist/ (cibuildwheel; it needs docker)
#   make docs    the documentation as a site, into build/site; a link that leads nowhere is an error
#   make crash-matrix   every fault in every state of a migration; the table goes into docs/reliability.md
#   make soak N=200     so many migrations, each with a random fault (SEED=... repeats one)
#   make moves   a busy service moves twenty times (MOVES=..., RATE=new connections a second); what its clients saw
#   make container-moves   a Redis in a container moves back and forth fifty times, by each engine (MOVES=... ENGINES='runc podman-crun')
#   make evacuations   21 containers of three engines to two hosts, one of which fails; the driver is killed twice (CONTAINERS=...); pods
#   make bench   stock criu and criu-lazy side by side (CASES=... REPEATS=... OPTIONS='--push 2' are passed on)
#   make bench-programs   the same with Redis, SQLite, Python and a JVM as the tasks
#   make bench-costs   how long the engine's lock is held for a task of 64 GiB, of 1 TiB, of 60,000 areas

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := criu_lazy_ext/_engine.abi3.so
# What a fresh machine lacks; the testbed fetches its own tools.
PACKAGES := gcc libc6-dev python3-dev python3-venv libssl-dev liblz4-dev libxxhash-dev libzstd-dev pkg-config spin

.NOTPARALLEL:
.PHONY: demo test test-unit test-criu aarch64 lint deb wheels docs crash-matrix soak moves container-moves evacuations bench bench-programs bench-costs setup packages build clean

demo: setup
	$(BIN)/python -m demo

# Several workers, each with one file at a time: many tests wait more than they compute, so twice as many as CPUs of a
# small machine. For one test: .venv/bin/pytest tests/system/test_x.py::test_y
test: setup lint
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),4) --dist loadfile --no-loadscope-reorder -v --durations 30

test-unit: build
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),2) tests/unit

test-criu: setup
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),2) --dist loadfile -k '$(or $(CRIU),4.2)' tests/system

aarch64: setup
	CRIU_LAZY_AARCH64=1 $(BIN)/python -m pytest -n0 -q -rs tests/c

lint: build
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/check_includes.py
	$(BIN)/clang-format --dry-run --Werror c_src/*.h c_src/*/*.[ch] tests/c/*.[ch]

# Built from a copy of what git has, or would take, as building leaves files beside the sources and above them.
deb:
	rm -rf build/deb && mkdir -p build/deb/criu-lazy dist
	git ls-files -z --cached --others --exclude-standard | tar --create --null --ignore-failed-read --files-from=- \
		| tar --extract --directory build/deb/criu-lazy
	cd build/deb/criu-lazy && { dpkg-checkbuilddeps 2>/dev/null || { apt-get update -qq; export DEBIAN_FRONTEND=noninteractive; \
		apt-get install -y -qq --no-install-recommends dpkg-dev build-essential >/dev/null \
		&& apt-get build-dep -y -qq --no-install-recommends . >/dev/null; }; } && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -us -uc -b  # Debian's Python, whichever comes first here
	mv build/deb/criu-lazy*.deb build/deb/*.buildinfo build/deb/*.changes dist/
	@echo "built for this Debian; on both hosts: apt install ./$$(ls -t dist/criu-lazy_*.deb | head -n 1)"

# What these two run has an environment of its own: no test needs it.
TOOLS := build/tools/bin
tools = { test -x $(TOOLS)/python || $(PYTHON) -m venv build/tools; } \
	&& $(TOOLS)/python -m pip install -q --disable-pip-version-check $(1)

wheels:
	$(call tools,build cibuildwheel)
	$(TOOLS)/python -m build --sdist --outdir dist
	$(TOOLS)/cibuildwheel --platform linux --output-dir dist

docs:
	$(call tools,mkdocs-material)
	rm -rf build/pages build/site && mkdir -p build/pages
	cp -r README.md CONTRIBUTING.md CHANGELOG.md LICENSE ansible docs configs build/pages
	NO_MKDOCS_2_WARNING=1 $(TOOLS)/mkdocs build --strict  # --quiet would have it count no warnings

# TESTBEDS=... pairs of hosts work side by side.
MATRIX := PYTHONPATH=. $(BIN)/python tests/support/crash_matrix.py --testbeds $(or $(TESTBEDS),2) \
	$(if $(SEED),--seed $(SEED)) --into docs/reliability.md

crash-matrix: setup
	$(MATRIX)

soak: setup
	$(MATRIX) --soak $(or $(N),200)

# Twenty moves of a forking server with 40 long connections and 500 new ones a second; what its clients saw.
moves: setup
	CRIU_LAZY_MOVES=$(or $(MOVES),20) CRIU_LAZY_MOVES_RATE=$(or $(RATE),500) $(BIN)/python -m pytest -n0 -s \
		tests/system/test_service_network.py -k there_and_back

# Fifty moves by each engine, of a Redis with one busy connection: what its client saw beside what was reported.
container-moves: setup
	CRIU_LAZY_CONTAINER_MOVES=$(or $(MOVES),50) CRIU_LAZY_CONTAINER_ENGINES='$(or $(ENGINES),runc crun podman-runc podman-crun)' \
		$(BIN)/python -m pytest -n0 -s tests/system/test_migrate_container.py -k redis_moves

evacuations: setup
	CRIU_LAZY_EVACUATE_CONTAINERS=$(or $(CONTAINERS),21) CRIU_LAZY_EVACUATE_PODS=10 $(BIN)/python -m pytest -n0 -s \
		tests/system/test_evacuate_containers.py tests/system/test_evacuate_pods.py

bench: setup
	$(BIN)/criu-lazy bench $(if $(CASES),--cases '$(CASES)') $(if $(REPEATS),--repeats $(REPEATS)) $(if $(JSON),--json $(JSON)) $(OPTIONS)

bench-costs: | packages
	mkdir -p build
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -pthread -Ic_src -Itests/c -o build/costs bench/costs.c c_src/images/image.c \
		$(addprefix c_src/base/,deadline.c io.c shared_bits.c) $(addprefix c_src/destination/,address_space.c fork_advice.c missing_map.c regions.c resume_state.c undo_log.c) -lm
	build/costs 64 60000
	build/costs 1024 60000

bench-programs:
	$(MAKE) bench CASES='programs/*'

setup: packages build

packages:
	@missing=$$(dpkg-query -W -f '$${Package} $${Status}\n' $(PACKAGES) 2>/dev/null | awk '/install ok installed/{print $$1}' \
		| sort > /tmp/criu-lazy-have.$$$$; printf '%s\n' $(PACKAGES) | sort | comm -13 /tmp/criu-lazy-have.$$$$ -; \
		rm -f /tmp/criu-lazy-have.$$$$); \
	if [ -n "$$missing" ]; then echo "installing" $$missing; apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

build: $(VENV)/.done $(ENGINE)

# The C engine is built into the checkout (an editable install), so that tests see the sources as they are.
$(VENV)/.done: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=66' wheel 'cffi>=1.15'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[test]'
	touch $@

$(ENGINE): setup.py criu_lazy_ext/_engine_build.py $(wildcard c_src/*.h c_src/*/*.[ch]) | $(VENV)/.done
	$(BIN)/python -W ignore setup.py -q build_ext --inplace
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info criu_lazy_ext/_engine.c criu_lazy_ext/_engine*.so
