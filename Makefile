# The front door. Meson does the building; every target sets up what it needs.
#
#   make            build                      make bench    measure against peers
#   make demo       measure this machine's     make fuzz     each fuzzer for FUZZ_TIME seconds
#                   paths, write report.html   make install  PREFIX=/usr/local, DESTDIR
#   make test       all tests, with sanitizers make lint     formatting and warnings
#   make soak       the long forms of tests    make clean

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_TIME ?= 60

MESON_FLAGS = --prefix=$(PREFIX)
SANITIZE_ADDRESS = -Db_sanitize=address,undefined -Db_lundef=false
SANITIZE_THREAD = -Db_sanitize=thread -Db_lundef=false

# Configure once; say why if it fails.
configure = test -f $(1)/build.ninja || $(2) meson setup $(1) $(3) >/dev/null || \
	{ tail -n 5 $(1)/meson-logs/meson-log.txt; exit 1; }

all: build

setup-%:
	@tools/setup $*

build: setup-build
	@$(call configure,build,,$(MESON_FLAGS))
	@ninja -C build --quiet

build-asan: setup-test
	@$(call configure,build-asan,,$(SANITIZE_ADDRESS))
	@ninja -C build-asan --quiet

build-tsan: setup-test
	@$(call configure,build-tsan,,$(SANITIZE_THREAD))
	@ninja -C build-tsan --quiet

build-fuzz: setup-fuzz
	@$(call configure,build-fuzz,CC=clang,-Dfuzz=true)
	@ninja -C build-fuzz --quiet

demo: setup-bench build
	build/ashlar bench --report report.html --json report.json
	@echo "open report.html in a browser"

test: setup-test build build-asan build-tsan build-fuzz
	@tests/run build build-asan build-tsan build-fuzz

soak: setup-test build build-asan build-tsan build-fuzz
	@SOAK=1 tests/run build build-asan build-tsan build-fuzz
	@tests/fuzz/run build-fuzz 600

bench: setup-bench build
	@ASHLAR=build/ashlar tests/bench/run

fuzz: build-fuzz
	@tests/fuzz/run build-fuzz $(FUZZ_TIME)

lint: setup-test build
	@tools/lint

install: build
	@meson configure build -Dprefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C build --quiet

clean:
	rm -rf build build-asan build-tsan build-fuzz report.html report.json

.PHONY: all build build-asan build-tsan build-fuzz demo test soak bench fuzz lint install clean
