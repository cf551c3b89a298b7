# Every target that needs packages makes its own environment first: `make demo` and `make test`
# each work alone on a machine that has Python 3.11, git and make.
SHELL := /bin/sh
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
OUT ?= build/demo
PYTEST_ARGS ?=
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The stamps carry a checksum of what they stand for: contents, not times, say whether the
# environment is current, and a moved folder (whose scripts would point elsewhere) is not.
# A stamp is written last, so an interrupted installation is never taken for a whole one.
LOCK_KEY := $(shell { cat requirements.lock; echo '$(CURDIR)'; } | cksum | tr ' ' '-')
PROJECT_KEY := $(shell cksum < pyproject.toml | tr ' ' '-')
PACKAGES := $(VENV)/packages-$(LOCK_KEY).stamp
READY := $(VENV)/edgepress-$(LOCK_KEY)-$(PROJECT_KEY).stamp

.DELETE_ON_ERROR:
.PHONY: help env demo results test lint format bench bench-coding bench-int8 bench-channels web old boards vulkan arm lock clean

help:
	@echo 'make demo    train, compress, export and measure LeNet-5 on MNIST, into $(OUT)'
	@echo 'make results put the tables of recipes/results into the READMEs'
	@echo 'make test    run the tests (PYTEST_ARGS="-k name" chooses among them, WORKERS=1 in one process)'
	@echo 'make lint    check format, style and types'
	@echo 'make format  put the format right'
	@echo 'make bench   time the files in $(OUT) again (making them first where there are none)'
	@echo 'make bench-coding  k-means, coders, large nets, packed files, singular values against their peers (minutes)'
	@echo 'make bench-int8  int8 files against those of other tools (NET= WEIGHTS= DATA= TEST=)'
	@echo 'make bench-channels  channels removed against torch-pruning (NET= WEIGHTS= DATA=)'
	@echo 'make web     onnxruntime-web for the tests that run in it (needs Node and npm)'
	@echo 'make old     an old onnxruntime for the tests that run in it'
	@echo 'make boards  sshd, adb and small shells for the tests of boards, into build/ (needs apt-get)'
	@echo 'make vulkan  a software Vulkan for the tests of GPU engines, into build/ (needs apt-get)'
	@echo 'make arm     an emulated ARM userland for the tests that run in it, into build/ (needs apt-get)'
	@echo 'make lock    resolve the newest allowed versions into requirements.lock'
	@echo 'make clean   remove the environment, the outputs and the caches'

# --no-compile: byte code comes at first import, for the tenth of the files that are ever imported;
# compiling all of them here would take longer than the rest of the installation.
$(PACKAGES):
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo 'edgepress: $(PYTHON) was not found; install Python 3.11 or name one: make PYTHON=/path/to/python3.11' >&2; \
	  exit 2; }
	rm -rf $(VENV)
	'$(PYTHON)' -m venv $(VENV)
	$(PY) -m pip install --quiet --no-compile --requirement requirements.lock
	@touch $@

$(READY): $(PACKAGES)
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

env: $(READY)

demo: $(READY)
	$(VENV)/bin/edgepress run lenet5_deep_compression --out '$(OUT)' --overwrite

CONTAINERS := $(foreach method,deep-compression smallest rate,recipes/results/*.$(method).*.json)
INTEGERS := $(foreach which,*.int8-trained resnet*.int8 *-imagenet.int[48],recipes/results/$(which).*.json)
results: $(READY)
	$(VENV)/bin/edgepress table recipes/results/*.json --into recipes/results/README.md
	$(VENV)/bin/edgepress table $(wildcard recipes/results/lenet5.deep*.json recipes/results/*-imagenet.int8.*.json) --into README.md
	$(VENV)/bin/edgepress table --containers $(wildcard $(CONTAINERS)) --into README.md
	$(VENV)/bin/edgepress table --packed $(wildcard $(CONTAINERS)) --into README.md
	$(VENV)/bin/edgepress table --int8 $(wildcard $(INTEGERS)) --into README.md
	$(VENV)/bin/edgepress table --devices $(wildcard recipes/results/*.forms.*.json) --into README.md
	$(VENV)/bin/edgepress table --bench $(wildcard recipes/results/*.bench.*.jsonl) --into recipes/results/README.md

# torch's threads sleep instead of spinning: else other work on the cores slows them tenfold.
# A file at a time to each worker, for the nets that its tests share; one thread each.
test: export OMP_WAIT_POLICY ?= PASSIVE
test: export OMP_NUM_THREADS ?= 1
test: $(READY)
	$(PY) -m pytest -q --numprocesses $(WORKERS) --dist loadfile --durations=15 $(PYTEST_ARGS)

lint: $(READY)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright --pythonpath $(PY)

format: $(READY)
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(READY)
	@test -f '$(OUT)/report.json' || $(MAKE) demo
	$(VENV)/bin/edgepress bench '$(OUT)'/*.onnx '$(OUT)'/*.tflite

bench-coding: $(READY)
	for script in tests/benchmarks/[a-z]*.py; do \
	  grep -q __main__ "$$script" || continue; \
	  case "$$script" in */int8_*|*/channel_*) continue;; esac; echo "== $$script"; $(PY) "$$script" || exit 1; done

