# Everything is built and tested with Go alone. Generated code is committed: `make generate` is for who changes a .proto.
GO ?= go
VERSION ?= devel
LDFLAGS := -X github.com/coord-dev/coord/coord.version=$(VERSION)

# Packages with goroutines of their own, under the race detector. The tests left out drive other processes or all of etcd.
RACE = $$($(GO) list ./coord/... ./recipes/... ./client/... ./statemachine/... | grep -v -e /crashtest -e /difftest)

.PHONY: build demo fencing-demo examples cluster test race lint fuzz generate bench diff

build:
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/coordd ./cmd/coordd
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/coordctl ./cmd/coordctl

demo: build
	docs/demo.sh

# Why a lock alone does not protect a file, and that a fencing token does.
fencing-demo:
	$(GO) run ./docs/fencing

# The programs below docs/examples, with a real member, PostgreSQL (apt-get install postgresql), and processes that are killed.
examples:
	$(GO) test -count=1 -v -run '^TestExample' ./docs

cluster: build
	docs/cluster.sh

test:
	$(GO) test -timeout 25m ./...

race:
	$(GO) test -race -short -timeout 25m $(RACE)

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

# Each target for a while: make fuzz FUZZTIME=1m. A package's tests are compiled once, with the fuzzer's counters.
FUZZTIME ?= 10s
fuzz:
	@mkdir -p bin/fuzz
	@for pkg in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n 1 dirname | sort -u); do \
		$(GO) test -c -fuzz=. -o bin/fuzz/tests ./$$pkg || exit 1; \
		for target in $$(cd $$pkg && $(CURDIR)/bin/fuzz/tests -test.list '^Fuzz' | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			(cd $$pkg && $(CURDIR)/bin/fuzz/tests -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzcachedir $(CURDIR)/bin/fuzz/cache) || exit 1; \
		done; \
	done

# Needs protoc (Debian: protobuf-compiler); the plugins are built at the versions named here.
generate:
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	PATH="$(CURDIR)/bin:$$PATH" protoc -I proto --go_out=proto --go_opt=paths=source_relative \
		--go-grpc_out=proto --go-grpc_opt=paths=source_relative $$(cd proto && git ls-files '*.proto')

# make bench BENCHFLAGS='-short'; bin/bench -h says what there is to choose.
bench: build
	$(GO) build -o bin/bench ./bench
	bin/bench $(BENCHFLAGS)

# A longer run of the differential test against etcd: make diff SEQUENCES=100000 [SEED=1]
SEQUENCES ?= 20000
diff:
	COORD_DIFF_SEQUENCES=$(SEQUENCES) COORD_DIFF_SEED=$(SEED) $(GO) test -timeout 0 -count=1 -v -run Differential ./coord/difftest
