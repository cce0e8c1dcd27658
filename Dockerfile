# The images, each a program and nothing else: no shell is needed, nothing is written outside of volumes, and nobody
# is root. The context is the repository; the programs are built in the first stage, so that the machine needs Docker
# and no Rust:
#   docker build --target sluice-publisher .
# compose.yaml does the same for its services. BuildKit, Docker's default since 23.0, skips the stages that the wanted
# one does not need, and keeps what Cargo has downloaded and compiled. For another processor:
#   docker buildx build --platform linux/amd64,linux/arm64 --target sluice-publisher .
# compiles each platform by its own compiler, natively or emulated; nothing here depends on the processor.

# Both are Debian trixie, because a program needs the glibc that it was built with, or a newer one.
ARG RUST=rust:1.95-slim-trixie
ARG BASE=debian:trixie-slim

# begin of the programs: where they were built on the machine itself, scripts/prebuilt-dockerfile replaces this stage
FROM ${RUST} AS programs
WORKDIR /src
COPY . .
ARG PROFILE=release
ARG TARGETARCH
# RUSTUP_TOOLCHAIN: the compiler that the image has, and not a download of the one that rust-toolchain.toml names.
RUN --mount=type=cache,id=sluice-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=sluice-built,target=/built,sharing=locked \
    RUSTUP_TOOLCHAIN=${RUST_VERSION} cargo build --profile "${PROFILE}" --locked --target-dir "/built/${TARGETARCH}" \
      -p sluice-publisher -p sluice-aggregator -p sluice-operator \
 && mkdir -p /programs/data \
 && case ${PROFILE} in dev) folder=debug ;; *) folder=${PROFILE} ;; esac \
 && for program in sluice-publisher sluice-aggregator sluice-operator; do \
      strip -o "/programs/$program" "/built/${TARGETARCH}/$folder/$program" || exit 1; \
    done
# end of the programs

FROM ${BASE} AS base
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.vendor="The Sluice authors"
WORKDIR /
USER 65532:65532
STOPSIGNAL SIGTERM

FROM base AS sluice-publisher
LABEL org.opencontainers.image.title=sluice-publisher \
      org.opencontainers.image.description="Takes events by HTTP and appends them to the log"
COPY --from=programs /programs/sluice-publisher /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/sluice-publisher"]
CMD ["serve"]

FROM base AS sluice-aggregator
LABEL org.opencontainers.image.title=sluice-aggregator \
      org.opencontainers.image.description="Stores and counts each event of the log exactly once"
COPY --from=programs /programs/sluice-aggregator /usr/local/bin/
# An empty folder that the program may write to: a volume that is mounted there gets its owner. `standalone` needs it.
COPY --from=programs --chown=65532:65532 /programs/data /var/lib/sluice
ENTRYPOINT ["/usr/local/bin/sluice-aggregator"]
CMD ["run"]

FROM base AS sluice-operator
LABEL org.opencontainers.image.title=sluice-operator \
      org.opencontainers.image.description="Runs Sluice on Kubernetes"
# One arena, and memory that is free goes back to the system: with one arena for each thread, an operator with a thousand
# resources held 14 MiB more than it used. It allocates too little for its threads to wait for each other.
ENV MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
COPY --from=programs /programs/sluice-operator /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/sluice-operator"]
CMD ["run"]
