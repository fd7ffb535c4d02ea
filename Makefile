# tidemill: the one build file. `make demo` and `make test` do all their own set-up.

B       ?= build
CC      ?= gcc
PREFIX  ?= /usr/local
VERSION := 0.1.0
PKGS    := lua5.4 libpq libcurl libssl libcrypto libisal libzstd zlib sqlite3 expat libedit \
           libmicrohttpd glib-2.0 jansson
WARN    := -Wall -Wextra -Wshadow -Wundef -Wwrite-strings -Wstrict-prototypes \
           -Wmissing-prototypes
CFLAGS  ?= -O2 -g
SAN     ?=

# One job a core, whatever the goal; but `make clean all` keeps its order.
ifeq ($(MAKELEVEL)$(filter clean,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

SETUP   := tests/setup
Q        = $(if $(V),,@echo '  $@';)# make V=1 shows the commands
DEFS     = -D_GNU_SOURCE -DTM_VERSION='"$(VERSION)"' -Iruntime \
           $(shell pkg-config --cflags $(PKGS))
LIBS     = $(shell pkg-config --libs $(PKGS)) -lcsv -lpthread -lm

SRC     := $(filter-out runtime/oss_fdw/%,$(wildcard runtime/*/*.c)) runtime/main.c
OBJ     := $(SRC:%.c=$(B)/%.o)
LUA     := $(shell find lua stdlib -name '*.lua' | LC_ALL=C sort)
CTEST   := $(patsubst tests/c/%.c,$(B)/ctest/%,$(wildcard tests/c/*_test.c))

.PHONY: all setup setup-test setup-demo setup-bench setup-fdw ctest test crash asan tsan lint format fuzz bench demo install \
        fdw install-fdw installcheck clean
all: $(B)/tidemill

# Before anything compiles; pkg-config is asked only after this (DEFS and LIBS are lazy).
setup: ; @$(SETUP) build
setup-test: setup ; @$(SETUP) demo fdw radosgw test
setup-demo: setup ; @$(SETUP) demo $(if $(FDW),fdw radosgw)
setup-bench: setup ; @$(SETUP) demo bench
setup-fdw: setup ; @$(SETUP) fdw

$(B)/tidemill: $(OBJ) $(B)/embedded.o
	$Q$(CC) $(CFLAGS) $(SAN) -o $@ $^ $(LIBS)

# The program that dies where a test says (runtime/base/crash.h): all its objects but one.
$(B)/crash/tidemill: $(filter-out %/crash.o,$(OBJ)) $(B)/crash/points.o $(B)/embedded.o
	$Q$(CC) $(CFLAGS) $(SAN) -o $@ $^ $(LIBS)

$(B)/crash/points.o: runtime/base/crash.c runtime/base/crash.h | setup
	@mkdir -p $(@D)
	$Q$(CC) -std=c11 $(WARN) $(DEFS) -DTM_CRASH_POINTS $(CFLAGS) $(SAN) -c -o $@ $<

$(B)/%.o: %.c | setup
	@mkdir -p $(@D)
	$Q$(CC) -std=c11 $(WARN) $(DEFS) $(CFLAGS) $(SAN) -MMD -MP -c -o $@ $<

# Lua files travel inside the binary: those of lua/ compiled, which a node's process loads three
# times as fast; those of stdlib/ as text, for the manual is made of it.
$(B)/embedded.c: $(LUA) Makefile | setup
	@mkdir -p $(@D)
	@{ n=0; for f in $(LUA); do \
	  case $$f in lua/*) luac5.4 -o $(B)/chunk $$f || { rm -f $@; exit 1; };; *) cp $$f $(B)/chunk;; esac; \
	  echo "static const unsigned char t$$n[] = {"; od -v -An -tx1 $(B)/chunk | sed 's/ \(..\)/0x\1,/g'; \
	  echo "0};"; n=$$((n+1)); done; \
	  echo "extern const struct embedded { const char *name; const unsigned char *text;"; \
	  echo "  unsigned size; } tm_embedded[];"; \
	  echo "const struct embedded tm_embedded[] = {"; n=0; for f in $(LUA); do \
	  echo "{\"$$f\", t$$n, sizeof t$$n - 1},"; n=$$((n+1)); done; echo "{0, 0, 0}};"; } > $@

$(B)/embedded.o: $(B)/embedded.c | setup
	$Q$(CC) -std=c11 $(CFLAGS) $(SAN) -c -o $@ $<

# C unit tests: each tests/c/*_test.c is a cmocka program on every object but main.
$(B)/ctest/%: tests/c/%.c $(filter-out %/main.o,$(OBJ)) $(B)/embedded.o | setup-test
	@mkdir -p $(@D)
	$Q$(CC) -std=c11 $(WARN) $(DEFS) $(CFLAGS) $(SAN) -o $@ $^ -lcmocka $(LIBS)

# A pure part of the extension is no object of the program: its test compiles it.
$(B)/ctest/errfile_test: runtime/oss_fdw/errfile.c

ctest: $(CTEST) $(B)/pty

# Tests of what people type run their program on a pseudo-terminal.
$(B)/pty: tests/support/pty.c | setup-test
	$Q$(CC) -std=c11 $(WARN) -D_GNU_SOURCE $(CFLAGS) $(SAN) -o $@ $< -lutil

# Fuzz targets, built by tests/fuzz/run with clang.
$(B)/%: tests/fuzz/%_fuzz.c $(filter-out %/main.o,$(OBJ)) $(B)/embedded.o
	$Q$(CC) -std=c11 $(WARN) $(DEFS) $(CFLAGS) $(SAN) -fsanitize=fuzzer -o $@ $^ $(LIBS)

test: setup-test all ctest fdw $(B)/crash/tidemill ; @tests/run $(B) $(T)
crash: setup-test all fdw $(B)/crash/tidemill ; @tests/crash $(B)
asan: ; @$(MAKE) test B=build/asan CFLAGS='-O1 -g' SAN='-fsanitize=address,undefined -fno-omit-frame-pointer'
tsan: ; @$(MAKE) test B=build/tsan CFLAGS='-O1 -g' SAN=-fsanitize=thread
lint: ; +@$(SETUP) build lint && tests/lint
fuzz: ; +@$(SETUP) build lint && tests/fuzz/run
bench: setup-bench all fdw ; @tests/bench/run $(B) $(T)
demo: setup-demo all $(if $(FDW),fdw) ; @tests/demo$(if $(FDW),_fdw) $(B)

format:
	clang-format -i $(shell find runtime tests -name '*.[ch]')

# The unit goes to PREFIX/lib/systemd/system, where systemd looks for /usr/local and /usr.
install: all
	install -Dm755 $(B)/tidemill $(DESTDIR)$(PREFIX)/bin/tidemill
	$(B)/tidemill help --man >$(B)/tidemill.1
	install -Dm644 $(B)/tidemill.1 $(DESTDIR)$(PREFIX)/share/man/man1/tidemill.1
	$(B)/tidemill completion bash >$(B)/tidemill.bash
	install -Dm644 $(B)/tidemill.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tidemill
	$(B)/tidemill completion zsh >$(B)/_tidemill
	install -Dm644 $(B)/_tidemill $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tidemill
	sed 's|@PREFIX@|$(PREFIX)|' share/tidemill@.service >$(B)/tidemill@.service
	install -Dm644 $(B)/tidemill@.service $(DESTDIR)$(PREFIX)/lib/systemd/system/tidemill@.service

# oss_fdw, for the PostgreSQL that PG_CONFIG names; with another than Debian's, SETUP=true.
PG_CONFIG ?= pg_config
FDW_MAKE = @mkdir -p $(B)/fdw && $(MAKE) $(if $(V),,-s) --no-print-directory -C $(B)/fdw -f $(CURDIR)/runtime/oss_fdw/Makefile \
      PG_CONFIG=$(PG_CONFIG) CC='$(CC)' TM_CFLAGS='$(CFLAGS) $(FDW_SAN)' TM_VERSION=$(VERSION)
FDW_SAN = $(if $(findstring thread,$(SAN)),,$(SAN))# a server without TSan cannot load it

fdw: setup-fdw ; +$(FDW_MAKE) all
install-fdw: setup-fdw ; +$(FDW_MAKE) all install

# The regression files of tests/fdw, on a server and a store of their own or on those of $TM_FDW.
installcheck: setup-test all fdw
	@TM_BUILD=$(abspath $(B)) TM_BIN=$(abspath $(B))/tidemill PG_CONFIG=$(PG_CONFIG) tests/fdw/run $(B)/fdw/check $(T)

clean:
	rm -rf --one-file-system build

-include $(OBJ:.o=.d)
