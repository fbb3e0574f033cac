# The image of Tollgate: the binary, the C library it stands on, and the system's certificate authorities. No shell.
#
#   docker buildx build --build-arg REVISION="$(git rev-parse HEAD)" --tag tollgate .
#   docker buildx build --platform linux/amd64,linux/arm64 …
#
# A release pins both bases by digest, and a mirror gives its own names: --build-arg RUST_IMAGE=… --build-arg RUNTIME_IMAGE=…
# `make prove-image` builds this file without a network and runs what comes out.

# Both are Debian 13: the binary is linked to the C library that it runs on.
ARG RUST_IMAGE=rust:1.95.0-slim-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

# --- the binary --------------------------------------------------------------------------------------------------------------

# On the builder's own processor, whatever the target: a compiler under emulation takes hours.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
WORKDIR /src

# The crypto library and the allocator are C, so that another processor needs a C compiler of its own. It comes over the network, and so does
# Rust's library for that processor; a build for the builder's own processor asks for crates alone.
ARG TARGETARCH
# hadolint ignore=DL3008
RUN set -eu; \
    native="$(dpkg --print-architecture)"; \
    case "${TARGETARCH:=$native}" in \
        amd64) processor=x86_64; compiler=gcc-x86-64-linux-gnu ;; \
        arm64) processor=aarch64; compiler=gcc-aarch64-linux-gnu ;; \
        *) echo "no build for $TARGETARCH: add its names here" >&2; exit 1 ;; \
    esac; \
    echo "$processor-unknown-linux-gnu" >/triple; \
    if [ "$TARGETARCH" != "$native" ]; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross"; \
        rm -rf /var/lib/apt/lists/*; \
        rustup target add "$(cat /triple)"; \
    fi
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc

# What C writes for __DATE__. The time of the image is the builder's matter: --build-arg SOURCE_DATE_EPOCH=…
ENV SOURCE_DATE_EPOCH=0

# The dependencies are a layer of their own, which a change of the sources leaves as it is.
COPY Cargo.toml Cargo.lock ./
RUN set -eu; \
    mkdir src; \
    echo 'fn main() {}' >src/main.rs; \
    touch src/lib.rs; \
    cargo build --locked --release --bin tollgate --target "$(cat /triple)"; \
    rm -r src

COPY src src
ARG REVISION=unknown
# Cargo compares times, and the sources are older than the stand-ins above.
RUN set -eu; \
    touch src/main.rs src/lib.rs; \
    TOLLGATE_REVISION="$REVISION" cargo build --locked --release --bin tollgate --target "$(cat /triple)"; \
    mkdir -p /out/empty; \
    cp "target/$(cat /triple)/release/tollgate" /out/; \
    touch --date=@0 /out/tollgate /out/empty

# --- the image ---------------------------------------------------------------------------------------------------------------

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Tollgate" \
      org.opencontainers.image.description="API keys, tokens, scopes, limits and exact per-user usage for anything behind Envoy, in one small binary." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"

COPY --from=build /out/tollgate /usr/local/bin/tollgate
# The only two places that are written to; the root may be read-only. They belong to the user below, and so does a new named volume that
# is mounted there. No VOLUME: counts in a volume without a name would be lost in silence.
COPY --from=build --chown=65532:65532 /out/empty /run/tollgate
COPY --from=build --chown=65532:65532 /out/empty /var/lib/tollgate

ENV TOLLGATE_CONFIG=/etc/tollgate/tollgate.yaml
WORKDIR /var/lib/tollgate
# By number: Kubernetes' runAsNonRoot does not read names.
USER 65532:65532
# Checks, health and metrics, the issuer.
EXPOSE 9191 9464 8080
# Drains and then ends with 0; give it 30 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/tollgate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["serve"]