# Tools in interpreters of their own: EDGEPRESS_PYTHON_OF_NNCF=... (see tests/benchmarks/README.md).
NET ?= squeezenet
bench-int8: $(READY)
	@test -n '$(WEIGHTS)' -a -n '$(DATA)' -a -n '$(TEST)' || { \
	  echo 'edgepress: give WEIGHTS=, DATA= and TEST= of NET=$(NET)' >&2; exit 2; }
	$(PY) tests/benchmarks/int8_peers.py $(NET) --weights '$(WEIGHTS)' --data '$(DATA)' \
	  --test '$(TEST)' --out build/int8-peers

bench-channels: $(READY)
	@test -n '$(WEIGHTS)' -a -n '$(DATA)' || { \
	  echo 'edgepress: give WEIGHTS= and DATA= of NET=$(NET)' >&2; exit 2; }
	$(PY) tests/benchmarks/channel_tools.py $(NET) --weights '$(WEIGHTS)' --data '$(DATA)'

# The browser's runtime, into build/, for tests/targets/formats/test_onnx_web.py.
web:
	@command -v npm >/dev/null || { echo 'edgepress: npm was not found; install Node 20' >&2; exit 2; }
	npm install --no-fund --no-audit --prefix build/web onnxruntime-web@1.30.0

# The oldest onnxruntime with wheels for this Python, for tests/targets/formats/test_onnx_old.py.
old:
	'$(PYTHON)' -m venv build/old
	build/old/bin/python -m pip install --quiet 'onnxruntime==1.15.1' 'numpy<2'

# For tests/targets/devices: what a board runs and the adb client, unpacked and not installed. The
# stamp is written last, so a download that broke off is never taken for a whole one.
BOARD_PACKAGES := openssh-server libwrap0 busybox-static toybox mksh \
  adb android-libbase android-libboringssl android-libcutils android-liblog libusb-1.0-0
boards:
	@command -v apt-get >/dev/null && command -v dpkg >/dev/null || { \
	  echo 'edgepress: make boards needs the apt-get and dpkg of Debian 12' >&2; exit 2; }
	rm -rf build/boards && mkdir -p build/boards/packages
	cd build/boards/packages && apt-get -qq download $(BOARD_PACKAGES)
	for package in build/boards/packages/*.deb; do dpkg -x "$$package" build/boards/root || exit 1; done
	@touch build/boards/ready.stamp

# SwiftShader and a Vulkan loader out of Debian's chromium, for the tests of GPU engines: 32 MB
# fetched, 6 MB kept, nothing installed. Mesa's program of Debian 12 is too old for WebGPU.
VULKAN_FILES := libvk_swiftshader.so libvulkan.so.1 vk_swiftshader_icd.json
vulkan:
	@command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { \
	  echo 'edgepress: make vulkan needs the apt-get and dpkg of Debian 12' >&2; exit 2; }
	rm -rf build/vulkan && mkdir -p build/vulkan
	cd build/vulkan && apt-get -qq download chromium-common
	cd build/vulkan && dpkg-deb --fsys-tarfile chromium-common_*.deb > files.tar
	cd build/vulkan && tar -xf files.tar --strip-components=4 $(VULKAN_FILES:%=./usr/lib/chromium/%)
	rm build/vulkan/files.tar build/vulkan/*.deb
	@touch build/vulkan/ready.stamp

# An emulated ARM userland for tests/targets/devices/test_qemu.py, which takes it from here where
# `edgepress devices setup qemu` has made none for this user.
arm: $(READY)
	XDG_CACHE_HOME='$(CURDIR)/build/cache' $(VENV)/bin/edgepress devices setup qemu

# Needs no environment: it resolves afresh, so that nothing installed here sways the answer.
lock:
	'$(PYTHON)' .ci/lock.py requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find compress targets recipes tests -name __pycache__ -type d -prune -exec rm -rf {} +
