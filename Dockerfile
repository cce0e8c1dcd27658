# The three images, each a program and nothing else: no shell is needed, nothing is written outside of
# volumes, and nobody is root. The programs are built outside, on a machine whose glibc is no newer than
# the base's or by Dockerfile.programs, and the folder they are in is the context; `make images` does it all. By hand:
#   cargo build --release && docker build -f Dockerfile --target sluice-publisher target/release
ARG BASE=debian:trixie-slim
FROM ${BASE} AS base
WORKDIR /
USER 65532:65532
STOPSIGNAL SIGTERM

FROM base AS sluice-publisher
COPY sluice-publisher /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/sluice-publisher"]
CMD ["serve"]

FROM base AS sluice-aggregator
COPY sluice-aggregator /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/sluice-aggregator"]
CMD ["run"]

FROM base AS sluice-operator
# One arena, and memory that is free goes back to the system: with one arena for each thread, an operator with a thousand
# resources held 14 MiB more than it used. It allocates too little for its threads to wait for each other.
ENV MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
COPY sluice-operator /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/sluice-operator"]
CMD ["run"]
